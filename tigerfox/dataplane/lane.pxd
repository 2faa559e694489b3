# A lane: all that judging a packet needs, in one place; one a worker. See lane.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from tigerfox.dataplane.ahead cimport packet_ahead
from tigerfox.dataplane.blocks cimport BLOCK_NEVER, SCOPE_NONE, BlockScope, BlockTable, blocks_insert, blocks_lookup
from tigerfox.dataplane.candidates cimport candidates_clear
from tigerfox.dataplane.capture cimport Capture
from tigerfox.dataplane.control cimport ControlPage
from tigerfox.dataplane.defrag cimport (
    Defrag, DefragCounts, Piece, Reassembly, Tracker, defrag_add, defrag_refuse, defrag_release, defrag_whole)
from tigerfox.dataplane.detect cimport (
    Detection, detect_bypass, detect_holds, detect_leave_replies, detect_lets_replies, detect_packet, detect_pass, detect_returns,
    detect_tidy)
from tigerfox.dataplane.events cimport EVENT_ALERT, EVENT_DROP, EventRing, event_push
from tigerfox.dataplane.flow cimport FlowCounts
from tigerfox.dataplane.flowentry cimport Flow
from tigerfox.dataplane.handover cimport Desk, Desks, HandoverBook, handover_note
from tigerfox.dataplane.image cimport DIM_COUNT, INSPECTORS, NO_RULE, CompiledRules, Rule, RuleSet
from tigerfox.dataplane.match cimport rules_match, rules_near, rules_of_part
from tigerfox.dataplane.mend cimport mend_fits, mend_write
from tigerfox.dataplane.packet cimport (
    PACKET_BARE, PACKET_FRAGMENT, PACKET_MATCHES, PACKET_PORTS, PACKET_TUNNEL, VERDICT_ACCEPT, VERDICT_DROP, VERDICT_QUEUE,
    VERDICT_REPEAT, FlowTuple, Packet, Verdict)
from tigerfox.dataplane.parse cimport parse_packet, parse_quoted
from tigerfox.dataplane.queue cimport QUEUE_BATCH, Queue, queue_mark, queue_replace, queue_verdict
from tigerfox.dataplane.rates cimport RateTable
from tigerfox.dataplane.reach cimport REACH_ANY, REACH_DECIDED, REACH_NEVER, Reach, ReachHold, reach_replies_silent, reach_silent
from tigerfox.dataplane.reason cimport (
    CLASS_MALFORMED, CLASS_PASS, CLASS_STOP, CLASS_UNPARSED, R_BLOCKED_CONNECTION, R_BLOCKED_PAIR, R_BLOCKED_SOURCE,
    R_FRAG_DROPPED, R_NO_VERDICT, R_NONE, R_REJECT, R_STREAM_OVERLAP, Reason, ReasonClass, reason_class)
from tigerfox.dataplane.reply cimport ReplySockets, reply_send
from tigerfox.dataplane.scene cimport Detect, DetectCounts
from tigerfox.dataplane.session cimport SessionCounts
from tigerfox.dataplane.stats cimport WorkerStats
from tigerfox.dataplane.tcp cimport PROTO_TCP, TCP_SYN
from tigerfox.dataplane.verdict cimport Decision, verdict_decide

cdef enum ExitReason:            # why a loop ended; 0: it has not
    EXIT_STOP = 1
    EXIT_RELOAD = 2
    EXIT_FAILED = 3
    EXIT_SIGNALS = 4             # let Python look at signals, then go on

cdef enum:
    TURNS_PER_LOOK = 4096        # turns after which Python looks at signals, however busy the queue is
    EVENTS_PER_PACKET = 4 * PACKET_MATCHES + 1    # fragment and whole, and the same inside the tunnel, and a drop
    REPLAY_GROUP = 16            # packets of a capture that are read before the first is judged

cdef enum:
    PROTO_ICMP = 1
    PROTO_UDP = 17
    PROTO_ICMPV6 = 58

cdef struct Policies:            # Verdict by class of reason; set at bind, then constant
    uint8_t malformed
    uint8_t unparsed
    uint8_t no_verdict

cdef struct Layer:               # a packet, or the one inside its tunnel, and what was decided on it
    Packet *packet
    Reason reason
    Verdict verdict
    uint32_t sid                 # of the rule that decided, or of what had caused the block
    Decision decision
    uint32_t key[DIM_COUNT]      # classes of the packet (match)
    Defrag *defrag               # set at bind
    Piece piece                  # of the fragment in it
    Packet whole                 # what the fragment completed

cdef struct Lane:                # its worker only
    const RuleSet *rules         # changed between batches only
    BlockTable *blocks           # set at bind, as all pointers below
    RateTable *rates
    Detect *detect
    EventRing *events
    WorkerStats *stats
    ReplySockets replies
    Policies policies
    Desks desks                  # of the Python inspectors
    uint32_t now                 # Unix seconds of the batch, or of the packet in a capture
    uint64_t lost_before         # lost_ids of the predecessors
    Packet packets[QUEUE_BATCH]  # of the batch
    uint8_t kinds[QUEUE_BATCH]   # QueueMessage of each
    Packet inner_packet
    Reach *reach                 # changed with rules
    uint32_t bypass_bit          # of the packet mark; 0: no connection is left to the kernel
    uint32_t return_bit          # of it: what was left is to come back; 0 likewise
    bint mends                   # the packet passes with `held` for the byte that it has, or not at all
    uint8_t held
    bint pieces                  # a layer has a fragment that a verdict must be told
    Layer outer
    Layer inner


cdef inline Verdict reason_verdict(const Policies *policies, Reason reason) noexcept nogil:
    cdef ReasonClass group = reason_class(reason)
    if group == CLASS_PASS:
        return VERDICT_ACCEPT
    if group == CLASS_STOP:
        return VERDICT_DROP
    if group == CLASS_MALFORMED:
        return <Verdict>policies.malformed
    return <Verdict>(policies.unparsed if group == CLASS_UNPARSED else policies.no_verdict)


cdef inline void batch_count(Lane *lane, const Queue *q, int packets, bint sent) noexcept nogil:
    """Publish what the queue and its last batch came to."""
    cdef WorkerStats *stats = lane.stats
    stats.sends += sent
    stats.send_errors += not sent
    stats.receives += 1
    stats.batches[packets] += 1
    stats.lost_ids = lane.lost_before + q.lost_ids
    stats.repeated = q.settled_to
    stats.last_id = q.last_seen


cdef inline uint32_t block_expires(uint32_t now, uint32_t seconds) noexcept nogil:
    return now + seconds if seconds < BLOCK_NEVER - now else <uint32_t>BLOCK_NEVER


cdef inline void alerts_push(Lane *lane, const Layer *layer) noexcept nogil:
    cdef const Rule *rule
    cdef int i
    lane.stats.alerts += layer.decision.alert_count
    for i in range(layer.decision.alert_count):
        rule = &lane.rules.rules[layer.decision.alerts[i]]
        event_push(lane.events, EVENT_ALERT, layer.packet, layer.decision.alerts[i], lane.rules.generation, rule.sid,
                   rule.action, <uint8_t>layer.reason)


cdef inline void block_add(Lane *lane, const Layer *layer) noexcept nogil:
    cdef int added = blocks_insert(lane.blocks, <BlockScope>layer.decision.block_scope, &layer.packet.flow, lane.now,
                                   block_expires(lane.now, layer.decision.block_seconds), layer.sid)
    lane.stats.blocks_added += added == 1
    lane.stats.blocks_refused += added == 0


cdef inline void drop_follow(Lane *lane, const Layer *layer) noexcept nogil:
    """What a drop does besides: its event, its block, its reply."""
    cdef const Decision *d = &layer.decision
    cdef int sent
    event_push(lane.events, EVENT_DROP, layer.packet, d.rule, lane.rules.generation, layer.sid, d.action,
               <uint8_t>layer.reason)
    if d.block_scope != SCOPE_NONE:
        block_add(lane, layer)
    if layer.reason == R_REJECT and layer == &lane.outer:
        sent = reply_send(&lane.replies, layer.packet, d.action, lane.now)
        lane.stats.rejected += sent > 0
        lane.stats.replies_failed += sent < 0


# ---- reading


cdef inline void packet_read(Lane *lane, Packet *p) noexcept nogil:
    """Parse, and ask memory for what judging will look up."""
    p.fault = R_NONE
    if not p.flags & PACKET_BARE:
        p.fault = <uint8_t>parse_packet(p)
        rules_near(lane.rules, p)
        packet_ahead(lane.detect, p)


# ---- rules


cdef inline Reason layer_blocked(Lane *lane, Layer *layer) noexcept nogil:
    """What the block table says of a packet; an ICMP error is of the connection that it quotes, too (as in Suricata)."""
    cdef const Packet *p = layer.packet
    cdef Reason found = blocks_lookup(lane.blocks, &p.flow, lane.now, &layer.sid)
    cdef FlowTuple quoted
    cdef uint32_t sid = 0
    if found != R_NONE or p.flow.proto != PROTO_ICMP and p.flow.proto != PROTO_ICMPV6 or not parse_quoted(p, &quoted):
        return found
    if blocks_lookup(lane.blocks, &quoted, lane.now, &sid) != R_BLOCKED_CONNECTION:
        return R_NONE
    layer.sid = sid
    return R_BLOCKED_CONNECTION


cdef inline bint probe_mends(Lane *lane, const Layer *layer) noexcept nogil:
    """Whether what a stream refused for other bytes is a keep-alive probe that may go on with the byte that is held.

    Only of a packet from the queue, itself and not what it carries or completes: its answer is what brings the byte.
    """
    if not lane.bypass_bit or layer != &lane.outer or layer.packet == &layer.whole:
        return False
    lane.mends = mend_fits(layer.packet) and detect_holds(lane.detect, layer.packet, &lane.held)
    return lane.mends


cdef inline Reason layer_match(Lane *lane, Layer *layer, Reason parsed) noexcept nogil:
    """Which rules hold: of the headers, and of what flow, stream and application show. R_NONE, or why that cannot be judged."""
    cdef Reason found = parsed
    candidates_clear(&lane.detect.pending)
    layer.packet.alone_count = 0
    layer.packet.match_cut = <uint8_t>rules_match(lane.rules, layer.packet, layer.key, &lane.detect.pending)
    lane.detect.reach, lane.detect.reach_back = REACH_NEVER if lane.rules.needs_flows else REACH_ANY, REACH_ANY
    lane.detect.flow = NULL
    if layer.packet.flags & PACKET_FRAGMENT:
        rules_of_part(lane.rules, layer.packet)
    elif lane.rules.needs_flows and parsed == R_NONE:
        found = detect_packet(lane.detect, layer.packet, layer.key)
        if found == R_STREAM_OVERLAP and probe_mends(lane, layer):
            found = R_NONE
    lane.stats.matches_cut += layer.packet.match_cut
    return found


cdef inline Reason layer_decide(Lane *lane, Layer *layer) noexcept nogil:
    """From the rules that hold to a decision, for the flow of the packet too where a pass rule means it."""
    verdict_decide(lane.rules, lane.rates, layer.packet, &layer.decision)
    if layer.decision.pass_flow:
        detect_pass(lane.detect)
    return layer.decision.reason if layer.decision.reason != R_NONE else R_NO_VERDICT


cdef inline void detect_count(WorkerStats *stats, DetectCounts *counts) noexcept nogil:
    stats.candidates += counts.candidates
    stats.candidates_cut += counts.candidates_cut
    stats.streams_refused += counts.streams_refused
    stats.streams_unfollowed += counts.unfollowed
    memset(counts, 0, sizeof(DetectCounts))


cdef inline void flows_count(WorkerStats *stats, FlowCounts *flows, SessionCounts *sessions) noexcept nogil:
    stats.flows_created += flows.created
    stats.flows_expired += flows.expired
    stats.flows_evicted += flows.evicted
    stats.flows_rejected += flows.rejected
    stats.flowbits_rejected += flows.bits_rejected
    stats.sessions_opened += sessions.opened
    stats.sessions_rejected += sessions.rejected
    stats.sessions_displaced += sessions.displaced
    stats.sessions_discarded += sessions.discarded
    memset(flows, 0, sizeof(FlowCounts))
    memset(sessions, 0, sizeof(SessionCounts))


cdef inline void inspection_tidy(Lane *lane, uint64_t now_ns) noexcept nogil:
    """Behind a batch: forget flows that are over, publish what inspection counted."""
    if lane.rules.needs_flows:
        detect_tidy(lane.detect, now_ns)
        detect_count(lane.stats, &lane.detect.counts)
        flows_count(lane.stats, &lane.detect.flows.counts, &lane.detect.sessions.counts)


# ---- connections left to the kernel


cdef inline bint packet_plain(const Lane *lane, const Packet *p) noexcept nogil:
    """A packet that is of a connection of its own and nothing else: TCP or UDP, whole, no SYN, passed by the rules."""
    if p.fault != R_NONE or not p.flags & PACKET_PORTS or p.flags & (PACKET_FRAGMENT | PACKET_TUNNEL | PACKET_BARE):
        return False
    if reason_class(lane.outer.reason) != CLASS_PASS:
        return False
    return p.flow.proto == PROTO_UDP or p.flow.proto == PROTO_TCP and not p.tcp_flags & TCP_SYN


cdef inline bint bypass_begins(Lane *lane, const Packet *p) noexcept nogil:
    """Whether no rule can match the connection of a packet that was accepted; counts it."""
    cdef int state = lane.detect.reach
    if state != REACH_DECIDED and not reach_silent(lane.reach, p, lane.outer.key, state, lane.detect.reach_back):
        return False
    lane.stats.bypassed_flows += detect_bypass(lane.detect)
    lane.stats.bypass_marks += 1
    return True


cdef inline bint replies_begin(Lane *lane, const Packet *p) noexcept nogil:
    """Whether a packet is a reply that no rule reads, of a connection that is read without replies; counts it."""
    if not detect_lets_replies(lane.detect, p) or not reach_replies_silent(lane.reach, p, lane.outer.key):
        return False
    lane.stats.replies_left += detect_leave_replies(lane.detect)
    lane.stats.bypass_marks += 1
    return True


cdef inline uint32_t packet_bits(Lane *lane, const Packet *p, uint32_t mark) noexcept nogil:
    """The bits of the packet mark by which the chain is told to leave something to the kernel, or to take it back; 0: none.

    A packet that has one of them came back.
    """
    if not lane.bypass_bit or lane.detect.reach == REACH_NEVER or p.verdict != VERDICT_ACCEPT:
        return 0
    if mark & (lane.bypass_bit | lane.return_bit) or not packet_plain(lane, p):
        return 0
    if bypass_begins(lane, p):
        return lane.bypass_bit
    if lane.detect.flow == NULL or p.flow.proto != PROTO_TCP:
        return 0
    if replies_begin(lane, p):
        return lane.bypass_bit
    if not detect_returns(lane.detect, p):
        return 0
    lane.stats.replies_taken_back += 1
    return lane.return_bit


# ---- Python inspectors


cdef inline void packet_hand_over(Lane *lane, Packet *p) noexcept nogil:
    """A packet that passes goes to the inspector that a rule of it names, else to the one that its connection is marked for."""
    cdef Flow *f = lane.detect.flow
    cdef const Decision *d = &lane.outer.decision
    cdef uint32_t number, sid
    if lane.desks.count == 0:
        return
    if lane.outer.packet.flags & PACKET_TUNNEL and lane.inner.decision.inspector:
        d = &lane.inner.decision
    if f != NULL and d.inspector and d.inspect_flow:
        f.inspector, f.inspect_sid = <uint8_t>d.inspector, d.inspect_sid
    number, sid = d.inspector, d.inspect_sid
    if not 0 < number <= lane.desks.count and f != NULL:
        number, sid = f.inspector, f.inspect_sid
    if 0 < number <= lane.desks.count:
        p.handover = handover_note(&lane.desks, number, p, sid, f, lane.detect.side)
        p.verdict = VERDICT_QUEUE


cdef inline void packet_mend(Lane *lane, Queue *q, const Packet *p, uint32_t verdict, uint32_t mark) noexcept nogil:
    """Let a probe go on with the byte that is held, and count it."""
    mend_write(queue_replace(q, <uint32_t>p.number, verdict, mark, p.ip_len), p, lane.held)
    lane.stats.probes_mended += 1


cdef inline void packet_answer(Lane *lane, Queue *q, const Packet *p, uint32_t mark) noexcept nogil:
    """What the kernel is told."""
    cdef uint32_t bits = packet_bits(lane, p, mark)
    cdef uint32_t verdict = p.handover if p.verdict == VERDICT_QUEUE else p.verdict
    if lane.mends and p.verdict != VERDICT_DROP:
        packet_mend(lane, q, p, <uint32_t>VERDICT_REPEAT if bits else verdict, mark | bits)
    elif bits:
        queue_mark(q, <uint32_t>p.number, mark | bits)
    else:
        queue_verdict(q, <uint32_t>p.number, verdict)
    lane.mends = False


# ---- fragments


cdef inline void defrag_count(WorkerStats *stats, DefragCounts *counts) noexcept nogil:
    stats.fragments_completed += counts.completed
    stats.fragments_duplicate += counts.duplicates
    stats.fragments_overlapping += counts.overlaps
    stats.fragments_expired += counts.expired
    stats.fragments_displaced += counts.displaced
    stats.fragments_rejected += counts.rejected
    memset(counts, 0, sizeof(DefragCounts))


cdef inline bint fragment_take(Lane *lane, Layer *layer) noexcept nogil:
    """Add a fragment that was judged by what it shows to its datagram; True: that is whole now, and to be judged.

    What a block of addresses stops takes no room here. What is wrong with the datagram outweighs a fault of the part. A whole
    that was judged is judged again only where the fragment may still pass.
    """
    cdef Reason found
    if R_BLOCKED_SOURCE <= layer.reason <= R_BLOCKED_PAIR:
        return False
    found = defrag_add(layer.defrag, layer.packet, lane.now, &layer.piece)
    defrag_count(lane.stats, &layer.defrag.counts)
    lane.pieces = True
    if reason_class(layer.reason) == CLASS_STOP:
        return False
    if found != R_NONE:
        layer.reason, layer.sid, layer.decision.rule = found, layer.piece.sid, NO_RULE
        layer.verdict = reason_verdict(&lane.policies, found)
    return layer.piece.completes and not (layer.piece.again and layer.verdict == VERDICT_DROP)


cdef inline Reason whole_take(Lane *lane, Layer *layer) noexcept nogil:
    """Put the whole datagram in the place of the fragment that completed it; the fault of either."""
    cdef const Packet *last = layer.packet
    cdef Reason fault = defrag_whole(layer.defrag, layer.piece.tracker, last, &layer.whole)
    layer.packet.verdict = <uint8_t>layer.verdict
    alerts_push(lane, layer)
    layer.packet = &layer.whole
    return layer.reason if reason_class(layer.reason) != CLASS_PASS else fault


cdef inline void piece_settle(Layer *layer, const Layer *decider) noexcept nogil:
    """Tell a datagram what became of its fragment: of what was dropped, nothing may pass by another way."""
    cdef Tracker *t = layer.piece.tracker
    if t == NULL:
        return
    if reason_class(decider.reason) == CLASS_STOP:
        defrag_refuse(t, R_FRAG_DROPPED, decider.sid)
    elif decider.verdict == VERDICT_DROP:
        t.held = 1
    elif layer.piece.completes and not t.held and not t.refused:
        defrag_release(layer.defrag, t)
    layer.piece.tracker = NULL


cdef inline void pieces_settle(Lane *lane, const Layer *decider) noexcept nogil:
    lane.pieces = False
    piece_settle(&lane.outer, decider)
    piece_settle(&lane.inner, decider)


cdef class LaneHold:
    """Keeps alive what a Lane points into."""
    cdef Lane lane
    cdef CompiledRules rules
    cdef Detection detection
    cdef ReachHold reaching
    cdef tuple tables
    cdef HandoverBook book       # None: no inspectors
    cdef Reassembly outer_parts  # fragments
    cdef Reassembly inner_parts  # fragments inside tunnels


cdef class LiveLane(LaneHold):
    """A lane whose packets come from a queue."""
    cdef Queue queue
    cdef ControlPage control
    cdef uint64_t generation     # that this worker has, or was told of


cdef class CaptureLane(LaneHold):
    """A lane whose packets come from a capture."""
    cdef Capture capture
    cdef readonly bint cut       # the capture ended in the middle of a packet
    cdef object ask              # Python's answer to a packet that was handed over: (number, data, time) -> True to accept
    cdef uint64_t events_end(self, uint64_t limit) except 0

# Replay: let Python judge a packet that was handed over, at once.
cdef void inspector_ask(CaptureLane hold, Packet *p) noexcept with gil
