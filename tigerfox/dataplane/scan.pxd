# Multi-pattern scans: a Hyperscan database for each view and kind of traffic; a hit makes rules candidates. See scan.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.candidates cimport Candidates
from tigerfox.dataplane.image cimport TRAFFIC_COUNT, TRAFFIC_OTHER, TRAFFIC_TCP, CompiledRules, RuleSet
from tigerfox.dataplane.tcp cimport PROTO_TCP

cdef struct Scanners:            # of one process and one rule set
    uint32_t scan_count
    void **databases             # [view * TRAFFIC_COUNT + traffic], NULL where nothing is looked for; equal ones are one
    void *scratch

cdef inline uint32_t traffic_of(uint8_t protocol, uint32_t side) noexcept nogil:
    """The Traffic of a packet on a side of its flow."""
    return (<uint32_t>TRAFFIC_TCP if protocol == PROTO_TCP else <uint32_t>TRAFFIC_OTHER) + side

# Scan n bytes by one database, whose number is that in `databases`; adds the rules whose literal is there.
cdef void scan_run(const Scanners *s, const RuleSet *rs, uint32_t scan, const uint8_t *data, uint32_t n,
                   Candidates *out) noexcept nogil


cdef inline bint scan_looks(const Scanners *s, uint32_t view, uint32_t traffic) noexcept nogil:
    """Whether anything is looked for in that view in that traffic."""
    return s.databases[view * TRAFFIC_COUNT + traffic] != NULL


cdef inline void scan_view(const Scanners *s, const RuleSet *rs, uint32_t view, uint32_t traffic, const uint8_t *data, uint32_t n,
                           Candidates *out) noexcept nogil:
    """Scan n bytes as the view sees them for what this traffic's rules look for. `view` is one of the rule set's."""
    cdef uint32_t scan = view * TRAFFIC_COUNT + traffic
    if s.databases[scan] != NULL and n >= rs.scans[scan].shortest:
        scan_run(s, rs, scan, data, n, out)


cdef class ScannerHold:
    """Deserialised databases of an image; keeps them alive."""
    cdef Scanners scanners
    cdef CompiledRules rules
    cdef void *shared(self, uint32_t scan) noexcept
