"""Which rules a packet matches, at a cost that does not grow with their number.

What it owns
    Nothing; it reads an immutable RuleSet and fills Packet.matches.

Layout
    A packet is reduced to five small numbers, its classes: source and destination address (prefix tables), source and
    destination port (a table of 65,536), and "extra" (TCP flags or ICMP type by a table of 256). Two values are in one class
    when no rule can tell them apart. Every rule is filed under the classes of those of its fields that are narrow enough to
    list (compile.py decides); rules that use the same choice of fields and the same transport share an index, a "pattern":

        classes ─▶ live = protocol & src & dst & sport & dport & extra masks    one bit a pattern, at most 64
                     └─ for each live pattern: one hash probe (key = its classes) ─▶ candidate rules ─▶ check in full

    The masks say for every class whether any rule of a pattern is filed under it, so patterns that cannot match cost six
    loads together. For ordinary traffic `live` is 0 or names the rules that nothing narrows.

    Measured by bench/matchers.py with a list of 100,000 prefixes beside the rules, ns a packet (ours: all of user space):

        rules      linear scan   bit vectors ANDed        this
             24             12            12               79
          1,000            469             9 (0.6 MB)      84 (3.4 MB)
         10,000          3,294           331 (63 MB)       83 (14 MB)
        100,000         38,560         2,740 (625 MB)      81 (25 MB)

    Cross-product tables are as flat, but their memory is the product of the classes of two fields.

Invariants
    The masks and slots only narrow; check_rule() decides. A candidate list never misses a rule that check_rule() accepts.

Who may write what
    matches and match_count of the packet: this stage.

What happens when full or broken
    A packet keeps its first PACKET_MATCHES matches in the order of decision; how many were cut is the return value, which
    the top counts.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

from tigerfox.dataplane.atomic cimport prefetch
from tigerfox.dataplane.candidates cimport Candidates, candidates_add
from tigerfox.dataplane.image cimport (
    ACTION_ALERT, DIM_COUNT, DIM_DPORT, DIM_DST, DIM_EXTRA, DIM_SPORT, DIM_SRC, EXTRA_ICMP_TYPE, EXTRA_NONE, EXTRA_TCP_FLAGS,
    FIELD_DSIZE, FIELD_FRAG_BITS, FIELD_FRAG_OFF, FIELD_ICMP_CODE, FIELD_ICMP_ID, FIELD_ICMP_MTU, FIELD_ICMP_SEQ,
    FIELD_ICMP_TYPE, FIELD_IP_ID, FIELD_IP_OPTIONS, FIELD_IP_PROTO, FIELD_SAME_IP, FIELD_TCP_ACK, FIELD_TCP_FLAGS,
    FIELD_TCP_SEQ, FIELD_TCP_WINDOW, FIELD_TOS, FIELD_TTL, OP_MASK, OP_RANGE, TRANSPORT_ICMP, TWIN_FIRST,
    TWIN_NONE, CompiledRules, Condition, Pattern, Rule, RuleSet, Slot)
from tigerfox.dataplane.packet cimport (
    PACKET_FRAGMENT, PACKET_LATER_FRAGMENT, PACKET_MATCHES, PACKET_PORTS, Packet)
from tigerfox.dataplane.parse cimport parse_packet
from tigerfox.dataplane.prefixes cimport prefix_class_v4, prefix_class_v6, prefix_near, range_near
from tigerfox.dataplane.reason cimport R_NONE
from tigerfox.dataplane.wire cimport load_be32

cdef extern from *:
    int trailing_zeros "__builtin_ctzll"(uint64_t x) noexcept nogil

cdef enum:
    PROTO_ICMP = 1
    PROTO_TCP = 6
    PROTO_ICMPV6 = 58
    TOO_BIG = 2                  # ICMPv6 type
    MAX_PROBES = 16              # slots looked at for one key; build_slots keeps to it

FIELDS = ("tcp_flags", "tcp_seq", "tcp_ack", "tcp_window", "ttl", "tos", "ip_id", "frag_bits", "frag_off", "ip_options",
          "same_ip", "icmp_type", "icmp_code", "icmp_id", "icmp_seq", "icmp_mtu", "dsize", "ip_proto")
OPS = ("range", "mask", "any")


cdef inline uint32_t slot_hash(const uint32_t *key) noexcept nogil:
    """Where a key's probing begins. Unseeded: the keys are classes of the rule set, a peer cannot make new ones."""
    cdef uint64_t h = (key[DIM_SRC] * <uint64_t>0x9e3779b97f4a7c15) ^ (key[DIM_DST] * <uint64_t>0xc2b2ae3d27d4eb4f)
    h ^= (key[DIM_SPORT] * <uint64_t>0x165667b19e3779f9) ^ (key[DIM_DPORT] * <uint64_t>0x85ebca77c2b2ae63)
    h += key[DIM_EXTRA] * <uint64_t>0x27d4eb2f165667c5
    h ^= h >> 29
    h *= <uint64_t>0xbf58476d1ce4e5b9
    return <uint32_t>(h >> 32)


cdef inline bint has_transport(const Packet *p) noexcept nogil:
    return not p.flags & PACKET_LATER_FRAGMENT


cdef inline uint32_t extra_class(const RuleSet *rs, const Packet *p) noexcept nogil:
    if p.flow.proto == PROTO_TCP and p.flags & PACKET_PORTS:
        return rs.extra_classes[<int>EXTRA_TCP_FLAGS * 256 + (p.tcp_flags & 0xff)]
    if (p.flow.proto == PROTO_ICMP or p.flow.proto == PROTO_ICMPV6) and has_transport(p):
        return rs.extra_classes[<int>EXTRA_ICMP_TYPE * 256 + p.icmp_type]
    return rs.extra_classes[<int>EXTRA_NONE * 256]


cdef inline void classify(const RuleSet *rs, const Packet *p, uint32_t *key) noexcept nogil:
    """The five classes of a packet. A packet without ports has port class 0, which is in no port set."""
    if p.flow.version == 4:
        key[DIM_SRC] = prefix_class_v4(&rs.v4, p.flow.src)
        key[DIM_DST] = prefix_class_v4(&rs.v4, p.flow.dst)
    else:
        key[DIM_SRC] = prefix_class_v6(&rs.v6, p.flow.src)
        key[DIM_DST] = prefix_class_v6(&rs.v6, p.flow.dst)
    if p.flags & PACKET_PORTS:
        key[DIM_SPORT] = rs.port_classes[p.flow.sport]
        key[DIM_DPORT] = rs.port_classes[p.flow.dport]
    else:
        key[DIM_SPORT] = key[DIM_DPORT] = 0
    key[DIM_EXTRA] = extra_class(rs, p)


cdef inline bint set_has(const RuleSet *rs, uint32_t number, uint32_t wanted) noexcept nogil:
    """Whether the class lies in set `number` (1-based): a binary search over its runs of classes."""
    cdef uint32_t low = rs.set_starts[number - 1], high = rs.set_starts[number], middle
    while low < high:
        middle = (low + high) >> 1
        if rs.intervals[2 * middle + 1] < wanted:
            low = middle + 1
        elif rs.intervals[2 * middle] > wanted:
            high = middle
        else:
            return True
    return False


cdef inline bint in_set(const RuleSet *rs, uint32_t number, uint32_t wanted) noexcept nogil:
    return number == 0 or set_has(rs, number, wanted)


cdef inline bint field_tcp(const Packet *p, int field, uint32_t *value) noexcept nogil:
    """A TCP field; False where the packet has no TCP header."""
    if p.flow.proto != PROTO_TCP or not p.flags & PACKET_PORTS:
        return False
    if field == FIELD_TCP_FLAGS:
        value[0] = p.tcp_flags & 0xff
    elif field == FIELD_TCP_SEQ:
        value[0] = p.tcp_seq
    elif field == FIELD_TCP_ACK:
        value[0] = p.tcp_ack
    else:
        value[0] = p.tcp_window
    return True


cdef inline bint field_icmp(const Packet *p, int field, uint32_t *value) noexcept nogil:
    """An ICMP or ICMPv6 field; False where the packet does not have it."""
    if (p.flow.proto != PROTO_ICMP and p.flow.proto != PROTO_ICMPV6) or not has_transport(p):
        return False
    if field == FIELD_ICMP_TYPE:
        value[0] = p.icmp_type
    elif field == FIELD_ICMP_CODE:
        value[0] = p.icmp_code
    elif field == FIELD_ICMP_MTU:
        if p.flow.proto != PROTO_ICMPV6 or p.icmp_type != TOO_BIG or p.caplen < <uint32_t>p.l4_off + 8:
            return False
        value[0] = load_be32(p.data + p.l4_off + 4)
    else:
        value[0] = p.icmp_id if field == FIELD_ICMP_ID else p.icmp_seq
        return p.has_icmp_echo
    return True


cdef inline bint field_ip(const Packet *p, int field, uint32_t *value) noexcept nogil:
    """A field of the IP header or of the packet as a whole."""
    if field == FIELD_TTL:
        value[0] = p.ttl
    elif field == FIELD_TOS:
        value[0] = p.tos
    elif field == FIELD_IP_ID:
        value[0] = p.ip_id
        return p.flow.version == 4
    elif field == FIELD_FRAG_BITS:
        value[0] = p.frag_bits
        return p.flow.version == 4
    elif field == FIELD_FRAG_OFF:
        value[0] = p.frag_off
        return p.flow.version == 4
    elif field == FIELD_IP_OPTIONS:
        value[0] = p.ip_options
        return p.flow.version == 4
    elif field == FIELD_SAME_IP:
        value[0] = memcmp(p.flow.src, p.flow.dst, 16) == 0
    elif field == FIELD_DSIZE:
        value[0] = p.payload_len
        return not p.flags & PACKET_FRAGMENT
    else:
        value[0] = p.ip_proto
    return True


cdef inline bint condition_holds(const Condition *c, const Packet *p) noexcept nogil:
    cdef uint32_t value = 0
    cdef bint there, holds
    if c.field <= <int>FIELD_TCP_WINDOW:
        there = field_tcp(p, c.field, &value)
    elif c.field >= <int>FIELD_ICMP_TYPE and c.field <= <int>FIELD_ICMP_MTU:
        there = field_icmp(p, c.field, &value)
    else:
        there = field_ip(p, c.field, &value)
    if not there:
        return False
    if c.op == OP_RANGE:
        holds = c.a <= value and value <= c.b
    elif c.op == OP_MASK:
        holds = value & c.a == c.b
    else:
        holds = value & c.a != 0
    return holds != (c.negated != 0)


cdef inline bint transport_fits(const Rule *rule, const Packet *p) noexcept nogil:
    if rule.version and rule.version != p.flow.version:
        return False
    if rule.transport == 0 or rule.transport == p.flow.proto:
        return True
    return rule.transport == TRANSPORT_ICMP and (p.flow.proto == PROTO_ICMP or p.flow.proto == PROTO_ICMPV6)


cdef bint check_rule(const RuleSet *rs, const Rule *rule, const Packet *p, const uint32_t *key) noexcept nogil:
    """The full check of one candidate."""
    cdef uint32_t i
    if not transport_fits(rule, p):
        return False
    if not (in_set(rs, rule.dport_set, key[DIM_DPORT]) and in_set(rs, rule.sport_set, key[DIM_SPORT])):
        return False
    if not (in_set(rs, rule.dst_set, key[DIM_DST]) and in_set(rs, rule.src_set, key[DIM_SRC])):
        return False
    for i in range(rule.condition_count):
        if not condition_holds(&rs.conditions[rule.first_condition + i], p):
            return False
    return True


cdef int match_add(const RuleSet *rs, Packet *p, uint32_t number) noexcept nogil:
    """Keep the matches in order; 1 when one was cut. The second of two twins is dropped."""
    cdef int i = p.match_count
    cdef uint32_t twin = number
    if rs.rules[number].noalert and rs.rules[number].action == ACTION_ALERT and not rs.rules[number].inspector:
        return 0                 # it says and does nothing
    if rs.rules[number].twin != TWIN_NONE:
        twin = number + 1 if rs.rules[number].twin == TWIN_FIRST else number - 1
    while i > 0 and p.matches[i - 1] > number:
        i -= 1
    if i > 0 and (p.matches[i - 1] == twin or p.matches[i - 1] == number):
        return 0
    if i < p.match_count and p.matches[i] == twin:
        p.matches[i] = number
        return 0
    if i == PACKET_MATCHES:
        return 1
    cdef int last = p.match_count if p.match_count < PACKET_MATCHES else PACKET_MATCHES - 1
    cdef int cut = p.match_count - last
    while last > i:
        p.matches[last] = p.matches[last - 1]
        last -= 1
    p.matches[i] = number
    p.match_count += 1 - cut
    return cut


cdef const Slot *slot_find(const RuleSet *rs, const Pattern *pattern, const uint32_t *classes) noexcept nogil:
    """The slot filed under the packet's classes, or NULL."""
    cdef uint32_t key[DIM_COUNT]
    cdef const Slot *slot
    cdef uint32_t at, probe
    cdef int i
    for i in range(DIM_COUNT):
        key[i] = classes[i] if pattern.dimensions >> i & 1 else 0
    at = slot_hash(key)
    for probe in range(MAX_PROBES):
        slot = &rs.slots[pattern.first_slot + ((at + probe) & pattern.slot_mask)]
        if slot.count == 0:
            return NULL
        if memcmp(slot.key, key, sizeof(key)) == 0:
            return slot
    return NULL


cdef void rules_near(const RuleSet *rs, const Packet *p) noexcept nogil:
    prefetch(&rs.port_classes[p.flow.sport])
    prefetch(&rs.port_classes[p.flow.dport])
    if p.flow.version == 4:
        range_near(&rs.v4, p.flow.src)
        range_near(&rs.v4, p.flow.dst)
    else:
        prefix_near(&rs.v6, p.flow.src)
        prefix_near(&rs.v6, p.flow.dst)


cdef inline uint64_t patterns_live(const RuleSet *rs, const Packet *p, const uint32_t *key) noexcept nogil:
    """The patterns that can have a rule for the packet. Ports come last: their masks are large and looked up all over."""
    cdef uint64_t live = rs.protocol_masks[p.flow.proto] & rs.src_masks[key[DIM_SRC]] & rs.dst_masks[key[DIM_DST]]
    live &= rs.extra_masks[key[DIM_EXTRA]]
    if live and rs.files_sport:
        live &= rs.sport_masks[key[DIM_SPORT]]
    return live & rs.dport_masks[key[DIM_DPORT]] if live else 0


cdef int rules_match(const RuleSet *rs, Packet *p, uint32_t *key, Candidates *pending) noexcept nogil:
    cdef const Slot *slot
    cdef uint64_t live
    cdef uint32_t i
    cdef int cut = 0
    p.match_count = 0
    classify(rs, p, key)
    live = patterns_live(rs, p, key)
    while live:
        slot = slot_find(rs, &rs.patterns[trailing_zeros(live)], key)
        live &= live - 1
        if slot == NULL:
            continue
        for i in range(slot.first, slot.first + slot.count):
            if check_rule(rs, &rs.rules[rs.candidates[i]], p, key):
                cut += rule_found(rs, p, rs.candidates[i], pending)
    return cut


cdef inline int rule_found(const RuleSet *rs, Packet *p, uint32_t number, Candidates *pending) noexcept nogil:
    """A rule's headers hold: that is a match, or the beginning of one."""
    if rs.rules[number].inspection == 0:
        return match_add(rs, p, number)
    if pending != NULL:
        candidates_add(pending, number)
    return 0


cdef bint rule_holds(const RuleSet *rs, uint32_t number, const Packet *p, const uint32_t *key) noexcept nogil:
    return check_rule(rs, &rs.rules[number], p, key)


cdef uint32_t rule_misfit(const RuleSet *rs, uint32_t number, const Packet *p, const uint32_t *key) noexcept nogil:
    cdef const Rule *rule = &rs.rules[number]
    cdef uint32_t i
    if not transport_fits(rule, p):
        return MISFIT_PROTOCOL
    if not in_set(rs, rule.dport_set, key[DIM_DPORT]):
        return MISFIT_DPORT
    if not in_set(rs, rule.sport_set, key[DIM_SPORT]):
        return MISFIT_SPORT
    if not in_set(rs, rule.dst_set, key[DIM_DST]):
        return MISFIT_DST
    if not in_set(rs, rule.src_set, key[DIM_SRC]):
        return MISFIT_SRC
    for i in range(rule.condition_count):
        if not condition_holds(&rs.conditions[rule.first_condition + i], p):
            return MISFIT_CONDITION + i
    return MISFIT_NONE


cdef inline bint rule_of_whole(const RuleSet *rs, const Rule *rule) noexcept nogil:
    """Whether a rule looks behind the IP header, and has time to: it only tells, or it counts."""
    cdef uint32_t i
    cdef uint8_t field
    if rule.action != ACTION_ALERT and not rule.rate:
        return False
    if rule.sport_set or rule.dport_set:
        return True
    for i in range(rule.first_condition, rule.first_condition + rule.condition_count):
        field = rs.conditions[i].field
        if field <= FIELD_TCP_WINDOW or FIELD_ICMP_TYPE <= field <= FIELD_DSIZE:
            return True
    return False


cdef void rules_of_part(const RuleSet *rs, Packet *p) noexcept nogil:
    cdef int kept = 0
    cdef int i
    for i in range(p.match_count):
        if not rule_of_whole(rs, &rs.rules[p.matches[i]]):
            p.matches[kept] = p.matches[i]
            kept += 1
    p.match_count = <uint8_t>kept


# Public API

def matches(CompiledRules compiled, const uint8_t[::1] packet):
    """Return (rule numbers, how many were cut) for the bytes of one IP packet, ([], 0) where it cannot be parsed."""
    cdef Packet p
    cdef uint32_t key[DIM_COUNT]
    memset(&p, 0, sizeof(p))
    p.data = &packet[0]
    p.caplen = p.wirelen = packet.shape[0]
    if parse_packet(&p) != R_NONE:
        return [], 0
    cdef int cut = rules_match(&compiled.rules, &p, key, NULL)
    return [p.matches[i] for i in range(p.match_count)], cut


def build_slots(entries):
    """Return (slots as bytes, mask) of an open-addressing table over ``entries``, (key of five classes, first, count) each.

    The table is a power of two, at most half full, and grown until no key lies more than 16 places from its hash.
    """
    size = 1
    while size < 2 * len(entries):
        size *= 2
    while True:
        table = _place(entries, size)
        if table is not None:
            return table, size - 1
        size *= 2


cdef _place(entries, size_t size):
    """The table of `size` slots, or None when a key finds no place near its hash."""
    cdef bytearray table = bytearray(size * sizeof(Slot))
    cdef uint8_t[:] view = table
    cdef Slot *slots = <Slot *>&view[0]
    cdef Slot *slot
    cdef uint32_t key[DIM_COUNT]
    cdef uint32_t at, probe
    for classes, first, count in entries:
        key[0], key[1], key[2], key[3], key[4] = classes
        at = slot_hash(key)
        for probe in range(MAX_PROBES):
            slot = &slots[(at + probe) & (size - 1)]
            if slot.count == 0:
                slot.key[0], slot.key[1], slot.key[2], slot.key[3], slot.key[4] = classes
                slot.first, slot.count = first, count
                break
        else:
            return None
    return bytes(table)
