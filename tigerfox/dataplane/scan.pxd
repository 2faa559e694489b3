# Multi-pattern scans: one Hyperscan database a view, and the rules that a hit makes candidates. See scan.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.candidates cimport Candidates
from tigerfox.dataplane.image cimport RuleSet

cdef struct Scanners:            # of one process and one rule set
    uint32_t view_count
    void **databases             # [view], NULL where nothing is looked for
    void *scratch

# Scan n bytes as the view sees them; adds the rules whose literal is there. `view` is below s.view_count.
cdef void scan_view(const Scanners *s, const RuleSet *rs, uint32_t view, const uint8_t *data, uint32_t n,
                    Candidates *out) noexcept nogil


cdef class ScannerHold:
    """Deserialised databases of an image; keeps them alive."""
    cdef Scanners scanners
    cdef object rules            # CompiledRules
