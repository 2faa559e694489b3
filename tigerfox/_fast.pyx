"""The worker: what happens to a packet, in order. The only file that knows the order of the stages.

What it owns
    Nothing: the Lane of one worker (lane.pyx) has the tables and the packet being judged.

Layout
    receive a batch ─▶ take and parse all of it, so that the waits for memory overlap ─▶ for each packet: blocked?, match,
    decide (the same for what a fragment completes, and inside a tunnel), settle: verdict, events, block, reply, counters,
    fragments ─▶ send the verdicts ─▶ publish

Invariants
    Run to completion: a batch is received, judged and answered before the next; rules change only in between. Every
    packet gets exactly one verdict: `verdict` is set once, in packet_settle, and a packet that no stage decided gets
    the policy for R_NO_VERDICT. Of a tunnel and what it carries the stricter verdict holds. A fragment that completes a
    packet gets that one's verdict; the others pass unless what they show stops them.

Who may write what
    WorkerStats and the event ring: this worker. Blocks and rates: any worker, through their stages.

What happens when full or broken
    Refusals of stages become counters of WorkerStats. Verdicts that cannot be sent end the worker (FAILED): its
    successor sends the packets through the hook again.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.ahead cimport packets_ahead
from tigerfox.dataplane.blocks cimport SCOPE_NONE
from tigerfox.dataplane.capture cimport Capture
from tigerfox.dataplane.check cimport TF_ASSERT
from tigerfox.dataplane.control cimport Control, control_stopped, control_wanted
from tigerfox.dataplane.image cimport ACTION_DROP, NO_RULE
from tigerfox.dataplane.lane cimport *
from tigerfox.dataplane.packet cimport *
from tigerfox.dataplane.parse cimport parse_inner
from tigerfox.dataplane.queue cimport *
from tigerfox.dataplane.reason cimport CLASS_STOP, R_DEFAULT, R_NONE, Reason, reason_class
from tigerfox.dataplane.stats cimport WorkerStats
from tigerfox.dataplane.verdict cimport Decision

# ---- one packet


cdef void layer_judge(Lane *lane, Layer *layer, Reason parsed) noexcept nogil:
    """Blocked? match, decide. Where the headers have a fault, what could be read is judged, and only a stop counts."""
    cdef Decision *d = &layer.decision
    cdef Reason fault = parsed
    d.rule, d.action, d.block_scope, d.alert_count = NO_RULE, ACTION_DROP, SCOPE_NONE, 0
    layer.sid, layer.reason, d.inspector = 0, R_DEFAULT, 0
    if not layer.packet.flags & PACKET_BARE:
        layer.reason = layer_blocked(lane, layer)
    if layer.reason == R_NONE:
        fault = layer_match(lane, layer, parsed)
        layer.reason = layer_decide(lane, layer)
    if fault != R_NONE and reason_class(layer.reason) != CLASS_STOP:
        layer.reason, d.rule = fault, NO_RULE
    layer.sid = lane.rules.rules[d.rule].sid if d.rule != NO_RULE else layer.sid
    layer.verdict = reason_verdict(&lane.policies, layer.reason)


cdef inline void part_judge(Lane *lane, Layer *layer, Reason parsed) noexcept nogil:
    """Judge what is in a layer; a fragment by what it shows, and then what it completes."""
    layer_judge(lane, layer, parsed)
    if layer.packet.flags & PACKET_FRAGMENT and fragment_take(lane, layer):
        layer_judge(lane, layer, whole_take(lane, layer))


cdef void packet_judge(Lane *lane, Packet *p) noexcept nogil:
    """Judge a packet that was read, and what it carries; the stricter of the two is what happens to it."""
    cdef Layer *decider = &lane.outer
    lane.outer.packet = p
    lane.inner.decision.alert_count, lane.detect.flow = 0, NULL
    part_judge(lane, &lane.outer, <Reason>p.fault)
    if lane.outer.packet.flags & PACKET_TUNNEL and lane.outer.verdict != VERDICT_DROP:
        lane.inner.packet = &lane.inner_packet
        part_judge(lane, &lane.inner, parse_inner(lane.outer.packet, &lane.inner_packet))
        if lane.inner.verdict == VERDICT_DROP:
            decider = &lane.inner
    packet_settle(lane, p, decider)


cdef void packet_settle(Lane *lane, Packet *p, Layer *decider) noexcept nogil:
    """The one exit: the verdict, and all that follows from it."""
    cdef WorkerStats *stats = lane.stats
    TF_ASSERT(decider.verdict == VERDICT_ACCEPT or decider.verdict == VERDICT_DROP)
    p.verdict = lane.outer.packet.verdict = lane.inner.packet.verdict = <uint8_t>decider.verdict
    alerts_push(lane, &lane.outer)
    alerts_push(lane, &lane.inner)
    stats.packets += 1
    stats.bytes += p.wirelen
    stats.reasons[<int>decider.reason] += 1
    if decider.verdict == VERDICT_DROP:
        stats.dropped += 1
        drop_follow(lane, decider)
    else:
        stats.accepted += 1
        packet_hand_over(lane, p)
    if lane.pieces:
        pieces_settle(lane, decider)


# ---- a queue's packets


cdef inline void message_read(Lane *lane, Queue *q, int i) noexcept nogil:
    lane.kinds[i] = <uint8_t>queue_take(q, i, &lane.packets[i])
    if lane.kinds[i] == MESSAGE_PACKET or lane.kinds[i] == MESSAGE_TRUNCATED:
        packet_read(lane, &lane.packets[i])


cdef void message_judge(Lane *lane, Queue *q, Packet *p, int kind, uint32_t mark) noexcept nogil:
    if kind == MESSAGE_PACKET or kind == MESSAGE_TRUNCATED:
        lane.stats.truncated += kind == MESSAGE_TRUNCATED
        queue_follow(q, <uint32_t>p.number)
        packet_judge(lane, p)
        packet_answer(lane, q, p, mark)
    elif kind == MESSAGE_UNCOPIED:
        queue_follow(q, <uint32_t>p.number)
        queue_verdict(q, <uint32_t>p.number, VERDICT_REPEAT)
    elif kind == MESSAGE_ERROR:
        lane.stats.verdict_errors += 1
    elif kind == MESSAGE_BAD:
        lane.stats.bad_messages += 1


cdef int batch_judge(Lane *lane, Queue *q, int n) noexcept nogil:
    """Read all of a batch, then judge it in order, then answer; 0, or errno when its verdicts cannot be sent."""
    cdef int i
    lane.now = <uint32_t>(q.now_ns // 1000000000)
    for i in range(n):
        message_read(lane, q, i)
    for i in range(n):
        packets_ahead(lane.detect, lane.packets, i, n)
        message_judge(lane, q, &lane.packets[i], lane.kinds[i], q.marks[i])
    cdef int failed = queue_send(q)
    inspection_tidy(lane, q.now_ns)
    batch_count(lane, q, n, failed == 0)
    return failed


cdef int queue_answer(Lane *lane, Queue *q, int n) noexcept nogil:
    """Deal with an answer of the queue: a batch or a QueueEvent; 0 to go on, or an ExitReason."""
    if n > 0:
        return EXIT_FAILED if batch_judge(lane, q, n) else 0
    if n == QUEUE_LOST:
        lane.stats.lost_enobufs += 1
    elif n == QUEUE_FAILED:
        return EXIT_FAILED
    return EXIT_SIGNALS if n == QUEUE_INTERRUPTED else 0


cdef int predecessor_settle(Lane *lane, Queue *q, uint32_t settle_to) noexcept nogil:
    """Send round again what a predecessor had taken, at once also when no packet comes (see queue.pyx)."""
    cdef int n = QUEUE_LOST
    while not q.seen and (n > 0 or n == QUEUE_LOST):
        lane.stats.heartbeat += 1
        n = queue_poll(q)
        if queue_answer(lane, q, n) == EXIT_FAILED:
            return EXIT_FAILED
    if not q.seen and settle_to:
        queue_settle(q, settle_to)
        lane.stats.repeated = settle_to
    return EXIT_FAILED if queue_send(q) else EXIT_SIGNALS


cdef int worker_loop(Lane *lane, Queue *q, const Control *control, uint64_t generation) noexcept nogil:
    """Turn until the control page or the socket says otherwise; an ExitReason."""
    cdef int turns, why
    for turns in range(TURNS_PER_LOOK):
        lane.stats.heartbeat += 1
        if control_stopped(control):
            return EXIT_STOP
        if control_wanted(control) != generation:
            return EXIT_RELOAD
        why = queue_answer(lane, q, queue_receive(q))
        if why:
            return why
    return EXIT_SIGNALS


cdef int replay_loop(CaptureLane hold, Lane *lane, Capture capture, uint64_t events_end) noexcept nogil:
    """Judge packets of a capture while their events find room; 1: there is more, else what capture_next said."""
    cdef uint64_t room = (events_end - lane.events.written[0]) // EVENTS_PER_PACKET
    cdef int i, n, got = 1
    while got == 1 and room:
        n = 0
        while n < REPLAY_GROUP and <uint64_t>n < room and got == 1:
            got = capture.capture_next(&lane.packets[n])
            if got == 1:
                packet_read(lane, &lane.packets[n])
                n += 1
        for i in range(n):
            packets_ahead(lane.detect, lane.packets, i, n)
            capture.capture_ahead(&lane.packets[i])
            lane.now = <uint32_t>(lane.packets[i].time_ns // 1000000000)
            packet_judge(lane, &lane.packets[i])
            if lane.packets[i].verdict == VERDICT_QUEUE:
                inspector_ask(hold, &lane.packets[i])
        if n:
            inspection_tidy(lane, lane.packets[n - 1].time_ns)
        room = (events_end - lane.events.written[0]) // EVENTS_PER_PACKET
    return got

# ---- Public API

STOP, RELOAD, FAILED = EXIT_STOP, EXIT_RELOAD, EXIT_FAILED


cdef class Worker(LiveLane):
    """The live worker of one queue; arguments as LiveLane."""

    def run(self, uint32_t settle_to=0):
        """Judge packets until asked to stop (STOP), to take other rules (RELOAD), or until the socket fails (FAILED).

        ``settle_to``: the queue's id_sequence, read after a predecessor's death; what that had taken is sent round
        again. After RELOAD, ``run`` goes on with the old rules unless ``set_rules`` was called: a generation is
        reported once.
        """
        cdef int why
        with nogil:
            why = predecessor_settle(&self.lane, &self.queue, settle_to)
        while why == EXIT_SIGNALS:
            PyErr_CheckSignals()
            with nogil:
                why = worker_loop(&self.lane, &self.queue, self.control.control, self.generation)
        if why == EXIT_RELOAD:
            self.generation = control_wanted(self.control.control)
        return why


cdef class Replay(CaptureLane):
    """Packets of a capture through the same stages, inline as live; arguments as CaptureLane."""

    def run(self, uint64_t limit_events=0):
        """Judge until the capture ends (False) or ``limit_events`` events wait to be read (True: drain and call again).

        0: as many as the ring holds. No event is overwritten as long as the caller drains in between.
        """
        cdef uint64_t end = self.events_end(limit_events)
        cdef int got
        with nogil:
            got = replay_loop(self, &self.lane, self.capture, end)
        self.cut = got < 0
        return got == 1
