"""Messages: which protocol a flow speaks, its parser, and the rules that look at what the parser found.

What it owns
    Nothing; the state lies in the flow's Session.

Layout
    bytes ─▶ known protocol? ─no─▶ probe both sides until one says yes, or all say no
                   └─▶ feed the parser up to its next answer ─▶ judge ─▶ feed the rest ...

    To judge is: scan the buffers that became whole (or longer) since the last time, add the rules that wait for this message and
    those that nothing scans for, check them in their order. What may still hold when more of the message is there, waits.

Invariants
    A rule matches a message once. A buffer is scanned once; a body as it grows, with as much of what was there before as a
    literal is long. Bytes reach the parser in order and once. Whatever the segments were, the last one that a match needs finds it.

Who may write what
    The worker of the flow: its session.

What happens when full or broken
    Behind bytes that never came by, a parser reads no more. A rule that finds no room to wait is counted, and the message's
    buffers are scanned again with the next bytes. A broken parser ends the reading of its side; rules on the stream go on.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from tigerfox.dataplane.app.buffer cimport (
    APP_BROKEN, APP_COMPLETE, APP_LIMIT, APP_NEED_MORE, APP_NOT_THIS, PROBE_NO, PROBE_YES, AppAnswer, AppBuffer, AppProbe)
from tigerfox.dataplane.app.dns cimport dns_feed, dns_parse, dns_probe, dns_probe_stream
from tigerfox.dataplane.app.http cimport (
    HTTP_PROBE_NO, HTTP_PROBE_YES, HttpProbe, http_close, http_feed, http_flow_init, http_probe, http_release)
from tigerfox.dataplane.app.httpmessage cimport *
from tigerfox.dataplane.app.ssh cimport ssh_feed, ssh_probe
from tigerfox.dataplane.app.tls cimport tls_feed, tls_probe
from tigerfox.dataplane.app.tlsstate cimport (
    TLS_ENCRYPTED, TLS_SEEN_CERTIFICATE, TLS_SEEN_CLIENT_HELLO, TLS_SEEN_SERVER_HELLO, TlsState)
from tigerfox.dataplane.candidate cimport buffer_repeats, candidate_fire, candidate_holds, http_fetch, pending_join, scene_fetch
from tigerfox.dataplane.candidates cimport candidates_add, candidates_clear, candidates_sort
from tigerfox.dataplane.draft cimport draft_close, draft_open
from tigerfox.dataplane.flow cimport TO_CLIENT, TO_SERVER
from tigerfox.dataplane.image cimport *
from tigerfox.dataplane.inspect cimport Bytes, view_bytes
from tigerfox.dataplane.packet cimport payload_there
from tigerfox.dataplane.scan cimport scan_looks, scan_view, traffic_of
from tigerfox.dataplane.scene cimport *
from tigerfox.dataplane.session cimport *
from tigerfox.dataplane.stream cimport Stream, stream_at, stream_held_at
from tigerfox.dataplane.tcp cimport TCP_SYN

cdef enum:
    EITHER_SIDE = 2              # Inspection.side
    LOOK_BYTES = 4096            # of a side, after which its protocol must be known

# Rules of a message


cdef inline void raw_scan(Detect *d, uint32_t view, uint32_t traffic, Bytes raw) noexcept nogil:
    """Scan bytes of a buffer as a view sees them."""
    if d.rules.views[view].transform[0]:
        raw = view_bytes(d.inspector, d.rules, view, raw)
    scan_view(d.scanners, d.rules, view, traffic, raw.data, raw.n, &d.found)


cdef inline bint first_fetch(Scene *s, uint8_t buffer, Bytes *out) noexcept nogil:
    """The first instance of a buffer of the message at hand."""
    if s.http == NULL or buffer_repeats(buffer):
        return scene_fetch(s, buffer, 0, out)
    return http_fetch(s, buffer, out)


cdef void others_scan(Scene *s, uint32_t view, uint32_t traffic) noexcept nogil:
    """Scan all instances of a buffer but the first."""
    cdef Bytes raw
    cdef uint32_t index = 1
    while scene_fetch(s, s.d.rules.views[view].buffer, index, &raw):
        raw_scan(s.d, view, traffic, raw)
        index += 1


cdef void phase_scan(Scene *s, uint32_t phase, uint32_t skip) noexcept nogil:
    """Scan the buffers of a phase, from `skip` bytes on; those that repeat are scanned whole."""
    cdef Detect *d = s.d
    cdef const uint32_t *view = d.phase_views[phase]
    cdef const uint32_t *end = view + d.phase_count[phase]
    cdef uint32_t traffic = traffic_of(s.p.flow.proto, s.side)
    cdef Bytes raw
    while view < end:
        if scan_looks(d.scanners, view[0], traffic) and first_fetch(s, d.rules.views[view[0]].buffer, &raw):
            if skip < raw.n or not skip:
                raw.data += skip
                raw.n -= skip
                raw_scan(d, view[0], traffic, raw)
            if buffer_repeats(d.rules.views[view[0]].buffer):
                others_scan(s, view[0], traffic)
        view += 1


cdef inline bint has_fired(const Waiting *w, uint32_t number) noexcept nogil:
    cdef int i
    for i in range(w.fired_count):
        if w.fired[i] == number:
            return True
    return False


cdef void candidates_join(Scene *s, Waiting *w) noexcept nogil:
    """The scan's finds, those that waited, and those that nothing scans for, in the order in which rules decide."""
    cdef Detect *d = s.d
    cdef uint32_t i
    for i in range(w.count):
        if w.rules[i] < d.rules.rule_count:
            candidates_add(&d.found, w.rules[i])
    w.count = 0
    pending_join(d, UNIT_TRANSACTION)
    d.counts.candidates_cut += d.found.cut
    candidates_sort(&d.found)


cdef void message_judge(Scene *s, Waiting *w, uint8_t progress, bint more) noexcept nogil:
    """Check the candidates of a message that has come so far; `more`: it may still grow."""
    cdef Detect *d = s.d
    cdef const Inspection *inspection
    cdef uint32_t i, number
    candidates_join(s, w)
    for i in range(d.found.count):
        number = d.found.rules[i]
        inspection = rule_inspection(d.rules, number)
        if inspection == NULL:
            continue
        if inspection.side != EITHER_SIDE and inspection.side != <uint8_t>s.side or has_fired(w, number):
            continue
        if inspection.progress <= progress and candidate_holds(s, number):
            candidate_fire(s, number)
            if w.fired_count < FIRED_RULES:
                w.fired[w.fired_count] = number
                w.fired_count += 1
        elif more and inspection.scanned and not waiting_add(w, number, 0):
            d.counts.candidates_cut += 1
    if d.watch != NULL:
        d.watch(d.watcher, s, NO_RULE)
    candidates_clear(&d.found)


cdef inline void message_new(Message *m, uint32_t transaction) noexcept nogil:
    m.transaction = transaction
    m.looked = 0
    m.body_looked = 0
    m.progress = 0
    m.waiting.count = m.waiting.fired_count = m.waiting.cut = 0

# HTTP


cdef inline uint32_t body_skip(const Message *m) noexcept nogil:
    """What of a body need not be scanned again."""
    return m.body_looked - LITERAL_MAX if m.body_looked > LITERAL_MAX and not m.waiting.cut else 0


cdef void http_judge(Scene *s) noexcept nogil:
    """What came since the last look: line, head, body."""
    cdef Message *m = &s.session.messages[<int>s.side]
    cdef HttpSide *h = s.http
    cdef uint32_t line = PHASE_REQUEST_LINE if s.side == TO_SERVER else PHASE_RESPONSE_LINE
    cdef bint grown
    if m.transaction != h.transaction or h.progress < m.progress:
        message_new(m, h.transaction)
    grown = h.body_len > m.body_looked
    if h.progress == m.progress and not grown:
        return
    if m.progress < HTTP_PROGRESS_LINE <= h.progress:
        phase_scan(s, line, 0)
    if m.progress < HTTP_PROGRESS_HEAD <= h.progress:
        phase_scan(s, line + 1, 0)
    if grown:
        phase_scan(s, line + 2, body_skip(m))
        m.body_looked = h.body_len
    m.progress = h.progress
    m.waiting.cut = 0
    message_judge(s, &m.waiting, h.progress, h.progress != HTTP_PROGRESS_COMPLETE)


cdef void tunnel_open(Scene *s) noexcept nogil:
    """Behind CONNECT another protocol begins: both sides are looked at anew. Behind 101 the flow stays one of HTTP."""
    cdef int side
    http_release(&s.session.http, s.d.sessions.pool)
    http_flow_init(&s.session.http, SESSION_HEAD, SESSION_HEAD)
    s.flow.app = s.session.app = APP_UNKNOWN
    s.session.tunnels += 1
    for side in range(2):
        s.flow.app_tried[side] = 0
        s.session.app_done[side] = s.session.tunnels > TUNNELS
        s.session.fed[side] = s.session.told[side]
        message_new(&s.session.messages[side], 0)


cdef uint64_t http_read(Scene *s, const uint8_t *data, uint32_t n, uint64_t offset) noexcept nogil:
    """Feed the parser and judge at each of its answers; the offset at which the last message that ended here began."""
    cdef HttpAnswer answer = HTTP_MORE
    cdef uint32_t taken = 0, at = 0
    cdef uint64_t begun = offset, begins = offset
    while at < n:
        answer = http_feed(&s.session.http, <HttpDirection><int>s.side, &s.memory, s.d.sessions.pool, data + at, n - at, &taken)
        at += taken
        http_judge(s)
        if answer == HTTP_COMPLETE or answer == HTTP_HEAD:
            s.session.told[<int>s.side] = offset + at
        elif answer == HTTP_TUNNEL and not s.session.http.upgraded:
            tunnel_open(s)
            break
        elif answer == HTTP_TUNNEL or answer == HTTP_BROKEN:
            s.session.app_done[<int>s.side] = 1
            break
        if answer == HTTP_COMPLETE:
            begun, begins = begins, offset + at
        elif answer == HTTP_INTERIM:
            message_new(&s.session.messages[<int>s.side], s.http.transaction)    # the response proper is another one to rules
        if taken == 0 and answer == HTTP_MORE:
            break
    return begun


cdef void http_run(Scene *s, const uint8_t *data, uint32_t n, bint ended, uint64_t offset) noexcept nogil:
    s.http = &s.session.http.side[<int>s.side]
    if draft_open(s, data[0] if n else 0, offset):
        draft_close(s, http_read(s, data, n, offset), offset + n)
    else:
        s.session.app_done[<int>s.side] = 1
    if ended and s.session.app == APP_HTTP and not s.session.app_done[<int>s.side]:
        session_http_memory(s.session, s.side, &s.memory)
        if http_close(&s.session.http, <HttpDirection><int>s.side, &s.memory, s.d.sessions.pool) == HTTP_COMPLETE:
            s.session.closed[<int>s.side] = 1
            s.session.closed_seq[<int>s.side] = s.flow.tcp[<int>s.side].fin_seq
        http_judge(s)
    s.http = NULL

# TLS


cdef void tls_judge(Scene *s) noexcept nogil:
    cdef Message *m = &s.session.messages[<int>s.side]
    cdef uint64_t fresh = s.tls.seen & ~m.looked
    cdef bint client = s.side == TO_SERVER
    if not fresh & (TLS_SEEN_CLIENT_HELLO | TLS_SEEN_SERVER_HELLO | TLS_SEEN_CERTIFICATE):
        return
    if fresh & TLS_SEEN_CLIENT_HELLO and client:
        phase_scan(s, PHASE_TLS_CLIENT, 0)
    if fresh & TLS_SEEN_SERVER_HELLO and not client:
        phase_scan(s, PHASE_TLS_SERVER, 0)
    if fresh & TLS_SEEN_CERTIFICATE and not client:
        phase_scan(s, PHASE_TLS_CERTS, 0)
    m.looked = s.tls.seen
    message_judge(s, &m.waiting, HTTP_PROGRESS_COMPLETE, s.tls.phase < TLS_ENCRYPTED)


cdef void tls_run(Scene *s, const uint8_t *data, uint32_t n) noexcept nogil:
    cdef AppAnswer answer
    s.tls = &s.session.tls[<int>s.side]
    s.text = session_buffer(s.session, s.side)
    s.text.used = min(s.session.tls_used[<int>s.side], s.text.size)
    answer = tls_feed(s.session.tls + <int>s.side, &s.text, data, n)
    s.session.tls_used[<int>s.side] = s.text.used
    tls_judge(s)
    s.session.app_done[<int>s.side] = answer != APP_NEED_MORE
    s.tls = NULL

# DNS


cdef void dns_judge(Scene *s, Waiting *w) noexcept nogil:
    s.dns = &s.d.dns
    if not s.dns.response:
        phase_scan(s, PHASE_DNS, 0)
        message_judge(s, w, HTTP_PROGRESS_COMPLETE, False)
    s.dns = NULL


cdef void dns_run(Scene *s, const uint8_t *data, uint32_t n) noexcept nogil:
    cdef Message *m = &s.session.messages[<int>s.side]
    cdef uint32_t at = 0, used = 0
    cdef AppAnswer answer = APP_COMPLETE
    while at < n:
        s.text = session_buffer(s.session, s.side)
        s.text.used = min(s.session.dns_used[<int>s.side], s.text.size)
        answer = dns_feed(&s.session.dns[<int>s.side], &s.d.dns, &s.text, data + at, n - at, &used)
        s.session.dns_used[<int>s.side] = s.text.used
        at += used
        if answer == APP_COMPLETE:
            message_new(m, m.transaction + 1)
            dns_judge(s, &m.waiting)
        elif answer != APP_LIMIT:
            break
        if used == 0:
            break
    s.session.app_done[<int>s.side] = answer == APP_NOT_THIS


cdef void datagram_read(Scene *s) noexcept nogil:
    cdef Waiting none
    cdef AppProbe probe
    if s.flow.app == APP_UNKNOWN:
        probe = dns_probe(s.payload.data, s.payload.n)
        s.flow.app = APP_DNS if probe == PROBE_YES else APP_FAILED
    if s.flow.app != APP_DNS:
        return
    s.text.data, s.text.size, s.text.used = s.d.dns_text, DNS_TEXT, 0
    if dns_parse(&s.d.dns, &s.text, s.payload.data, s.payload.n) == APP_COMPLETE:
        none.count = none.fired_count = none.cut = 0
        dns_judge(s, &none)

# SSH


cdef void ssh_run(Scene *s, const uint8_t *data, uint32_t n) noexcept nogil:
    """The version line of one side; what follows it is of no interest."""
    cdef Message *m = &s.session.messages[<int>s.side]
    cdef AppAnswer answer
    s.ssh = &s.session.ssh[<int>s.side]
    s.text = session_buffer(s.session, s.side)
    answer = ssh_feed(s.ssh, &s.text, data, n)
    if answer == APP_COMPLETE:
        phase_scan(s, PHASE_SSH, 0)
        message_judge(s, &m.waiting, HTTP_PROGRESS_COMPLETE, False)
    s.session.app_done[<int>s.side] = answer != APP_NEED_MORE
    s.ssh = NULL

# Streams


cdef uint8_t app_probe(const Scene *s, const uint8_t *data, uint32_t n) noexcept nogil:
    """AppProto of the first bytes of a side; APP_UNKNOWN: more are needed."""
    cdef AppProbe tls = tls_probe(data, n)
    cdef HttpProbe http = http_probe(<HttpDirection><int>s.side, data, n)
    cdef AppProbe dns = dns_probe_stream(data, n)
    cdef AppProbe ssh = ssh_probe(data, n)
    if ssh == PROBE_YES:
        return APP_SSH
    if tls == PROBE_YES:
        return APP_TLS
    if http == HTTP_PROBE_YES:
        return APP_HTTP
    if dns == PROBE_YES:
        return APP_DNS
    if n >= LOOK_BYTES or tls == PROBE_NO and http == HTTP_PROBE_NO and dns == PROBE_NO and ssh == PROBE_NO:
        return APP_FAILED
    return APP_UNKNOWN


cdef bint app_known(Scene *s, const uint8_t *data, uint32_t n) noexcept nogil:
    """Whether the flow speaks a protocol that is read here."""
    cdef uint8_t found
    if s.flow.app == APP_UNKNOWN and not s.flow.app_tried[<int>s.side]:
        found = app_probe(s, data, n)
        if found == APP_FAILED:
            s.flow.app_tried[<int>s.side] = 1
            if s.flow.app_tried[1 - <int>s.side]:
                s.flow.app = APP_FAILED
        elif found != APP_UNKNOWN:
            s.flow.app = s.session.app = found
    return s.flow.app > APP_FAILED


cdef void app_run(Scene *s, const uint8_t *data, uint32_t n, bint ended, uint64_t offset) noexcept nogil:
    if s.session.app == APP_HTTP:
        http_run(s, data, n, ended, offset)
    elif s.session.app == APP_TLS:
        tls_run(s, data, n)
    elif s.session.app == APP_DNS:
        dns_run(s, data, n)
    elif s.session.app == APP_SSH:
        ssh_run(s, data, n)


cdef inline const uint8_t *stream_bytes(const Scene *s, const Stream *stream, uint64_t at, uint32_t n) noexcept nogil:
    """Bytes of the stream, where they are soonest read: those that are all of the packet's payload stand in it, too."""
    if n == payload_there(s.p) and s.p.tcp_seq == stream.isn + 1 + <uint32_t>at and not s.p.tcp_flags & TCP_SYN:
        return s.p.data + s.p.payload_off
    return stream_at(stream, session_window(s.session, s.side), at)


cdef void stream_read(Scene *s, bint ended) noexcept nogil:
    cdef Stream *stream = &s.session.streams[<int>s.side]
    cdef uint64_t fed = s.session.fed[<int>s.side]
    cdef const uint8_t *data
    cdef uint32_t n
    cdef uint8_t was = s.session.app
    if s.session.app_done[<int>s.side] or fed > stream.end_at:
        return
    if fed < stream_held_at(stream):
        s.session.app_done[<int>s.side] = 1
        return
    n = <uint32_t>(stream.end_at - fed)
    data = stream_bytes(s, stream, fed, n)
    if app_known(s, data, n):
        s.session.fed[<int>s.side] = stream.end_at
        app_run(s, data, n, ended, fed)
        if was == APP_HTTP and s.session.app == APP_UNKNOWN:
            stream_read(s, ended)            # what is in the tunnel, if it has begun
    elif s.flow.app == APP_FAILED:
        s.session.app_done[<int>s.side] = 1
