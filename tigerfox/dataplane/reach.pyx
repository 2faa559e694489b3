"""Whether any rule can still match a connection: the answer, worked out when rules are taken up.

What it owns
    Masks of 64 rule groups by address class, port class, protocol and IP version; private to one process.

Layout
    Rules with the same four sets, transport and IP version are a group. A mask by class says in which groups the class is, so six
    loads ANDed name the groups that a packet can be in, and with source and destination changed those of its answer. `alive`
    says of each state of a direction which groups have a rule that can match in it.

    A rule can match in a state unless
        REACH_FAILED   it reads messages, or its `app` does not admit "none of these"
        REACH_TLS      it reads messages (the parsers are done), or its `app` does not admit TLS; REACH_SSH likewise
        ..._DEEP       besides: it reads the stream's payload and nothing of the packet's own
        REACH_DEEP     it reads messages, or the stream's payload and nothing of the packet's own
        REACH_REPLIES  it is bound to what the client sends: by `flow`, or by the buffers of a request
        REACH_ALONE    whatever else: it can, where it asks how much the server has sent, or has an inspector asked about the
                       whole connection; no other rule on requests misses the replies
    Every other rule can: headers alone, flow bits, packet payload, rates. Conditions beyond the five fields (flags, TTL, sizes)
    are taken to hold.

Invariants
    No group is left out that a rule could match by; a group too many costs speed, nothing else. Rules beyond 63 groups share
    the last one, which takes what any of them takes. A pass rule of headers alone, without conditions or rate, makes its group
    `passing`: it decides before all others, so its packets need no judging; in the shared group it counts for nothing.

Who may write what
    The worker, between two batches.

What happens when full or broken
    See the shared group.
"""

from libc.stdint cimport uint16_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from tigerfox.dataplane.image cimport (
    ACTION_PASS, APP_FAILED, APP_SSH, APP_TLS, DIM_COUNT, PAYLOAD_BOTH, PAYLOAD_PACKET, TRANSPORT_ICMP, UNIT_TRANSACTION,
    WANT_TO_SERVER, Inspection, Rule, rule_inspection)
from tigerfox.dataplane.match cimport rules_match
from tigerfox.dataplane.parse cimport parse_packet
from tigerfox.dataplane.reason cimport R_NONE

cdef enum:
    SHARED_GROUP = REACH_GROUPS - 1
    REQUEST_SIDE = 0             # Inspection.side
    SIZE_OF_CLIENT = 0           # SizeStep.side
    PROTO_ICMP = 1
    PROTO_ICMPV6 = 58

cdef struct Group:
    uint32_t sets[4]
    uint8_t transport
    uint8_t version
    uint8_t passing


cdef struct Marked:              # the group + 1 that was marked last: for each set of each field, for each transport
    uint8_t *sets[4]
    uint8_t transports[256]


cdef inline bint always_passes(const Rule *rule) noexcept nogil:
    return rule.action == ACTION_PASS and not (rule.condition_count or rule.rate or rule.inspection)


cdef inline bint admits(const Inspection *i, int app) noexcept nogil:
    return (i.apps == 0 or i.apps >> app & 1 != 0) and not i.apps_not >> app & 1


cdef inline int state_app(int state) noexcept nogil:
    """The application of a connection in a state that tells it."""
    if state == REACH_FAILED or state == REACH_FAILED_DEEP:
        return APP_FAILED
    return APP_TLS if state == REACH_TLS or state == REACH_TLS_DEEP else APP_SSH


cdef bint can_match(const Inspection *i, int state) noexcept nogil:
    """Whether a rule with this inspection (NULL: none) can match in a state."""
    if i == NULL or state == REACH_ANY:
        return True
    if state == REACH_REPLIES:
        return not (i.flow & WANT_TO_SERVER or i.unit == UNIT_TRANSACTION and i.side == REQUEST_SIDE)
    if i.unit == UNIT_TRANSACTION or state != REACH_DEEP and not admits(i, state_app(state)):
        return False
    if state < REACH_FAILED_DEEP:
        return True
    return i.part_count == 0 or i.payload == PAYLOAD_PACKET or i.payload == PAYLOAD_BOTH


cdef bint misses_replies(const RuleSet *rs, uint32_t number) noexcept nogil:
    """Whether a rule that matches requests needs to see the replies as well."""
    cdef const Inspection *i = rule_inspection(rs, number)
    cdef uint32_t n
    if rs.rules[number].inspector and rs.rules[number].inspect_flow:
        return True
    if i != NULL:
        for n in range(i.first_size, i.first_size + i.size_count):
            if rs.size_steps[n].side != SIZE_OF_CLIENT:
                return True
    return False


cdef inline bint group_is(const Group *g, const Rule *rule, bint passing) noexcept nogil:
    return (g.sets[0] == rule.src_set and g.sets[1] == rule.dst_set and g.sets[2] == rule.sport_set
            and g.sets[3] == rule.dport_set and g.transport == rule.transport and g.version == rule.version
            and g.passing == passing)


cdef int group_of(Group *groups, int *count, const Rule *rule, bint passing) noexcept nogil:
    """The group of a rule, made when there is none and there is room."""
    cdef Group *g
    cdef int n
    for n in range(count[0]):
        if group_is(&groups[n], rule, passing):
            return n
    if count[0] == SHARED_GROUP:
        return SHARED_GROUP
    g = &groups[count[0]]
    g.sets[0], g.sets[1], g.sets[2], g.sets[3] = rule.src_set, rule.dst_set, rule.sport_set, rule.dport_set
    g.transport, g.version, g.passing = rule.transport, rule.version, passing
    count[0] += 1
    return count[0] - 1


cdef inline bint is_new(uint8_t *marked, uint32_t place, int group) noexcept nogil:
    """Whether the group that marked this last is another one."""
    cdef bint other = marked[place] != group + 1
    marked[place] = <uint8_t>(group + 1)
    return other


cdef void classes_mark(const RuleSet *rs, uint64_t *masks, uint32_t classes, uint32_t number, uint64_t bit) noexcept nogil:
    """Set the bit of a group for every class of a set; 0: any."""
    cdef uint32_t one, run
    if number == 0:
        for one in range(classes):
            masks[one] |= bit
        return
    for run in range(rs.set_starts[number - 1], rs.set_starts[number]):
        for one in range(rs.intervals[2 * run], min(rs.intervals[2 * run + 1], classes - 1) + 1):
            masks[one] |= bit


cdef void protocols_mark(Reach *r, int transport, uint64_t bit) noexcept nogil:
    cdef int proto
    if transport == TRANSPORT_ICMP:
        r.protocols[<int>PROTO_ICMP] |= bit
        r.protocols[<int>PROTO_ICMPV6] |= bit
    elif transport:
        r.protocols[transport] |= bit
    else:
        for proto in range(256):
            r.protocols[proto] |= bit


cdef void rule_mark(Reach *r, const RuleSet *rs, const Rule *rule, int group, Marked *m) noexcept nogil:
    """Set the bit of a group for what a rule can match: once for each set that its rules have."""
    cdef uint64_t bit = <uint64_t>1 << group
    if rule.version != 6:
        r.versions[0] |= bit
    if rule.version != 4:
        r.versions[1] |= bit
    if is_new(m.transports, rule.transport, group):
        protocols_mark(r, rule.transport, bit)
    if is_new(m.sets[<int>DIM_SRC], rule.src_set, group):
        classes_mark(rs, r.src, rs.address_classes, rule.src_set, bit)
    if is_new(m.sets[<int>DIM_DST], rule.dst_set, group):
        classes_mark(rs, r.dst, rs.address_classes, rule.dst_set, bit)
    if is_new(m.sets[<int>DIM_SPORT], rule.sport_set, group):
        classes_mark(rs, r.sport, rs.port_classes_used, rule.sport_set, bit)
    if is_new(m.sets[<int>DIM_DPORT], rule.dport_set, group):
        classes_mark(rs, r.dport, rs.port_classes_used, rule.dport_set, bit)


cdef void rule_enter(Reach *r, const RuleSet *rs, uint32_t number, int group, bint passing) noexcept nogil:
    """Note in which states a rule of the group can match, or that it lets everything pass."""
    cdef uint64_t bit = <uint64_t>1 << group
    cdef int state
    if passing:
        r.passing |= bit
        return
    for state in range(<int>REACH_ALONE):
        if can_match(rule_inspection(rs, number), state):
            r.alive[state] |= bit
    if misses_replies(rs, number):
        r.alive[<int>REACH_ALONE] |= bit


cdef void rules_group(Reach *r, const RuleSet *rs, Marked *m) noexcept nogil:
    cdef Group groups[REACH_GROUPS]
    cdef int count = 0, group
    cdef const Rule *rule
    cdef uint32_t number
    cdef bint passing
    memset(groups, 0, sizeof(groups))
    for number in range(rs.rule_count):
        rule = &rs.rules[number]
        passing = always_passes(rule)
        group = group_of(groups, &count, rule, passing)
        if passing and group == SHARED_GROUP:
            continue
        rule_enter(r, rs, number, group, passing)
        rule_mark(r, rs, rule, group, m)


cdef class ReachHold:
    """What a worker asks of its rules before it leaves a connection to the kernel."""

    def __cinit__(self):
        memset(&self.reach, 0, sizeof(Reach))

    def __dealloc__(self):
        free(self.reach.src)

    cdef int use(self, CompiledRules compiled) except -1:
        """Work the answers out for these rules. Raises MemoryError; then the old ones hold."""
        cdef const RuleSet *rs = &compiled.rules
        cdef size_t sets = rs.set_count + 1
        cdef size_t masks = 2 * (rs.address_classes + rs.port_classes_used)
        cdef Marked marked
        cdef int dim
        cdef uint8_t *memory = <uint8_t *>calloc(4, sets)
        cdef uint64_t *made = <uint64_t *>calloc(masks, sizeof(uint64_t))
        if memory == NULL or made == NULL:
            free(memory)
            free(made)
            raise MemoryError
        free(self.reach.src)
        memset(&self.reach, 0, sizeof(Reach))
        memset(&marked, 0, sizeof(marked))
        self.reach.src, self.reach.dst = made, made + rs.address_classes
        self.reach.sport = self.reach.dst + rs.address_classes
        self.reach.dport = self.reach.sport + rs.port_classes_used
        for dim in range(4):
            marked.sets[dim] = memory + dim * sets
        rules_group(&self.reach, rs, &marked)
        free(memory)
        return 0


# Public API

STATES = {"any": REACH_ANY, "failed": REACH_FAILED, "tls": REACH_TLS, "ssh": REACH_SSH, "failed_deep": REACH_FAILED_DEEP,
          "tls_deep": REACH_TLS_DEEP, "ssh_deep": REACH_SSH_DEEP, "deep": REACH_DEEP, "replies": REACH_REPLIES,
          "alone": REACH_ALONE}


def silent(CompiledRules compiled, const uint8_t[::1] packet, state="any", back=None):
    """Whether no rule can match the connection of this IP packet in a state (STATES); None where it cannot be parsed.

    ``back`` is the state of the other direction, where it is another one.
    """
    cdef ReachHold hold = ReachHold()
    cdef Packet p
    cdef uint32_t key[DIM_COUNT]
    hold.use(compiled)
    memset(&p, 0, sizeof(p))
    p.data = &packet[0]
    p.caplen = p.wirelen = packet.shape[0]
    if parse_packet(&p) != R_NONE:
        return None
    rules_match(&compiled.rules, &p, key, NULL)
    return bool(reach_silent(&hold.reach, &p, key, STATES[state], STATES[back or state]))
