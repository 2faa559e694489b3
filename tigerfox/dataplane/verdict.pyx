"""From the rules that match to one decision.

What it owns
    Nothing; it reads the rule set, counts in the rate table and fills a Decision.

Layout
    Matches arrive in the order in which they decide: pass, drop, reject, alert, then priority, then sid (the order of
    Suricata's action-order and signature ordering). One walk over them is the whole of it.

Invariants
    A pass rule ends the walk: what stands behind it does not fire, and it speaks itself only where it says `alert`. A drop
    or reject decides, and the walk goes on so that every rule that fires is reported. A rate that is not reached silences
    its rule; a limit that is used up silences only the alert, the action holds (Suricata user guide, "Thresholding
    keywords").

Who may write what
    The Decision: this stage. The rate table counts through rate_count().

What happens when full or broken
    Decision.alerts is as long as Packet.matches; there is nothing to overflow.
"""

from libc.stdint cimport uint32_t

from tigerfox.dataplane.blocks cimport SCOPE_CONNECTION, SCOPE_NONE
from tigerfox.dataplane.image cimport (
    ACTION_ALERT, ACTION_DROP, ACTION_PASS, NO_RULE, UNIT_TRANSACTION, Inspection, Rule, RuleSet, rule_inspection)
from tigerfox.dataplane.packet cimport PACKET_PASSED, PACKET_PORTS, PACKET_STREAMED, Packet
from tigerfox.dataplane.rates cimport RATE_ACT, RATE_FIRE, RATE_SILENT, RateAnswer, RateTable, rate_count
from tigerfox.dataplane.reason cimport R_ALERT, R_DEFAULT, R_DROP, R_PASS, R_REJECT

cdef enum:
    PROTO_TCP = 6
    PROTO_UDP = 17


cdef inline RateAnswer rule_rate(const RuleSet *rs, RateTable *rates, const Rule *rule, const Packet *p) noexcept nogil:
    if rule.rate == 0:
        return RATE_FIRE
    return rate_count(rates, &rs.rates[rule.rate - 1], &p.flow, p.time_ns)


cdef inline bint has_connection(const Packet *p) noexcept nogil:
    return p.flags & PACKET_PORTS and (p.flow.proto == PROTO_TCP or p.flow.proto == PROTO_UDP)


cdef inline bint means_flow(const RuleSet *rs, const Rule *rule, const Packet *p) noexcept nogil:
    """Whether what a rule found is of the flow and not of this packet alone: a message, the stream, or nothing but the headers."""
    cdef const Inspection *i = rule_inspection(rs, <uint32_t>(rule - rs.rules))
    cdef int n
    if i == NULL:
        return True
    if i.of_flow or i.unit == UNIT_TRANSACTION:
        return True
    for n in range(p.alone_count):
        if p.alone[n] == <uint32_t>(rule - rs.rules):
            return False
    return i.part_count != 0 and p.flags & PACKET_STREAMED != 0


cdef inline void decide_stop(const RuleSet *rs, Decision *d, const Rule *rule, const Packet *p, uint32_t number) noexcept nogil:
    """The rule stops the packet; a block of the connection needs one, that is TCP or UDP with its ports."""
    d.reason = R_DROP if rule.action == ACTION_DROP else R_REJECT
    d.rule = number
    d.action = rule.action
    cdef bint of_flow = means_flow(rs, rule, p)
    if rule.block_default and not of_flow:
        d.block_scope = SCOPE_NONE
    elif rule.block_scope == SCOPE_NONE and rule.inspection and of_flow and p.flags & PACKET_STREAMED:
        d.block_scope = SCOPE_CONNECTION     # sent again, its bytes would be old: the rest of the connection goes with them
    elif rule.block_scope != SCOPE_CONNECTION or has_connection(p):
        d.block_scope = rule.block_scope
    d.block_seconds = rule.block_seconds


cdef inline void decide_pass(const RuleSet *rs, Decision *d, const Rule *rule, const Packet *p, uint32_t number) noexcept nogil:
    """The rule passes the packet; and its flow, where it looks at no field of this packet alone."""
    d.reason, d.rule, d.action = R_PASS, number, ACTION_PASS
    d.pass_flow = (rule.inspection or not rule.condition_count) and means_flow(rs, rule, p)


cdef void verdict_decide(const RuleSet *rs, RateTable *rates, const Packet *p, Decision *d) noexcept nogil:
    cdef const Rule *rule
    cdef RateAnswer answer
    cdef int i
    d.reason, d.rule, d.action, d.block_scope = R_DEFAULT, NO_RULE, ACTION_ALERT, SCOPE_NONE
    d.alert_count, d.block_seconds, d.inspector, d.pass_flow = 0, 0, 0, 0
    if p.flags & PACKET_PASSED:
        d.reason = R_PASS
    for i in range(p.match_count):
        rule = &rs.rules[p.matches[i]]
        answer = rule_rate(rs, rates, rule, p)
        if answer == RATE_SILENT:
            continue
        if answer == RATE_FIRE and not rule.noalert:
            d.alerts[d.alert_count] = p.matches[i]
            d.alert_count += 1
        if rule.action == ACTION_PASS:
            decide_pass(rs, d, rule, p, p.matches[i])
            return
        if rule.inspector and d.inspector == 0:
            d.inspector, d.inspect_flow, d.inspect_sid = rule.inspector, rule.inspect_flow, rule.sid
        if d.rule == NO_RULE and rule.action != ACTION_ALERT:
            decide_stop(rs, d, rule, p, p.matches[i])
        elif d.reason == R_DEFAULT:
            d.reason = R_ALERT
