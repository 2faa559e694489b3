"""Which rules may match, found in one pass over the bytes: the strongest literal of every rule in one multi-pattern scan.

What it owns
    The databases and the scratch memory of one process for one rule set; freed with the ScannerHold.

Layout
    The image holds a serialized libhs database (Hyperscan, or Vectorscan on other machines) for each view that rules have
    literals in and each kind of traffic (enum Traffic), with the literals of the rules that can match there: an answer's
    bytes are not searched for what stands in requests, nor TCP for what stands in UDP. Kinds with the same literals share
    one. A literal's number in its database is its place in the scan's run of scan patterns; a scan pattern is a run of rule
    numbers:

        hit (scan, n) ─▶ scan_patterns[scans[scan].first_pattern + n] ─▶ scan_rules[first .. first + count]

Invariants
    A literal is reported at most once a scan (HS_FLAG_SINGLEMATCH). Its presence is necessary for its rules, never
    sufficient: where it stands, and all the rest, is inspect.pyx's to check. Case is folded as ASCII.

Who may write what
    The scratch memory: its process, one scan at a time.

What happens when full or broken
    A database that libhs does not take (damaged, or made for another processor) raises SharedMemoryError at bind, and the
    old rule set stays. Candidates that find no room are counted by their list.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memset

from tigerfox.dataplane.candidates cimport Candidates, candidates_add, candidates_clear, candidates_sort
from tigerfox.dataplane.image cimport BUF_COUNT, TRAFFIC_COUNT, CompiledRules, RuleSet, Scan, ScanPattern

from tigerfox.errors import SharedMemoryError

cdef extern from "hs.h" nogil:
    ctypedef struct hs_database_t:
        pass
    ctypedef struct hs_scratch_t:
        pass
    ctypedef struct hs_compile_error_t:
        char *message
        int expression
    ctypedef struct hs_platform_info_t:
        unsigned int tune
        unsigned long long cpu_features
        unsigned long long reserved1
        unsigned long long reserved2
    ctypedef int (*match_event_handler)(unsigned int id, unsigned long long start, unsigned long long end, unsigned int flags,
                                        void *context) noexcept nogil
    int hs_compile_lit_multi(const char *const *expressions, const unsigned *flags, const unsigned *ids, const size_t *lens,
                             unsigned elements, unsigned mode, const hs_platform_info_t *platform, hs_database_t **db,
                             hs_compile_error_t **error)
    int hs_free_compile_error(hs_compile_error_t *error)
    int hs_serialize_database(const hs_database_t *db, char **data, size_t *length)
    int hs_deserialize_database(const char *data, size_t length, hs_database_t **db)
    int hs_free_database(hs_database_t *db)
    int hs_alloc_scratch(const hs_database_t *db, hs_scratch_t **scratch)
    int hs_free_scratch(hs_scratch_t *scratch)
    int hs_scan(const hs_database_t *db, const char *data, unsigned int length, unsigned int flags, hs_scratch_t *scratch,
                match_event_handler on_event, void *context)
    int hs_populate_platform(hs_platform_info_t *platform)
    const char *hs_version()
    int HS_SUCCESS, HS_MODE_BLOCK, HS_FLAG_CASELESS, HS_FLAG_SINGLEMATCH

cdef struct Hits:                # what the callback of one scan needs
    const RuleSet *rules
    const Scan *scan
    Candidates *out


cdef int scan_hit(unsigned int number, unsigned long long start, unsigned long long end, unsigned int flags,
                  void *context) noexcept nogil:
    cdef Hits *hits = <Hits *>context
    cdef const ScanPattern *pattern
    cdef uint32_t i
    if number >= hits.scan.pattern_count:
        return 0
    pattern = &hits.rules.scan_patterns[hits.scan.first_pattern + number]
    for i in range(pattern.first, pattern.first + pattern.count):
        candidates_add(hits.out, hits.rules.scan_rules[i])
    return 0


cdef inline bint scan_futile(const Scan *scan, const uint8_t *data, uint32_t n) noexcept nogil:
    """Whether the bytes lack all of those that a literal would bring: memchr is cheaper than a scan."""
    cdef uint32_t i
    for i in range(scan.needed_count):
        if memchr(data, scan.needed[i], n) != NULL:
            return False
    return scan.needed_count != 0


cdef void scan_hits(const Scanners *s, const RuleSet *rs, uint32_t scan, const uint8_t *data, uint32_t n,
                    Candidates *out) noexcept nogil:
    cdef Hits hits
    hits.rules, hits.scan, hits.out = rs, &rs.scans[scan], out
    hs_scan(<hs_database_t *>s.databases[scan], <const char *>data, n, 0, <hs_scratch_t *>s.scratch, scan_hit, &hits)


cdef void scan_run(const Scanners *s, const RuleSet *rs, uint32_t scan, const uint8_t *data, uint32_t n,
                   Candidates *out) noexcept nogil:
    if not scan_futile(&rs.scans[scan], data, n):
        scan_hits(s, rs, scan, data, n, out)


# Public API


cdef class ScannerHold:
    """``ScannerHold(CompiledRules)``: the databases of an image, ready to scan. Raises SharedMemoryError, MemoryError."""

    def __cinit__(self, CompiledRules compiled not None):
        memset(&self.scanners, 0, sizeof(Scanners))
        self.rules = compiled
        cdef uint32_t scan, count = compiled.rules.view_count * TRAFFIC_COUNT
        self.scanners.databases = <void **>calloc(count + 1, sizeof(void *))
        if self.scanners.databases == NULL:
            raise MemoryError
        self.scanners.scan_count = count
        for scan in range(count):
            if compiled.rules.scans[scan].length:
                self.scanners.databases[scan] = self.shared(scan)
                if self.scanners.databases[scan] == NULL:
                    self.scanners.databases[scan] = database_of(compiled, scan)
                    scratch_for(&self.scanners, scan)

    cdef void *shared(self, uint32_t scan) noexcept:
        """The database of a scan before it in the same view whose bytes are the same, or NULL."""
        cdef const Scan *scans = self.rules.rules.scans
        cdef uint32_t other
        for other in range(scan - scan % TRAFFIC_COUNT, scan):
            if scans[other].length and scans[other].database == scans[scan].database:
                return self.scanners.databases[other]
        return NULL

    def __dealloc__(self):
        cdef uint32_t scan
        for scan in range(self.scanners.scan_count):
            if self.scanners.databases[scan] != NULL and self.shared(scan) == NULL:
                hs_free_database(<hs_database_t *>self.scanners.databases[scan])
        free(self.scanners.databases)
        if self.scanners.scratch != NULL:
            hs_free_scratch(<hs_scratch_t *>self.scanners.scratch)


cdef void *database_of(CompiledRules compiled, uint32_t number) except NULL:
    cdef const Scan *scan = &compiled.rules.scans[number]
    cdef hs_database_t *database = NULL
    cdef int failed = hs_deserialize_database(<const char *>compiled.rules.databases + scan.database, scan.length, &database)
    if failed != HS_SUCCESS:
        raise SharedMemoryError(f"the rule set's scan databases do not fit this machine or are damaged (libhs says {failed}). "
                                "Compile the rules again (tigerfox reload).")
    return database


cdef int scratch_for(Scanners *s, uint32_t scan) except -1:
    cdef hs_scratch_t *scratch = <hs_scratch_t *>s.scratch
    if hs_alloc_scratch(<hs_database_t *>s.databases[scan], &scratch) != HS_SUCCESS:
        raise MemoryError("no memory for the scans of the rule set")
    s.scratch = scratch
    return 0


def compile_database(literals):
    """Return the serialized database of ``literals``, pairs of bytes and whether case does not count.

    The place of a literal is its number. Raises ValueError where libhs refuses them.
    """
    cdef size_t count = len(literals), i, length = 0
    cdef hs_database_t *database = NULL
    cdef hs_compile_error_t *error = NULL
    cdef char *data = NULL
    cdef const char **texts = <const char **>malloc(count * sizeof(char *))
    cdef unsigned *flags = <unsigned *>malloc(count * sizeof(unsigned))
    cdef unsigned *numbers = <unsigned *>malloc(count * sizeof(unsigned))
    cdef size_t *lengths = <size_t *>malloc(count * sizeof(size_t))
    try:
        if texts == NULL or flags == NULL or numbers == NULL or lengths == NULL:
            raise MemoryError
        for i in range(count):
            literal, nocase = literals[i]
            if not literal:
                raise ValueError("libhs refuses the literals: one is empty")
            texts[i], lengths[i], numbers[i] = literal, len(literal), i
            flags[i] = HS_FLAG_SINGLEMATCH | (HS_FLAG_CASELESS if nocase else 0)
        if hs_compile_lit_multi(texts, flags, numbers, lengths, count, HS_MODE_BLOCK, NULL, &database, &error) != HS_SUCCESS:
            message = error.message.decode("ascii", "replace") if error != NULL else "no memory"
            raise ValueError(f"libhs refuses the literals: {message}")
        if hs_serialize_database(database, &data, &length) != HS_SUCCESS:
            raise MemoryError
        return data[:length]
    finally:
        free(texts)
        free(flags)
        free(numbers)
        free(lengths)
        free(data)
        if database != NULL:
            hs_free_database(database)
        if error != NULL:
            hs_free_compile_error(error)


def library():
    """Return what a database depends on besides its literals: the version of libhs, and the processor it is made for."""
    cdef hs_platform_info_t platform
    memset(&platform, 0, sizeof(platform))
    hs_populate_platform(&platform)
    return f"{hs_version().decode()} {platform.tune} {platform.cpu_features:x}"


def candidates(ScannerHold hold not None, CompiledRules compiled not None, int buffer, const uint8_t[::1] data, traffic=None):
    """Return the rule numbers whose literal is in ``data``, the bytes of BufferId ``buffer``, in views without transforms.

    ``traffic`` is a pair: the IP protocol, and the side, 0 to the server and 1 to the client; None: all there are.
    """
    cdef Candidates found
    cdef uint32_t view
    kinds = range(TRAFFIC_COUNT) if traffic is None else [traffic_of(traffic[0], traffic[1])]
    cdef const uint8_t *start = &data[0] if data.shape[0] else <const uint8_t *>b""
    if not 0 <= buffer < <int>BUF_COUNT or hold.rules is not compiled:
        raise ValueError("no such buffer, or the hold of another rule set")
    candidates_clear(&found)
    for view in range(compiled.rules.view_first[buffer], compiled.rules.view_first[buffer + 1]):
        if compiled.rules.views[view].transform[0] == 0:
            for kind in kinds:
                scan_view(&hold.scanners, &compiled.rules, view, kind, start, data.shape[0], &found)
    candidates_sort(&found)
    return [found.rules[i] for i in range(found.count)]
