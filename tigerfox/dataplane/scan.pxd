# Multi-pattern scans: a Hyperscan database for each view and kind of traffic; a hit makes rules candidates. See scan.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.candidates cimport Candidates
from tigerfox.dataplane.image cimport TRAFFIC_OTHER, TRAFFIC_TCP, CompiledRules, RuleSet
from tigerfox.dataplane.tcp cimport PROTO_TCP

cdef struct Scanners:            # of one process and one rule set
    uint32_t scan_count
    void **databases             # [view * TRAFFIC_COUNT + traffic], NULL where nothing is looked for; equal ones are one
    void *scratch

cdef inline uint32_t traffic_of(uint8_t protocol, uint32_t side) noexcept nogil:
    """The Traffic of a packet on a side of its flow."""
    return (<uint32_t>TRAFFIC_TCP if protocol == PROTO_TCP else <uint32_t>TRAFFIC_OTHER) + side

# Scan n bytes as the view sees them; adds the rules for this traffic whose literal is there. `view` is one of the rule set's.
cdef void scan_view(const Scanners *s, const RuleSet *rs, uint32_t view, uint32_t traffic, const uint8_t *data, uint32_t n,
                    Candidates *out) noexcept nogil


cdef class ScannerHold:
    """Deserialised databases of an image; keeps them alive."""
    cdef Scanners scanners
    cdef CompiledRules rules
    cdef void *shared(self, uint32_t scan) noexcept
