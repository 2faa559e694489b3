"""Many entries at once: the text form of the block table, copies between tables, packed look-ups and inserts."""

# What it owns
#   Nothing; it works on the tables of blocks.pyx.
#
# Layout: one entry a line, words separated by blanks, `#` starts a comment
#     source 192.0.2.7 expires=1790000000 sid=0
#     destination 2001:db8::7
#     pair 192.0.2.7 198.51.100.1 expires=never
#     connection tcp 192.0.2.7 49152 198.51.100.1 443 expires=1790000000 sid=2024 since=1789990000
#     192.0.2.9                               (a bare address: source)
#   expires and since are Unix seconds; without expires the caller's default holds. Unknown names are refused.
#
# Invariants
#   A line is an entry, a comment, or an error with its number: none is passed over in silence.
#   Reading and inserting are one function, so a checked file inserts exactly what was checked.
#
# Who may write what
#   Only the table given, through blocks_put.
#
# What happens when full or broken
#   Errors carry line number and code, at most as many as the caller has room for; the rest is counted.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

from tigerfox.dataplane.blockentry cimport (BLOCK_KEY, BLOCK_NEVER, BlockAsk, BlockEntry, BlockScope, BlockTable, SCOPE_CONNECTION,
                                            SCOPE_DESTINATION, SCOPE_NONE, SCOPE_PAIR, SCOPE_SOURCE, entry_word, key_fill,
                                            word_live)
from tigerfox.dataplane.blocks cimport (Blocks, blocks_answer, blocks_ask, blocks_insert, blocks_lookup, blocks_near, blocks_put,
                                        blocks_read)
from tigerfox.dataplane.packet cimport FlowTuple
from tigerfox.dataplane.reason cimport R_NONE

import time

from tigerfox.dataplane.blocks import SCOPES

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char *text, void *address) noexcept
    enum: AF_INET
    enum: AF_INET6

cdef enum:
    LOOKUP_BATCH = 64
    ADDRESS_MAX = 45             # of an IPv6 address as text

cdef enum LineError:
    LINE_GOOD = 0
    LINE_EMPTY = 1               # blank or comment
    LINE_ADDRESS
    LINE_PREFIX
    LINE_MISSING                 # fewer addresses than the scope needs
    LINE_MIXED                   # one IPv4, one IPv6
    LINE_PROTOCOL
    LINE_PORT
    LINE_OPTION
    LINE_NUMBER

cdef struct Text:
    const char *pos
    const char *end

cdef struct Word:
    const char *text
    size_t length


# Reading one line

cdef inline bint _blank(char c) noexcept nogil:
    return c == 32 or c == 9 or c == 13


cdef bint _word(Text *line, Word *word) noexcept nogil:
    """The next word of a line; False at its end or at a comment."""
    while line.pos < line.end and _blank(line.pos[0]):
        line.pos += 1
    word.text = line.pos
    while line.pos < line.end and not _blank(line.pos[0]) and line.pos[0] != 35:
        line.pos += 1
    word.length = line.pos - word.text
    return word.length > 0


cdef inline bint _is(const Word *word, const char *text, size_t length) noexcept nogil:
    return word.length == length and memcmp(word.text, text, length) == 0


cdef bint _number(const char *text, size_t length, uint64_t most, uint32_t *number) noexcept nogil:
    cdef uint64_t n = 0
    cdef size_t i
    if length == 0 or length > 10:
        return False
    for i in range(length):
        if not 48 <= text[i] <= 57:
            return False
        n = n * 10 + <uint64_t>(text[i] - 48)
    number[0] = <uint32_t>n
    return n <= most


cdef int _address(const Word *word, uint8_t *sixteen, uint8_t *version) noexcept nogil:
    cdef char text[ADDRESS_MAX + 1]
    memset(sixteen, 0, 16)
    if word.length > ADDRESS_MAX or memchr(word.text, 0, word.length) != NULL:
        return LINE_ADDRESS
    memcpy(text, word.text, word.length)
    text[word.length] = 0
    version[0] = 6 if memchr(text, 58, word.length) != NULL else 4
    if inet_pton(AF_INET6 if version[0] == 6 else AF_INET, text, sixteen) == 1:
        return LINE_GOOD
    return LINE_PREFIX if memchr(text, 47, word.length) != NULL else LINE_ADDRESS


cdef int _scope(const Word *word) noexcept nogil:
    if _is(word, b"source", 6):
        return SCOPE_SOURCE
    if _is(word, b"destination", 11):
        return SCOPE_DESTINATION
    if _is(word, b"pair", 4):
        return SCOPE_PAIR
    if _is(word, b"connection", 10):
        return SCOPE_CONNECTION
    return SCOPE_NONE


cdef int _protocol(Text *line, FlowTuple *flow) noexcept nogil:
    cdef Word word
    cdef uint32_t number
    if not _word(line, &word):
        return LINE_MISSING
    if _is(&word, b"tcp", 3):
        flow.proto = 6
    elif _is(&word, b"udp", 3):
        flow.proto = 17
    elif _is(&word, b"sctp", 4):
        flow.proto = 132
    elif _number(word.text, word.length, 255, &number):
        flow.proto = <uint8_t>number
    else:
        return LINE_PROTOCOL
    return LINE_GOOD


cdef int _end(Text *line, bint port, uint8_t *address, uint8_t *version, uint16_t *number) noexcept nogil:
    """An address, and a port where the scope has ports."""
    cdef Word word
    cdef uint32_t n
    cdef int error
    if not _word(line, &word):
        return LINE_MISSING
    error = _address(&word, address, version)
    if error or not port:
        return error
    if not _word(line, &word):
        return LINE_MISSING
    if not _number(word.text, word.length, 65535, &n):
        return LINE_PORT
    number[0] = <uint16_t>n
    return LINE_GOOD


cdef int _two_ends(Text *line, bint ports, FlowTuple *flow) noexcept nogil:
    cdef uint8_t version
    cdef int error = _protocol(line, flow) if ports else LINE_GOOD
    if not error:
        error = _end(line, ports, flow.src, &flow.version, &flow.sport)
    if not error:
        error = _end(line, ports, flow.dst, &version, &flow.dport)
    if not error and version != flow.version:
        return LINE_MIXED
    return error


cdef int _who(Text *line, BlockEntry *e) noexcept nogil:
    """Scope and ends of a line into the key of `e`."""
    cdef FlowTuple flow
    cdef Text start = line[0]
    cdef Word word
    cdef int scope, error
    if not _word(line, &word):
        return LINE_EMPTY
    scope = _scope(&word)
    memset(&flow, 0, BLOCK_KEY)
    if scope == SCOPE_CONNECTION or scope == SCOPE_PAIR:
        error = _two_ends(line, scope == SCOPE_CONNECTION, &flow)
    else:
        if scope == SCOPE_NONE:
            line[0] = start
            scope = SCOPE_SOURCE
        error = _end(line, False, flow.src, &flow.version, &flow.sport)
        flow.dst = flow.src
    key_fill(&e.key, scope, &flow)
    return error


cdef int _option(const Word *word, BlockEntry *e) noexcept nogil:
    cdef const char *equals = <const char *>memchr(word.text, 61, word.length)
    cdef Word name, value
    cdef uint32_t number
    if equals == NULL:
        return LINE_OPTION
    name.text, name.length = word.text, equals - word.text
    value.text, value.length = equals + 1, word.length - name.length - 1
    if _is(&name, b"expires", 7) and _is(&value, b"never", 5):
        number = BLOCK_NEVER
    elif not _number(value.text, value.length, BLOCK_NEVER, &number):
        return LINE_NUMBER
    if _is(&name, b"expires", 7):
        e.word = entry_word(0, number)
    elif _is(&name, b"sid", 3):
        e.sid = number
    elif _is(&name, b"since", 5):
        e.since = number
    elif _is(&name, b"hits", 4):
        e.hits = number
    else:
        return LINE_OPTION
    return LINE_GOOD


cdef int _line(Text *line, BlockEntry *e) noexcept nogil:
    """Read one line over the defaults in `e`."""
    cdef Word word
    cdef int error = _who(line, e)
    while not error and _word(line, &word):
        error = _option(&word, e)
    return error


# Public API

cdef class ImportResult:
    """What an import did: ``lines`` read, ``entries`` on them, ``inserted``, ``prolonged``, ``refused`` (no room),
    ``expired`` (over before now), ``bad`` lines; ``errors`` holds the first of them as (line number, what is wrong)."""

    cdef readonly uint32_t lines, entries, inserted, prolonged, refused, expired, bad
    cdef readonly list errors

    def __cinit__(self):
        self.errors = []


_ERRORS = {
    LINE_ADDRESS: "not an IP address; write one such as 192.0.2.7 or 2001:db8::7, or a scope (source, destination, pair, "
                  "connection)",
    LINE_PREFIX: "a prefix, and the block table holds single addresses; put prefixes into a rule's address list (@FILE)",
    LINE_MISSING: "too few words; write `pair ADDRESS ADDRESS` or `connection PROTOCOL ADDRESS PORT ADDRESS PORT`",
    LINE_MIXED: "one address is IPv4, the other IPv6; write two of the same",
    LINE_PROTOCOL: "not a protocol; write tcp, udp, sctp or a number up to 255",
    LINE_PORT: "not a port; write a number from 0 to 65535",
    LINE_OPTION: "unknown word; write expires=, sid=, since= or hits= behind the addresses",
    LINE_NUMBER: "not a number; write Unix seconds, or never for expires",
}
MAX_ERRORS = 20


cdef object _note(ImportResult result, uint32_t number, int error):
    if len(result.errors) < MAX_ERRORS:
        result.errors.append((number, _ERRORS[error]))


cdef void _count(ImportResult result, int answer, bint live) noexcept nogil:
    if answer == 1:
        result.inserted += 1
    elif answer == 2:
        result.prolonged += 1
    elif live:
        result.refused += 1


def read_blocks(const uint8_t[::1] text, Blocks into=None, uint32_t expires=BLOCK_NEVER, uint32_t sid=0, now=None):
    """Read a text of one entry a line and insert it into a table; without ``into`` only check it. Returns an ImportResult.

    ``expires`` (Unix seconds) and ``sid`` hold for lines that do not say. Bad lines are reported, the others are done.
    """
    cdef ImportResult result = ImportResult()
    cdef Text line
    cdef const char *end = <const char *>&text[0] + text.shape[0] if text.shape[0] else NULL
    cdef const char *pos = <const char *>&text[0] if text.shape[0] else NULL
    cdef BlockTable *t = &into.table if into is not None else NULL
    cdef BlockEntry e
    cdef uint32_t clock = <uint32_t>(time.time() if now is None else now)
    cdef int error
    if into is not None:
        into.must_write()
    with nogil:
        while pos < end:
            line.pos = pos
            line.end = <const char *>memchr(pos, 10, end - pos)
            if line.end == NULL:
                line.end = end
            pos = line.end + 1
            e.word, e.sid, e.since, e.hits = entry_word(0, expires), sid, clock, 0
            error = _line(&line, &e)
            if error == LINE_GOOD:
                result.entries += 1
                result.expired += not word_live(e.word, clock)
                if t != NULL:
                    _count(result, blocks_put(t, &e, clock), word_live(e.word, clock))
            elif error != LINE_EMPTY:
                result.bad += 1
                with gil:
                    _note(result, result.lines + 1, error)
            result.lines += 1
    return result


def copy_blocks(Blocks source, Blocks into, now=None):
    """Insert every live entry of one table into another, with cause, time and hits; return (done, refused)."""
    cdef BlockTable *t = &into.table
    cdef BlockEntry copy
    cdef uint32_t slot, done = 0, refused = 0, slots = source.slots
    cdef uint32_t clock = <uint32_t>(time.time() if now is None else now)
    into.must_write()
    with nogil:
        for slot in range(slots):
            if not blocks_read(&source.table, slot, &copy) or not word_live(copy.word, clock):
                continue
            if 0 < copy.key.zero <= SCOPE_PAIR and blocks_put(t, &copy, clock):
                done += 1
            else:
                refused += 1
    return done, refused


cdef uint32_t _lookup_batch(BlockTable *t, const FlowTuple *flows, Py_ssize_t count, uint32_t now) noexcept nogil:
    """Three short loops, so that the waits for memory of the whole batch overlap."""
    cdef BlockAsk asks[LOOKUP_BATCH]
    cdef uint32_t sid, blocked = 0
    cdef Py_ssize_t i
    for i in range(count):
        blocks_ask(t, flows + i, asks + i)
    for i in range(count):
        blocks_near(t, asks + i)
    for i in range(count):
        blocked += blocks_answer(t, asks + i, now, &sid) != R_NONE
    return blocked


def lookup_packed(Blocks blocks, const uint8_t[::1] flows, bint batched=True, now=None):
    """Look up every 40-byte FlowTuple of a buffer, in batches of 64 or one by one; return how many are blocked."""
    cdef const FlowTuple *flow = <const FlowTuple *>&flows[0]
    cdef Py_ssize_t i = 0, count = flows.shape[0] // BLOCK_KEY
    cdef uint32_t sid, blocked = 0
    cdef uint32_t clock = <uint32_t>(time.time() if now is None else now)
    with nogil:
        while i < count:
            if batched:
                blocked += _lookup_batch(&blocks.table, flow + i, min(count - i, <Py_ssize_t>LOOKUP_BATCH), clock)
                i += LOOKUP_BATCH
            else:
                blocked += blocks_lookup(&blocks.table, flow + i, clock, &sid) != R_NONE
                i += 1
    return blocked


def insert_packed(Blocks blocks, scope, const uint8_t[::1] flows, uint32_t expires=BLOCK_NEVER, uint32_t sid=0, now=None):
    """Insert every 40-byte FlowTuple of a buffer; return how many were refused."""
    cdef const FlowTuple *flow = <const FlowTuple *>&flows[0]
    cdef Py_ssize_t i, count = flows.shape[0] // BLOCK_KEY
    cdef uint32_t refused = 0
    cdef uint32_t clock = <uint32_t>(time.time() if now is None else now)
    cdef BlockScope number = SCOPES[scope]
    blocks.must_write()
    with nogil:
        for i in range(count):
            refused += blocks_insert(&blocks.table, number, flow + i, clock, expires, sid) == 0
    return refused
