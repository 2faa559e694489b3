# Whether any rule can still match a connection. See reach.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.image cimport DIM_DPORT, DIM_DST, DIM_SPORT, DIM_SRC, CompiledRules, RuleSet
from tigerfox.dataplane.packet cimport Packet

cdef enum ReachState:            # what is known of one direction of a connection
    REACH_ANY = 0                # nothing but its addresses, ports and protocol
    REACH_FAILED                 # its application is none that is read here; that is final
    REACH_TLS                    # TLS, and both sides' parsers are done: encrypted, or given up
    REACH_SSH                    # SSH, likewise
    REACH_FAILED_DEEP            # the same three, the direction beyond the inspection depth
    REACH_TLS_DEEP
    REACH_SSH_DEEP
    REACH_DEEP                   # beyond the depth, and no parser can begin with it any more
    REACH_REPLIES                # it comes from the server of an open connection, whatever that speaks
    REACH_ALONE                  # requests whose replies are not seen: which rules miss them
    REACH_STATES
    REACH_DECIDED = 254          # nothing can match: said of an earlier packet, under these rules
    REACH_NEVER = 255            # not to be asked: its packets have to be seen

cdef enum:
    REACH_GROUPS = 64

cdef struct Reach:               # of one process and one rule set: bit g of every mask is rule group g
    uint64_t alive[REACH_STATES] # groups with a rule that can match in a state
    uint64_t passing             # groups of rules that let every packet of theirs pass
    uint64_t protocols[256]
    uint64_t versions[2]         # IPv4, IPv6
    uint64_t *src                # [address class]; all four in one piece of memory
    uint64_t *dst
    uint64_t *sport              # [port class]
    uint64_t *dport


# Whether none of these groups has anything to say of its packets in this state.
cdef inline bint groups_silent(const Reach *r, uint64_t groups, int state) noexcept nogil:
    return not groups & r.alive[state] or groups & r.passing != 0


# Whether no rule can match either direction of the connection of a packet of these classes (rules_match): the packet's in
# one state, the other in another.
cdef inline bint reach_silent(const Reach *r, const Packet *p, const uint32_t *key, int state, int state_back) noexcept nogil:
    cdef uint64_t groups = r.protocols[p.flow.proto] & r.versions[p.flow.version == 6]
    cdef uint64_t there = groups & r.src[key[<int>DIM_SRC]] & r.dst[key[<int>DIM_DST]]
    cdef uint64_t back = groups & r.src[key[<int>DIM_DST]] & r.dst[key[<int>DIM_SRC]]
    there &= r.sport[key[<int>DIM_SPORT]] & r.dport[key[<int>DIM_DPORT]]
    back &= r.sport[key[<int>DIM_DPORT]] & r.dport[key[<int>DIM_SPORT]]
    return groups_silent(r, there, state) and groups_silent(r, back, state_back)


# Whether no rule reads a reply like this one, and none that can match the requests of its connection misses it.
cdef inline bint reach_replies_silent(const Reach *r, const Packet *p, const uint32_t *key) noexcept nogil:
    return reach_silent(r, p, key, REACH_REPLIES, REACH_ALONE)


cdef class ReachHold:
    """The Reach of a rule set."""
    cdef Reach reach
    cdef int use(self, CompiledRules compiled) except -1
