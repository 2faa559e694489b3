"""Inspection: the flow of a packet, its stream, its application, its rules.

What it owns
    The Detect of one worker: pointers to flows, sessions, scanners, and two lists of candidates.

Layout
    flow_track ─▶ TCP: stream_take ─▶ message.pyx: application ─▶ payload: scan what is new, check candidates
                  UDP: message.pyx ────────────────────────────▶ payload

    For rules on the payload a TCP packet is two things: a piece of its stream (the last CHUNK bytes in order, or the packet's own
    with a third more, as Suricata inspects inline), and its own payload. Which one a rule means is its PayloadKind.

Invariants
    Only new bytes are scanned, with as much before them as a literal is long. A rule that a scan named and that does not hold yet
    stays with the stream until its place has left the chunk. No byte passes that was not taken into its stream or judged
    by itself: what the stream refuses has a reason of its own, and a policy.

    Replies that no rule reads are left to the kernel, where the reading of requests does not depend on them: HTTP without CONNECT
    or 101, what is none of the protocols read here, and TLS and SSH behind their beginnings. Their own stream is given up for good.
    What the client sends is followed as ever, by confirmations that may be old (tcp.pyx), so replies are asked back before
    that refuses anything: with RECALL bytes that are not known to be confirmed, which leaves a segment of 64 KB and more their
    room in the window; with a gap; with bytes sent again; and at the connection's end.

    A keep-alive probe of one byte other than the one that is held cannot pass then: the server may not have got that byte yet, and
    would take the probe's. With the held byte in its place (detect_holds, mend.pyx) it is a copy of what was inspected: it tells
    a server that has the byte nothing new, brings it to one that has not, and both answer. So the first copy holds.

Who may write what
    The worker: its flows, sessions, Detect, and the packet's matches.

What happens when full or broken
    No session: the stream is not followed, the packet is judged by itself, and it is counted. The inspection of a flow that gave
    way ends with it.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from tigerfox.dataplane.app.http cimport http_forget
from tigerfox.dataplane.app.httpmessage cimport HTTP_PROGRESS_HEAD, HTTP_RESPONSE, HttpSide
from tigerfox.dataplane.candidate cimport candidate_fire, candidate_holds, pending_join
from tigerfox.dataplane.candidates cimport candidates_add, candidates_clear, candidates_sort
from tigerfox.dataplane.flow cimport *
from tigerfox.dataplane.image cimport *
from tigerfox.dataplane.inspect cimport Bytes
from tigerfox.dataplane.message cimport datagram_read, stream_read
from tigerfox.dataplane.packet cimport PACKET_MATCHES, PACKET_PASSED, PACKET_PORTS, PACKET_STREAMED, Packet, payload_there
from tigerfox.dataplane.reach cimport (
    REACH_ANY, REACH_DECIDED, REACH_DEEP, REACH_FAILED, REACH_FAILED_DEEP, REACH_NEVER, REACH_REPLIES, REACH_SSH, REACH_SSH_DEEP,
    REACH_TLS, REACH_TLS_DEEP)
from tigerfox.dataplane.reason cimport (
    R_HTTP_CONNECT_UNSEEN, R_NONE, R_STREAM_LIMIT, R_STREAM_OUTSIDE, R_STREAM_OVERLAP, R_STREAM_SESSIONS,
    R_STREAM_UNSEEN, R_STREAM_URGENT)
from tigerfox.dataplane.scan cimport scan_view, traffic_of
from tigerfox.dataplane.scene cimport *
from tigerfox.dataplane.session cimport *
from tigerfox.dataplane.stream cimport *
from tigerfox.dataplane.tcp cimport PROTO_TCP, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG

cdef enum:
    PROTO_UDP = 17
    CHUNK = 2560                 # Suricata: stream.reassembly.toserver-chunk-size, toclient-chunk-size
    TIDY_FLOWS = 8               # flows looked at in one call of detect_tidy
    LITTLE = 16384               # bytes under way with which a wide stream is made narrow again
    RECALL = 16384               # bytes of requests not known to be confirmed with which replies are asked back

# Payload


cdef inline Bytes packet_payload(const Packet *p) noexcept nogil:
    cdef Bytes found
    found.data, found.n = p.data + p.payload_off, payload_there(p)
    return found


cdef inline Bytes stream_chunk(Scene *s) noexcept nogil:
    """The end of the stream: what rules on it look at."""
    cdef const Stream *stream = &s.session.streams[<int>s.side]
    cdef uint32_t fresh = stream_fresh(stream)
    cdef uint64_t want = max(<uint32_t>CHUNK, fresh + fresh // 3)
    cdef Bytes chunk
    chunk.n = <uint32_t>min(want, stream.end_at - stream_held_at(stream))
    chunk.data = stream_at(stream, session_window(s.session, s.side), stream.end_at - chunk.n)
    return chunk


cdef inline void payload_scan(Scene *s, const uint8_t *data, uint32_t n) noexcept nogil:
    cdef Detect *d = s.d
    cdef uint32_t i, traffic = traffic_of(s.p.flow.proto, s.side)
    for i in range(d.phase_count[<int>PHASE_PAYLOAD]):
        scan_view(d.scanners, d.rules, d.phase_views[<int>PHASE_PAYLOAD][i], traffic, data, n, &d.found)


cdef inline bint of_stream(uint8_t kind) noexcept nogil:
    return kind != PAYLOAD_PACKET


cdef inline bint of_packet(uint8_t kind, bint streamed) noexcept nogil:
    return kind == PAYLOAD_PACKET or kind == PAYLOAD_BOTH or kind == PAYLOAD_ANY and not streamed


cdef inline void note_alone(Packet *p, uint32_t number) noexcept nogil:
    if p.alone_count < PACKET_MATCHES:
        p.alone[p.alone_count] = number
        p.alone_count += 1


cdef bint payload_holds(Scene *s, uint32_t number, const Bytes *chunk, const Bytes *own, bint streamed) noexcept nogil:
    """A candidate against the stream, then against the packet; what holds for the packet alone is noted so."""
    cdef const Inspection *i = rule_inspection(s.d.rules, number)
    if i.part_count == 0:
        s.payload = own[0]
        return candidate_holds(s, number)
    if chunk.n and of_stream(i.payload):
        s.payload = chunk[0]
        if candidate_holds(s, number):
            return True
    s.payload = own[0]
    if own.n == 0 and i.payload != PAYLOAD_PACKET or not of_packet(i.payload, streamed) or not candidate_holds(s, number):
        return False
    note_alone(s.p, number)
    return True


cdef void payload_judge(Scene *s, Waiting *w, const Bytes *chunk, const Bytes *own, bint streamed, uint64_t at) noexcept nogil:
    """Check the candidates in their order; what the stream may still complete waits."""
    cdef Detect *d = s.d
    cdef const Inspection *inspection
    cdef uint32_t i, number
    d.counts.candidates_cut += d.found.cut
    candidates_sort(&d.found)
    for i in range(d.found.count):
        number = d.found.rules[i]
        inspection = rule_inspection(d.rules, number)
        if inspection == NULL or inspection.unit != UNIT_PACKET:
            continue
        if payload_holds(s, number, chunk, own, streamed):
            candidate_fire(s, number)
        elif w != NULL and inspection.scanned and of_stream(inspection.payload):
            waiting_add(w, number, at)
    if d.watch != NULL:
        d.watch(d.watcher, s, NO_RULE)
    candidates_clear(&d.found)


cdef inline void waiting_join(Detect *d, Waiting *w, uint64_t from_offset) noexcept nogil:
    """Rules that wait for more of the stream, as long as what named them is still in the chunk."""
    cdef uint32_t i
    for i in range(w.count):
        if w.since[i] >= from_offset and w.rules[i] < d.rules.rule_count:
            candidates_add(&d.found, w.rules[i])
    w.count = 0


cdef void payload_of_stream(Scene *s, const Bytes *own) noexcept nogil:
    """New bytes in order: scan them, and check against the end of the stream."""
    cdef Stream *stream = &s.session.streams[<int>s.side]
    cdef Waiting *w = &s.session.stream_waiting[<int>s.side]
    cdef Bytes chunk = stream_chunk(s)
    cdef uint32_t n = stream_fresh(stream) + LITERAL_MAX
    if w.cut or n > chunk.n:
        n = chunk.n
    w.cut = 0
    payload_scan(s, chunk.data + chunk.n - n, n)
    waiting_join(s.d, w, stream.end_at - chunk.n)
    pending_join(s.d, UNIT_PACKET)
    payload_judge(s, w, &chunk, own, True, stream.fresh_at)


cdef void payload_of_packet(Scene *s, const Bytes *own, bint streamed) noexcept nogil:
    cdef Bytes none
    none.data, none.n = NULL, 0
    if own.n and (not streamed or s.d.packet_scans):
        payload_scan(s, own.data, own.n)
    pending_join(s.d, UNIT_PACKET)
    payload_judge(s, NULL, &none, own, streamed, 0)

# TCP


cdef void session_forsake(Sessions *t, Flow *f, FlowFlag why) noexcept nogil:
    """Take its session from a flow, and say why it has none."""
    if session_of(t, f) != NULL:
        session_release(t, f.session)
    f.session = NO_SESSION
    f.flags |= why


cdef Session *session_make(Scene *s) noexcept nogil:
    """A session for a flow that never had one, another flow's idle one where none is free; NULL where there is none."""
    cdef Session *idle
    cdef Flow *other
    if s.flow.flags & FLOW_FORGOTTEN:
        return NULL
    if session_full(s.d.sessions):
        idle = session_idle(s.d.sessions, s.flow.last_ns)
        other = flow_at(s.d.flows, idle.flow) if idle != NULL else NULL
        if other != NULL and session_of(s.d.sessions, other) == idle:
            session_forsake(s.d.sessions, other, FLOW_FORGOTTEN)
    return session_open(s.d.sessions, s.flow, flow_number(s.d.flows, s.flow))


cdef inline Session *session_find(Scene *s, const Bytes *own) noexcept nogil:
    """The session of a followed connection, opened with its first byte; NULL with ``s.refused`` where it should have one."""
    cdef Session *found
    if not s.flow.flags & FLOW_INSPECT or s.flow.flags & FLOW_DEAF or not s.d.rules.needs_streams:
        return NULL
    found = session_of(s.d.sessions, s.flow)
    if found != NULL and found.broken or found == NULL and s.flow.session != <uint32_t>NO_SESSION:
        session_forsake(s.d.sessions, s.flow, FLOW_DEAF)         # a worker was killed while it changed it
        return NULL
    if found == NULL and own.n:
        found = session_make(s)
        s.refused = found == NULL
    if found != NULL and found.generation != s.d.rules.generation:
        session_forget(found)
        found.generation = s.d.rules.generation
    return found


cdef void session_forget(Session *s) noexcept nogil:
    """Other rules: numbers that stand here mean nothing now."""
    cdef int side
    for side in range(2):
        s.stream_waiting[side].count = s.stream_waiting[side].fired_count = 0
        s.messages[side].waiting.count = s.messages[side].waiting.fired_count = 0
        s.stream_waiting[side].cut = 1


cdef Reason stream_reason(StreamAnswer answer) noexcept nogil:
    if answer == STREAM_OVERLAP:
        return R_STREAM_OVERLAP
    if answer == STREAM_LIMIT:
        return R_STREAM_LIMIT
    if answer == STREAM_OUTSIDE:
        return R_STREAM_OUTSIDE
    return R_STREAM_UNSEEN if answer == STREAM_UNSEEN else R_NONE


cdef inline bint urgent_hides(const Scene *s) noexcept nogil:
    """An urgent pointer in what is, or may yet be, a protocol that is read here.

    The pointer counts without data too, and before them. Where nothing reads the protocol, the byte stays in its place.
    """
    if not s.p.tcp_flags & TCP_URG or not s.d.rules.needs_apps or s.flow.flags & (FLOW_INSPECT | FLOW_DEAF) != FLOW_INSPECT:
        return False
    return s.flow.app > APP_FAILED or not s.flow.app_tried[<int>s.side]


cdef inline bint side_over(const Flow *f, FlowSide number) noexcept nogil:
    cdef const TcpSide *side = &f.tcp[<int>number]
    cdef bint read = side.next_seq == side.fin_seq or f.flags & FLOW_REPLIES_LEFT and number == TO_CLIENT
    return side.fin and read and seq_from(side.acked, side.fin_seq) > 0


cdef inline bint connection_over(const Flow *f) noexcept nogil:
    """Whether both ends have confirmed each other's FIN, and all before them was inspected: neither reads any more.

    A slot that is given back here is the next one to be taken, and still in the cache.
    """
    return f.state == FLOW_CLOSED and side_over(f, TO_SERVER) and side_over(f, TO_CLIENT)


cdef inline void connection_end(Scene *s) noexcept nogil:
    if connection_over(s.flow):
        session_forsake(s.d.sessions, s.flow, FLOW_DEAF)
        s.session = NULL


cdef inline bint connect_unseen(const Scene *s) noexcept nogil:
    """Whether CONNECT came where the replies were left: they would tell what the bytes behind it are."""
    return s.flow.flags & FLOW_REPLIES_LEFT and (s.session.http.connected or s.session.tunnels)


cdef inline bint closed_before(const Scene *s, const Bytes *own) noexcept nogil:
    """Payload behind a FIN that ended a message in its middle: its receiver ignores it, or never had that FIN."""
    return (own.n and s.session.closed[<int>s.side]
            and seq_from(s.p.tcp_seq + own.n, s.session.closed_seq[<int>s.side]) > 0)


cdef Reason segment_refuse(Scene *s, const Bytes *own, Reason why) noexcept nogil:
    """A segment that its stream is not to take: judged by itself."""
    s.d.counts.streams_refused += 1
    payload_of_packet(s, own, False)
    return why


cdef inline int32_t under_way(const TcpSide *sender) noexcept nogil:
    """Inspected bytes of a side that are not known to be confirmed; negative where it confirmed what never came by."""
    return seq_from(sender.next_seq, sender.acked)


cdef inline void stream_narrow(Scene *s, const Stream *stream) noexcept nogil:
    """Let a wide stream hold no more than others where little is under way, or nothing is held."""
    cdef uint64_t held = stream.end_at - stream.base
    cdef bint little = under_way(&s.flow.tcp[<int>s.side]) <= LITTLE
    if held <= STREAM_NARROW and stream.run_count == 0 and (little or stream.skipped and held == 0):
        session_narrow(s.d.sessions, s.session, s.side)


cdef Reason segment_inspect(Scene *s, const Bytes *own) noexcept nogil:
    cdef StreamAnswer answer = STREAM_UNKNOWN
    cdef Stream *stream
    cdef Reason why
    if urgent_hides(s):
        return segment_refuse(s, own, R_STREAM_URGENT)
    s.session = session_find(s, own)
    if s.session == NULL:
        if own.n and s.d.rules.needs_streams:
            s.d.counts.unfollowed += 1
        payload_of_packet(s, own, False)
        return R_STREAM_SESSIONS if s.refused else R_NONE
    if s.flow.flags & FLOW_REPLIES_LEFT and s.side == TO_CLIENT:
        payload_of_packet(s, own, False)
        connection_end(s)
        return R_NONE
    s.session.seen_ns = s.flow.last_ns
    if closed_before(s, own):
        return segment_refuse(s, own, R_STREAM_OUTSIDE)
    if own.n and connect_unseen(s):
        return segment_refuse(s, own, R_HTTP_CONNECT_UNSEEN)
    session_begin(s.d.sessions, s.session)
    stream = &s.session.streams[<int>s.side]
    if own.n and not stream.wide and under_way(&s.flow.tcp[<int>s.side]) + <int32_t>own.n > STREAM_NARROW // 2:
        session_widen(s.d.sessions, s.session, s.side)
    answer = stream_take(stream, session_window(s.session, s.side), s.flow, s.side, s.p, s.d.depth)
    if stream.wide:
        stream_narrow(s, stream)
    if answer <= STREAM_WAITING:
        s.p.flags |= PACKET_STREAMED
    if answer == STREAM_NEW or stream.ended:
        stream_read(s, stream.ended)
    if answer == STREAM_NEW:
        payload_of_stream(s, own)
    else:
        payload_of_packet(s, own, answer <= STREAM_WAITING)
    session_end(s.d.sessions)
    why = R_HTTP_CONNECT_UNSEEN if connect_unseen(s) else stream_reason(answer)
    connection_end(s)
    if own.n == 0 or why == R_NONE:
        return R_NONE
    s.d.counts.streams_refused += 1
    return why

# A packet


cdef inline void orphans_release(Detect *d) noexcept nogil:
    cdef uint32_t number = flow_orphan(d.flows)
    if number != <uint32_t>NO_SESSION:
        session_release(d.sessions, number)


cdef void matches_of_flow(const RuleSet *rs, Packet *p) noexcept nogil:
    """Take out what was said of the flow when it began: alerts on addresses alone (Suricata: IP-only signatures)."""
    cdef int i, kept = 0
    for i in range(p.match_count):
        if not rs.rules[p.matches[i]].of_addresses:
            p.matches[kept] = p.matches[i]
            kept += 1
    p.match_count = <uint8_t>kept


cdef inline bint parsers_done(const Session *s) noexcept nogil:
    return s.app_done[0] and s.app_done[1]


cdef uint8_t direction_reach(const Flow *f, const Session *s, int side) noexcept nogil:
    """What is known of a direction. Where the protocol is not known, the answer's first bytes may yet tell it: a parser then
    begins with what is held of the other side's beginning.
    """
    cdef const Stream *stream = &s.streams[side]
    cdef bint deep = stream.skipped != 0
    if f.app == APP_FAILED:
        return REACH_FAILED_DEEP if deep else REACH_FAILED
    if f.app == APP_TLS and parsers_done(s):
        return REACH_TLS_DEEP if deep else REACH_TLS
    if f.app == APP_SSH and parsers_done(s):
        return REACH_SSH_DEEP if deep else REACH_SSH
    if deep and (s.app_done[side] or s.fed[side] < stream_held_at(stream)):
        return REACH_DEEP
    return REACH_REPLIES if side == TO_CLIENT and not f.flags & FLOW_MIDSTREAM else REACH_ANY


cdef uint8_t reach_of(const Scene *s) noexcept nogil:
    """What is known of the packet's connection, for who asks whether rules can still match it.

    A TCP connection is left alone until its handshake is over, so that rules of a later set see it as established.
    """
    if s.flow == NULL:
        return REACH_NEVER
    if s.p.flow.proto != PROTO_TCP:
        s.d.reach_back = REACH_FAILED if s.flow.app == APP_FAILED else REACH_ANY
        return s.d.reach_back
    if s.p.tcp_flags & TCP_SYN or not s.flow.flags & (FLOW_OPENED | FLOW_MIDSTREAM):
        return REACH_NEVER
    if s.session == NULL:
        return REACH_ANY
    s.d.reach_back = direction_reach(s.flow, s.session, 1 - <int>s.side)
    return direction_reach(s.flow, s.session, s.side)


cdef bint flow_decided(Detect *d, Flow *f, Packet *p) noexcept nogil:
    """Whether the kernel has this connection already, or a pass rule let it through, under these rules.

    Under others it is one whose middle was not seen.
    """
    if f.bypassed == 0 or p.flow.proto == PROTO_TCP and p.tcp_flags & TCP_SYN and not f.flags & FLOW_PASSED:
        return False
    if f.bypassed == d.rules.generation:
        d.reach = REACH_DECIDED
        if f.flags & FLOW_PASSED:
            p.flags |= PACKET_PASSED
            p.match_count = 0
        return True
    f.bypassed = 0
    f.flags &= ~FLOW_PASSED
    return False


cdef void flow_leave(Detect *d, Flow *f) noexcept nogil:
    """Look into a flow no more: give up what was kept for it."""
    f.bypassed = d.rules.generation
    session_forsake(d.sessions, f, FLOW_DEAF)


cdef void detect_pass(Detect *d) noexcept nogil:
    if d.flow != NULL:
        flow_leave(d, d.flow)
        d.flow.flags |= FLOW_PASSED


cdef bint detect_bypass(Detect *d) noexcept nogil:
    """Nothing can match the connection of the packet inspected last: give up what was kept for it; False: it was so before.

    Its acknowledgements will not be seen, so its stream is not followed again; a SYN makes another connection of it.
    """
    cdef Flow *f = d.flow
    if f == NULL:
        return True
    if f.bypassed == d.rules.generation and not f.flags & FLOW_PASSED:
        return False
    flow_leave(d, f)
    f.flags &= ~FLOW_PASSED
    if f.key.proto == PROTO_TCP:
        f.state = FLOW_CLOSED
    return True


# Replies alone


cdef inline bint requests_known(const Flow *f) noexcept nogil:
    """Whether all that the client has sent was inspected, and almost all of it is known to have arrived."""
    cdef const TcpSide *client = &f.tcp[<int>TO_SERVER]
    return client.high_seq == client.next_seq and under_way(client) <= RECALL


cdef inline bint head_known(const Session *s) noexcept nogil:
    """Whether the head of the reply under way, if it is read at all, was whole and no 1xx, which may be 101 or come before it."""
    cdef const HttpSide *reply = &s.http.side[<int>TO_CLIENT]
    return s.app_done[<int>TO_CLIENT] or reply.progress >= HTTP_PROGRESS_HEAD and reply.status >= 200


cdef inline bint replies_unneeded(const Flow *f, const Session *s) noexcept nogil:
    """Whether requests are read the same without replies."""
    if f.app == APP_HTTP:
        return s.app == APP_HTTP and not (s.http.upgraded or s.http.connected or s.tunnels) and head_known(s)
    return f.app == APP_FAILED or (f.app == APP_TLS or f.app == APP_SSH) and parsers_done(s)


cdef bint detect_lets_replies(Detect *d, const Packet *p) noexcept nogil:
    cdef Flow *f = d.flow
    cdef Session *s
    if d.side != TO_CLIENT or p.tcp_flags & (TCP_FIN | TCP_RST) or f.state != FLOW_ESTABLISHED or f.inspector:
        return False
    if f.flags & (FLOW_OPENED | FLOW_INSPECT | FLOW_DEAF | FLOW_FORGOTTEN | FLOW_MIDSTREAM | FLOW_IGNORED | FLOW_SPLIT) \
            != FLOW_OPENED | FLOW_INSPECT or not requests_known(f):
        return False
    s = session_of(d.sessions, f)
    return s != NULL and not s.broken and replies_unneeded(f, s)


cdef bint detect_leave_replies(Detect *d) noexcept nogil:
    cdef Flow *f = d.flow
    cdef Session *s = session_of(d.sessions, f)
    f.flags |= FLOW_REPLIES_AWAY
    if f.flags & FLOW_REPLIES_LEFT or s == NULL:
        return False
    session_begin(d.sessions, s)
    f.flags |= FLOW_REPLIES_LEFT
    s.app_done[<int>TO_CLIENT] = 1
    s.stream_waiting[<int>TO_CLIENT].count = s.messages[<int>TO_CLIENT].waiting.count = 0
    if s.app == APP_HTTP:
        http_forget(&s.http, HTTP_RESPONSE, d.sessions.pool)
    session_end(d.sessions)
    return True


cdef bint detect_returns(Detect *d, const Packet *p) noexcept nogil:
    """A reply that is not left says by itself that they are back; what the client sends asks until one comes."""
    cdef Flow *f = d.flow
    cdef const Session *s
    if not f.flags & (FLOW_REPLIES_LEFT | FLOW_REPLIES_AWAY):
        return False
    if d.side == TO_CLIENT:
        if not f.flags & FLOW_REPLIES_AWAY or p.tcp_flags & (TCP_FIN | TCP_RST):
            return False
        f.flags &= ~FLOW_REPLIES_AWAY
        return True
    s = session_of(d.sessions, f)
    if f.flags & FLOW_REPLIES_AWAY and (s == NULL or f.state != FLOW_ESTABLISHED or not requests_known(f)):
        return True
    return s != NULL and p.payload_len and not s.streams[<int>TO_SERVER].offered and not s.streams[<int>TO_SERVER].skipped


cdef bint detect_holds(Detect *d, const Packet *p, uint8_t *held) noexcept nogil:
    """A keep-alive probe brings one byte of its own making in the place of the last that was sent, which may not have arrived."""
    cdef Flow *f = d.flow
    cdef Session *s
    cdef Stream *stream
    if f == NULL or d.side != TO_SERVER or not f.flags & (FLOW_REPLIES_LEFT | FLOW_REPLIES_AWAY):
        return False
    if p.payload_len != 1 or p.tcp_flags & ~TCP_PSH != TCP_ACK or p.tcp_seq + 1 != f.tcp[<int>TO_SERVER].next_seq:
        return False
    s = session_of(d.sessions, f)
    if s == NULL or s.broken:
        return False
    stream = &s.streams[<int>TO_SERVER]
    if stream.end_at <= stream_held_at(stream):
        return False
    held[0] = stream_at(stream, session_window(s, TO_SERVER), stream.end_at - 1)[0]
    return True


cdef Reason detect_packet(Detect *d, Packet *p, const uint32_t *key) noexcept nogil:
    cdef Scene s                 # its buffers are set with what they belong to
    cdef Reason found
    s.d, s.p, s.key = d, p, key
    s.flow, s.session, s.refused, s.side = NULL, NULL, False, TO_SERVER
    s.payload.data, s.payload.n = NULL, 0
    s.http, s.tls, s.ssh, s.dns = NULL, NULL, NULL, NULL
    found = scene_inspect(&s)
    d.flow, d.side = s.flow, s.side
    if d.reach != REACH_DECIDED:
        d.reach = reach_of(&s)
    return found


cdef Reason scene_inspect(Scene *s) noexcept nogil:
    cdef Detect *d = s.d
    cdef Packet *p = s.p
    cdef Bytes own = packet_payload(p)
    d.reach = REACH_NEVER
    if d.rules.needs_flows:
        s.flow = flow_track(d.flows, p, &s.side)
        orphans_release(d)
        if s.flow != NULL and flow_decided(d, s.flow, p):
            return R_NONE
        if p.match_count and s.flow != NULL and s.flow.packets[<int>s.side] > 1:
            matches_of_flow(d.rules, p)
    if p.flow.proto == PROTO_TCP and s.flow != NULL and p.flags & PACKET_PORTS:
        return segment_inspect(s, &own)
    if p.flow.proto == PROTO_UDP and s.flow != NULL and d.rules.needs_apps and own.n:
        s.payload = own
        datagram_read(s)
    payload_of_packet(s, &own, False)
    return R_NONE


cdef void detect_tidy(Detect *d, uint64_t now_ns) noexcept nogil:
    cdef Flow gone
    cdef int i
    for i in range(TIDY_FLOWS):
        if not flow_expire(d.flows, now_ns, &gone):
            return
        session_release(d.sessions, gone.session)

cdef int sessions_sweep(FlowTable *flows, Sessions *sessions) except -1:
    """Release the sessions that no flow has: a predecessor was killed between the end of a flow and its release."""
    cdef uint32_t i, touched = min(sessions.state.touched, sessions.capacity)
    cdef uint8_t *owned = <uint8_t *>calloc(touched + 1, 1)
    cdef Flow *f
    if owned == NULL:
        raise MemoryError
    for i in range(flows.shared.made):
        f = flow_at(flows, i)
        if f != NULL and session_of(sessions, f) != NULL and f.session < touched:
            owned[f.session] = 1
        if f != NULL and f.flags & FLOW_REPLIES_LEFT:            # whether the predecessor's answers went out is not known
            f.flags |= FLOW_REPLIES_AWAY
    for i in range(touched):
        if not owned[i]:
            session_release(sessions, i)
    free(owned)
    return 0

# Public API


cdef int phase_of(const View *view, int side) noexcept:
    """The phase in which a view's buffer is whole, on a side (0 requests); -1 where the side does not have it."""
    cdef int buffer = view.buffer
    cdef int line = PHASE_REQUEST_LINE if side == 0 else PHASE_RESPONSE_LINE
    if buffer == BUF_PAYLOAD:
        return PHASE_PAYLOAD if side == 0 else -1
    if buffer == BUF_DNS_QUERY:
        return PHASE_DNS if side == 0 else -1
    if buffer in (BUF_TLS_SNI, BUF_JA3_HASH, BUF_JA3_STRING):
        return PHASE_TLS_CLIENT if side == 0 else -1
    if buffer in (BUF_JA3S_HASH, BUF_JA3S_STRING):
        return PHASE_TLS_SERVER if side == 1 else -1
    if BUF_TLS_CERT_SUBJECT <= buffer <= BUF_TLS_CERTS:
        return PHASE_TLS_CERTS if side == 1 else -1
    if buffer == BUF_TLS_VERSION:
        return PHASE_TLS_CLIENT if side == 0 else PHASE_TLS_SERVER
    if BUF_IPV4_HEADER <= buffer <= BUF_ICMPV6_HEADER:
        return -1
    if buffer in (BUF_SSH_PROTO, BUF_SSH_SOFTWARE):
        return PHASE_SSH if side == 0 else -1
    if buffer in (BUF_HTTP_REQUEST_FIELD, BUF_HTTP_RESPONSE_FIELD):
        return line + 1 if (side == 0) == (buffer == BUF_HTTP_REQUEST_FIELD) else -1
    if buffer <= BUF_HTTP_STAT_MSG:
        return line
    return line + 2 if buffer >= BUF_HTTP_REQUEST_BODY else line + 1


cdef bint scanned(const Scanners *s, uint32_t view) noexcept:
    """Whether anything is looked for in a view."""
    cdef uint32_t scan
    for scan in range(view * TRAFFIC_COUNT, (view + 1) * TRAFFIC_COUNT):
        if s.databases[scan] != NULL:
            return True
    return False


cdef class Detection:
    """The inspection of one worker: ``flows`` and ``sessions`` of its queue, ``depth`` in bytes of each direction (0: no bound)."""

    def __cinit__(self):
        cdef HttpMemory *draft
        self.detect = <Detect *>calloc(1, sizeof(Detect))
        if self.detect == NULL:
            raise MemoryError
        draft = &self.detect.draft
        draft.head.data = <uint8_t *>calloc(1, SESSION_HEAD + SESSION_BODY)
        if draft.head.data == NULL:
            raise MemoryError
        draft.body.data = draft.head.data + SESSION_HEAD
        draft.head.size, draft.body.size = SESSION_HEAD, SESSION_BODY

    def __dealloc__(self):
        cdef int phase
        if self.detect != NULL:
            free(self.detect.draft.head.data)
            for phase in range(<int>PHASE_COUNT):
                free(self.detect.phase_views[phase])
        free(self.detect)

    def __init__(self, Flows flows not None, SessionTable sessions not None, uint32_t depth=1 << 20):
        self.flows, self.sessions = flows, sessions
        flows.recover()
        sessions.bind()
        sessions_sweep(&flows.table, &sessions.sessions)
        self.detect.flows, self.detect.sessions, self.detect.depth = &flows.table, &sessions.sessions, depth

    cdef int use(self, CompiledRules rules) except -1:
        """Inspect by these rules from the next packet on. Raises MemoryError, or SharedMemoryError for a damaged image."""
        cdef ScannerHold scanners = ScannerHold(rules)
        cdef InspectorHold inspector = InspectorHold(rules)
        cdef int phase, side
        cdef uint32_t view
        cdef uint32_t *views[PHASE_COUNT]
        for phase in range(<int>PHASE_COUNT):
            views[phase] = <uint32_t *>calloc(rules.rules.view_count + 1, sizeof(uint32_t))
            if views[phase] == NULL:
                raise MemoryError
            free(self.detect.phase_views[phase])
            self.detect.phase_views[phase], self.detect.phase_count[phase] = views[phase], 0
        for view in range(rules.rules.view_count):
            for side in range(2):
                phase = phase_of(&rules.rules.views[view], side)
                if phase >= 0 and scanned(&scanners.scanners, view):
                    self.detect.phase_views[phase][self.detect.phase_count[phase]] = view
                    self.detect.phase_count[phase] += 1
        self.detect.packet_scans = 0
        for view in range(rules.rules.inspection_count):
            if rules.rules.inspections[view].scanned and rules.rules.inspections[view].payload in (PAYLOAD_PACKET, PAYLOAD_BOTH):
                self.detect.packet_scans = 1
        self.rules, self.scanners, self.inspector = rules, scanners, inspector
        self.detect.rules, self.detect.scanners = &rules.rules, &scanners.scanners
        self.detect.inspector = &inspector.inspector
        return 0
