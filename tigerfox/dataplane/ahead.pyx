"""Ahead: what judging a packet will touch is asked for while other packets are looked at.

What it owns
    Nothing. It reads what flows and sessions say of where their memory is, and writes nothing.

Layout
    chain head (flow.pyx, when a packet was read) ─▶ flow ─▶ session: head, streams, messages, parser ─▶ window

    One step for all packets of a group before the next step, so that the waits of all of them overlap. Between two batches the
    kernel and the end hosts of the machine use the same caches: nearly all of a connection's memory has to come from afar, and
    a packet that waits for it line by line, each naming the next, takes as long again as its judging.

Invariants
    Hints only: a number that is wrong or has changed costs time, nothing else. Every number is compared with its bound before an
    address is made of it.

Who may write what
    Nobody anything.

What happens when full or broken
    A flow behind another one in its chain, or one that is not there yet, is waited for as without this.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.atomic cimport prefetch
from tigerfox.dataplane.flow cimport TO_CLIENT, TO_SERVER, Flow, FlowSide, flow_nearer
from tigerfox.dataplane.image cimport APP_HTTP, RuleSet
from tigerfox.dataplane.packet cimport payload_there
from tigerfox.dataplane.session cimport Session, session_slot, session_window
from tigerfox.dataplane.stream cimport STREAM_NARROW, Stream

cdef enum:
    LINE = 64
    DETECT_BYTES = 320           # of a Detect: its pointers, and the views of each phase
    PARSER_BYTES = 512           # of an HttpSide: its counts, spans and first fields
    PAYLOAD_BYTES = 2048         # of a packet's payload; what lies behind is fetched by the processor's own prefetcher


cdef inline void bytes_near(const void *at, uint32_t n) noexcept nogil:
    cdef uint32_t done = 0
    while done < n:
        prefetch(<const uint8_t *>at + done)
        done += LINE


cdef inline FlowSide side_likely(const Flow *f, const Packet *p) noexcept nogil:
    return TO_SERVER if p.flow.sport == f.key.sport and p.flow.dport == f.key.dport else TO_CLIENT


cdef const Session *session_near(const Detect *d, const Flow *f, const Packet *p) noexcept nogil:
    """Ask for the state of a flow's session; NULL where it has none."""
    cdef const Session *s = session_slot(d.sessions, f.session)
    cdef FlowSide side = side_likely(f, p)
    if s == NULL:
        return NULL
    bytes_near(s, 2 * LINE)
    prefetch(&s.streams[0])
    prefetch(&s.streams[1])
    if p.payload_len:
        prefetch(&s.stream_waiting[<int>side])
        prefetch(&s.messages[<int>side])
        if f.app == APP_HTTP:
            bytes_near(&s.http.side[<int>side], PARSER_BYTES)
            prefetch(&s.http.requests)
    return s


cdef void window_near(const Session *s, const Flow *f, const Packet *p) noexcept nogil:
    """Ask for where the payload of a packet will be written."""
    cdef FlowSide side = side_likely(f, p)
    cdef const Stream *stream = &s.streams[<int>side]
    cdef uint64_t at = stream.end_at - stream.base
    if at < STREAM_NARROW - PAYLOAD_BYTES:
        bytes_near(session_window(<Session *>s, side) + at, min(payload_there(p), <uint32_t>PAYLOAD_BYTES))


cdef void group_ahead(const Detect *d, const Packet *packets, int n) noexcept nogil:
    cdef const Flow *flows[AHEAD_PACKETS]
    cdef const Session *sessions[AHEAD_PACKETS]
    cdef int i
    bytes_near(d.rules, sizeof(RuleSet))
    bytes_near(d, DETECT_BYTES)
    for i in range(n):
        flows[i] = flow_nearer(d.flows, &packets[i])
    for i in range(n):
        sessions[i] = session_near(d, flows[i], &packets[i]) if flows[i] != NULL else NULL
    for i in range(n):
        if sessions[i] != NULL and packets[i].payload_len:
            window_near(sessions[i], flows[i], &packets[i])
