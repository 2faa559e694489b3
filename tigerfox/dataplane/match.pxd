# Which rules a packet matches. See match.pyx for the design, image.pxd for the compiled rule set.

from libc.stdint cimport uint32_t
from tigerfox.dataplane.candidates cimport Candidates
from tigerfox.dataplane.image cimport RuleSet
from tigerfox.dataplane.packet cimport Packet

# Ask memory early for what the look-up of a parsed packet begins with; a batch of packets then waits for it once.
cdef void rules_near(const RuleSet *rs, const Packet *p) noexcept nogil

# Fills p.matches (rule numbers in the order of action, priority and sid) and p.match_count; returns how many matches found no
# place there, and fills `key` (DIM_COUNT places) with the packet's classes. Rules that look beyond the headers and that no
# scan names are added to `pending` instead (NULL: left out); what they look for is still to be checked.
cdef int rules_match(const RuleSet *rs, Packet *p, uint32_t *key, Candidates *pending) noexcept nogil

cdef enum Misfit:                # which of a rule's headers does not hold
    MISFIT_NONE = 0
    MISFIT_PROTOCOL
    MISFIT_DPORT
    MISFIT_SPORT
    MISFIT_DST
    MISFIT_SRC
    MISFIT_CONDITION             # this + n: its condition n

# Whether the headers of one rule hold for a packet of these classes: for rules that a scan names, which stand in no header
# index.
cdef bint rule_holds(const RuleSet *rs, uint32_t number, const Packet *p, const uint32_t *key) noexcept nogil

# The first of a rule's headers that does not hold for a packet of these classes: a Misfit. For explanations.
cdef uint32_t rule_misfit(const RuleSet *rs, uint32_t number, const Packet *p, const uint32_t *key) noexcept nogil

# Put a rule among p.matches, in order, once, and of two twins only one; 1 when a match found no place.
cdef int match_add(const RuleSet *rs, Packet *p, uint32_t number) noexcept nogil

# Leave to the whole packet what need not be decided on its first fragment: alerts and counts of what lies behind the
# IP header.
cdef void rules_of_part(const RuleSet *rs, Packet *p) noexcept nogil
