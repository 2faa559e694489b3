# Which rules a packet matches. See match.pyx for the design, image.pxd for the compiled rule set.

from tigerfox.dataplane.image cimport RuleSet
from tigerfox.dataplane.packet cimport Packet

# Ask memory early for what the look-up of a parsed packet begins with; a batch of packets then waits for it once.
cdef void rules_near(const RuleSet *rs, const Packet *p) noexcept nogil

# Fills p.matches (rule numbers in the order of action, priority and sid) and p.match_count; returns how many matches
# found no place there.
cdef int rules_match(const RuleSet *rs, Packet *p) noexcept nogil

# Leave to the whole packet what need not be decided on its first fragment: alerts and counts of what lies behind the
# IP header.
cdef void rules_of_part(const RuleSet *rs, Packet *p) noexcept nogil
