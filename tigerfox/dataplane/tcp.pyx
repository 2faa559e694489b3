"""TCP connections as a middle box sees them (RFC 9293, 5961, 7323, 7413)."""

# What it owns: nothing; it writes `tcp`, `state` and `flags` of the flow it is given.
#
# Layout: `me` is the side that sent the packet, `peer` the other. `peer.acked` and `peer.edge` are what `me` says about the
#     bytes of the other side: confirmed up to here, welcome up to there. Sequence numbers wrap; they are only compared by
#     distance.
#
# Invariants: a packet that its receiver ignores changes nothing and sets FLOW_IGNORED: a RST that is not between what the
#     receiver has confirmed and what it can have seen, a FIN or data behind the offered window, a confirmation of what was
#     never sent, a SYN within a connection. Such a SYN is remembered (`pending`); only the other end's SYN-ACK to it, which
#     says that it had forgotten the connection, begins the flow anew. Of two SYN, or two SYN-ACK, with different numbers
#     the answer says which one holds.
#     A RST and FINs end a flow for its timeout alone: the stream of a closed flow is followed like any other, and a handshake
#     that goes on after a RST goes on, so that one which never reached its receiver (a small TTL), or which it did not mind,
#     hides nothing.
#     Bytes are accepted where the receiver may accept them, rather more: to take in too much costs nothing, for different
#     bytes in the same place never pass; to take in too little would hide something. So a confirmation of bytes that were
#     not seen, within the window, does not make the packet wrong (captures have gaps), but does not count.
#     FLOW_REPLIES_LEFT: replies pass that are not seen. Then `acked` of the client is what the server has confirmed at least,
#     never more: whoever asks what is confirmed may be told too little, so he keeps and compares more than he must, or refuses
#     (STREAM_LIMIT). `edge` is old likewise; a server can offer no more than its largest window behind what has reached it, and
#     that is no more than `next_seq`. The client's confirmations say what the server has sent: within `edge`, and one byte
#     beyond it, which a server sends to ask whether a closed window is open again. Should a client lie about it, replies that
#     do come by seem old, and tell nothing: again too little.
#
# Who may write what: the worker of the flow.
#
# What happens when full or broken: there is nothing to fill. Options are read within the header and what was captured.

from libc.stdint cimport int32_t, uint8_t, uint32_t
from tigerfox.dataplane.flowentry cimport (
    FLOW_CLOSED, FLOW_CLOSING, FLOW_ESTABLISHED, FLOW_IGNORED, FLOW_INSPECT, FLOW_MIDSTREAM, FLOW_NEW, FLOW_OPENED,
    FLOW_OPENING, FLOW_REPLIES_AWAY, FLOW_REPLIES_LEFT, FLOW_SPLIT, FLOW_SYN_RECEIVED, FLOW_SYN_SENT, TO_CLIENT, TO_SERVER,
    Flow, FlowSide, TcpSide, seq_from)
from tigerfox.dataplane.packet cimport Packet

cdef enum:
    TCP_NO_SCALE = 255
    TCP_MAX_SCALE = 14           # RFC 7323, 2.3
    TCP_MAX_WINDOW = 65535


# All that answer a bint say False when the receiver ignores the packet.

cdef inline uint8_t scale_read(const Packet *p) noexcept nogil:
    """The window scale option of a SYN (RFC 7323, 2.2), TCP_NO_SCALE without one."""
    cdef uint32_t at = p.l4_off + 20
    cdef uint32_t end = p.payload_off if p.payload_off < p.caplen else p.caplen
    while at < end and p.data[at] != 0:
        if p.data[at] == 1:
            at += 1
            continue
        if at + 1 >= end or p.data[at + 1] < 2 or p.data[at + 1] > end - at:
            break
        if p.data[at] == 3 and p.data[at + 1] == 3:
            return p.data[at + 2] if p.data[at + 2] < TCP_MAX_SCALE else TCP_MAX_SCALE
        at += p.data[at + 1]
    return TCP_NO_SCALE


cdef inline uint32_t scaled(const TcpSide *s, uint32_t window) noexcept nogil:
    return window << s.wscale if s.wscale <= TCP_MAX_SCALE else window


cdef inline void side_begin(TcpSide *s, uint32_t isn, uint32_t edge) noexcept nogil:
    s.isn = s.acked = isn
    s.next_seq = s.high_seq = isn + 1
    s.edge = edge
    s.known, s.fin, s.has_pending = 1, 0, 0


cdef inline void high_raise(TcpSide *s, uint32_t end) noexcept nogil:
    if seq_from(end, s.high_seq) > 0:
        s.high_seq = end


cdef inline bint acks_syn(const TcpSide *s, uint32_t ack) noexcept nogil:
    """Whether it confirms the SYN, and data in it at most (RFC 7413)."""
    return s.known and seq_from(ack, s.isn) > 0 and seq_from(ack, s.high_seq) <= 0


cdef inline bint acks_pending(const TcpSide *s, uint32_t ack) noexcept nogil:
    return s.has_pending and ack == s.pending + 1


cdef void syn_take(Flow *f, TcpSide *me, const Packet *p) noexcept nogil:
    """The first SYN of a side. Until the answer says more, its data may reach as far as any window without scale."""
    side_begin(me, p.tcp_seq, p.tcp_seq + 1 + TCP_MAX_WINDOW)
    me.next_seq = p.tcp_seq + 1
    high_raise(me, p.tcp_seq + 1 + p.payload_len)
    me.wscale = scale_read(p)
    f.flags |= FLOW_INSPECT


cdef bint tcp_syn(Flow *f, TcpSide *me, TcpSide *peer, const Packet *p) noexcept nogil:
    """A SYN without ACK on a flow that does not begin with it."""
    if me.known and p.tcp_seq == me.isn:                      # sent again
        if f.state <= FLOW_SYN_RECEIVED:
            high_raise(me, p.tcp_seq + 1 + p.payload_len)
        return True
    if f.state == FLOW_SYN_SENT and not me.known:             # both at once, or a split handshake
        syn_take(f, me, p)
        me.edge = p.tcp_seq + 1 + TCP_MAX_WINDOW
        f.state = FLOW_SYN_RECEIVED
        f.flags |= FLOW_SPLIT
        return True
    me.pending, me.has_pending = p.tcp_seq, 1
    return False


cdef inline void handshake_done(Flow *f) noexcept nogil:
    f.state = FLOW_ESTABLISHED
    f.flags |= FLOW_OPENED
    f.tcp[0].has_pending = f.tcp[1].has_pending = 0


cdef void scales_agree(TcpSide *a, TcpSide *b) noexcept nogil:
    """Windows are scaled when both have sent the option (RFC 7323, 1.3)."""
    if a.wscale == TCP_NO_SCALE or b.wscale == TCP_NO_SCALE:
        a.wscale = b.wscale = 0


cdef bint synack_first(Flow *f, TcpSide *me, TcpSide *peer, const Packet *p) noexcept nogil:
    """The answer to a SYN."""
    cdef uint8_t wscale = peer.wscale
    if acks_pending(peer, p.tcp_ack):
        side_begin(peer, peer.pending, 0)
    if not acks_syn(peer, p.tcp_ack):
        return False
    side_begin(me, p.tcp_seq, p.tcp_seq + 1 + (TCP_MAX_WINDOW << (wscale if wscale <= TCP_MAX_SCALE else 0)))
    high_raise(me, p.tcp_seq + 1 + p.payload_len)
    me.wscale = scale_read(p)
    scales_agree(me, peer)
    peer.acked = p.tcp_ack
    peer.edge = p.tcp_ack + p.tcp_window
    f.state = FLOW_SYN_RECEIVED
    return True


cdef bint synack_again(Flow *f, TcpSide *me, TcpSide *peer, const Packet *p) noexcept nogil:
    """A SYN-ACK when both sequence numbers are known: sent again, of simultaneous SYNs, or with another number."""
    if acks_pending(peer, p.tcp_ack):
        return synack_first(f, me, peer, p)
    if not acks_syn(peer, p.tcp_ack):
        return False
    if p.tcp_seq != me.isn:                                   # SYN cookies: the client's ACK will say which
        me.pending, me.has_pending = p.tcp_seq, 1
        return True
    peer.acked = p.tcp_ack
    if f.flags & FLOW_SPLIT:
        if me.wscale == TCP_NO_SCALE or peer.wscale == TCP_NO_SCALE:
            scales_agree(me, peer)
        if seq_from(me.acked, me.isn) > 0:
            handshake_done(f)
    return True


cdef bint tcp_synack(Flow *f, TcpSide *me, TcpSide *peer, const Packet *p) noexcept nogil:
    if f.state != FLOW_NEW and not me.known:                  # though a RST may have come before
        return synack_first(f, me, peer, p)
    if f.state == FLOW_SYN_RECEIVED:
        return synack_again(f, me, peer, p)
    return f.state == FLOW_NEW or me.known and p.tcp_seq == me.isn


cdef inline bint replies_unseen(const Flow *f, const TcpSide *server) noexcept nogil:
    return f.flags & FLOW_REPLIES_LEFT and server == &f.tcp[<int>TO_CLIENT]


cdef inline uint32_t unseen_to(const Flow *f, const TcpSide *me) noexcept nogil:
    """Up to where a side can have sent, as far as it is known."""
    return me.edge + 1 if replies_unseen(f, me) else me.high_seq


cdef inline bint may_send(const Flow *f, const TcpSide *me, const TcpSide *peer, uint32_t at) noexcept nogil:
    """Whether the other end may have offered to take bytes from here on."""
    if seq_from(at, me.edge) <= 0:
        return True
    return replies_unseen(f, peer) and seq_from(at, me.next_seq + scaled(peer, TCP_MAX_WINDOW)) <= 0


cdef bint tcp_reset(Flow *f, TcpSide *me, TcpSide *peer, const Packet *p) noexcept nogil:
    """A RST counts where the receiver may stand: from what it has confirmed to what it can have seen (RFC 5961, 3.2)."""
    cdef bint counts
    if f.state == FLOW_NEW:
        return True
    if not me.known:
        counts = p.tcp_flags & TCP_ACK and (acks_syn(peer, p.tcp_ack) or acks_pending(peer, p.tcp_ack))
    else:
        counts = seq_from(p.tcp_seq, me.acked) >= 0 and seq_from(p.tcp_seq, unseen_to(f, me)) <= 0
    if counts:
        f.state = FLOW_CLOSED
    return counts


cdef inline bint ack_take(const Flow *f, TcpSide *me, TcpSide *peer, const Packet *p) noexcept nogil:
    """A confirmation (RFC 5961, 5.2). One of bytes that were not seen, but may have been sent, does not count itself."""
    cdef uint32_t edge = p.tcp_ack + scaled(me, p.tcp_window)
    cdef int32_t ahead = seq_from(p.tcp_ack, peer.acked)
    if ahead < 0:
        return -ahead <= <int32_t>scaled(me, TCP_MAX_WINDOW)
    if seq_from(p.tcp_ack, peer.high_seq) <= 0:
        peer.acked = p.tcp_ack
    elif replies_unseen(f, peer) and seq_from(p.tcp_ack, unseen_to(f, peer)) <= 0:
        peer.high_seq = peer.acked = p.tcp_ack
    elif seq_from(p.tcp_ack, peer.edge) > 0:
        return False
    if seq_from(edge, peer.edge) > 0:
        peer.edge = edge
    return True


cdef void fin_take(Flow *f, TcpSide *me, uint32_t at) noexcept nogil:
    if seq_from(at, me.acked) < 0:
        return
    me.fin, me.fin_seq = 1, at
    high_raise(me, at + 1)
    if f.state < FLOW_CLOSING:
        f.state = FLOW_CLOSING


cdef inline void fins_check(Flow *f, const TcpSide *me, const TcpSide *peer) noexcept nogil:
    if me.fin and peer.fin and seq_from(me.acked, me.fin_seq) > 0 and seq_from(peer.acked, peer.fin_seq) > 0:
        f.state = FLOW_CLOSED


cdef inline bint tcp_segment(Flow *f, TcpSide *me, TcpSide *peer, const Packet *p) noexcept nogil:
    """Anything without SYN and RST."""
    cdef uint32_t end = p.tcp_seq + p.payload_len
    if not me.known:
        if not f.flags & FLOW_MIDSTREAM:
            return False
        side_begin(me, p.tcp_seq - 1, p.tcp_seq + (TCP_MAX_WINDOW << TCP_MAX_SCALE))
    if not may_send(f, me, peer, p.tcp_seq):
        return False
    if seq_from(end, me.acked) < 0:                           # sent again after it had arrived
        return True
    if p.tcp_flags & TCP_ACK and peer.known and not ack_take(f, me, peer, p):
        return False
    high_raise(me, end)
    if p.tcp_flags & TCP_FIN:
        fin_take(f, me, end)
    if f.state == FLOW_CLOSING:
        fins_check(f, me, peer)
    return True


cdef bint tcp_confirm(Flow *f, TcpSide *me, TcpSide *peer, const Packet *p) noexcept nogil:
    """The end of the handshake: the client's ACK, or that the server goes on as one who has got it."""
    if not p.tcp_flags & TCP_ACK or not me.known or seq_from(p.tcp_seq, me.edge) > 0 or seq_from(p.tcp_seq, me.isn) <= 0:
        return False
    if acks_pending(peer, p.tcp_ack):
        side_begin(peer, peer.pending, peer.pending + (peer.edge - peer.isn))
    if not acks_syn(peer, p.tcp_ack):
        return False
    handshake_done(f)
    return tcp_segment(f, me, peer, p)


cdef void tcp_middle(Flow *f, TcpSide *me, TcpSide *peer, const Packet *p) noexcept nogil:
    """A connection taken up where it is; windows are taken to be scaled as far as can be."""
    side_begin(me, p.tcp_seq - 1, p.tcp_seq + (TCP_MAX_WINDOW << TCP_MAX_SCALE))
    me.acked = p.tcp_seq
    me.wscale = peer.wscale = TCP_MAX_SCALE
    if p.tcp_flags & TCP_ACK:
        side_begin(peer, p.tcp_ack - 1, p.tcp_ack + (TCP_MAX_WINDOW << TCP_MAX_SCALE))
        peer.acked = p.tcp_ack
    f.flags |= FLOW_INSPECT | FLOW_REPLIES_AWAY               # nobody knows what was said of an earlier flow of it
    if not p.tcp_flags & TCP_SYN:
        f.state = FLOW_ESTABLISHED
        f.flags |= FLOW_OPENED
        tcp_segment(f, me, peer, p)
        return
    side_begin(me, p.tcp_seq, p.tcp_seq + 1 + (TCP_MAX_WINDOW << TCP_MAX_SCALE))
    me.wscale = scale_read(p)
    peer.wscale = TCP_MAX_SCALE if me.wscale != TCP_NO_SCALE else 0
    if me.wscale == TCP_NO_SCALE:
        me.wscale = 0
    f.state = FLOW_SYN_RECEIVED


cdef void tcp_first(Flow *f, FlowSide side, const Packet *p, bint midstream) noexcept nogil:
    cdef TcpSide *me = &f.tcp[<int>side]
    cdef TcpSide *peer = &f.tcp[1 - <int>side]
    me.wscale = peer.wscale = TCP_NO_SCALE
    me.flags |= <uint8_t>p.tcp_flags
    if p.tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN:
        syn_take(f, me, p)
        f.state = FLOW_SYN_SENT
        return
    f.flags |= FLOW_MIDSTREAM
    if midstream and not p.tcp_flags & TCP_RST:
        tcp_middle(f, me, peer, p)


cdef void tcp_next(Flow *f, FlowSide side, const Packet *p) noexcept nogil:
    cdef TcpSide *me = &f.tcp[<int>side]
    cdef TcpSide *peer = &f.tcp[1 - <int>side]
    cdef bint counts, opened = f.flags & FLOW_OPENED != 0
    me.flags |= <uint8_t>p.tcp_flags
    if p.tcp_flags & TCP_RST:
        counts = tcp_reset(f, me, peer, p)
    elif p.tcp_flags & TCP_SYN:
        counts = tcp_synack(f, me, peer, p) if p.tcp_flags & TCP_ACK else tcp_syn(f, me, peer, p)
    elif f.state == FLOW_SYN_RECEIVED or f.state == FLOW_CLOSED and not f.flags & FLOW_OPENED and me.known and peer.known:
        counts = tcp_confirm(f, me, peer, p)
    else:
        counts = f.state == FLOW_NEW or tcp_segment(f, me, peer, p)
    f.flags = f.flags & ~(FLOW_IGNORED | FLOW_OPENING) | (0 if counts else FLOW_IGNORED)
    if f.flags & FLOW_OPENED and not opened and not p.payload_len:
        f.flags |= FLOW_OPENING


cdef bint tcp_reopens(const Flow *f, FlowSide side, const Packet *p) noexcept nogil:
    return f.state >= FLOW_ESTABLISHED and acks_pending(&f.tcp[1 - <int>side], p.tcp_ack)


cdef void tcp_reopen(Flow *f, uint32_t isn) noexcept nogil:
    side_begin(&f.tcp[<int>TO_SERVER], isn, isn + 1 + TCP_MAX_WINDOW)
    f.tcp[<int>TO_SERVER].wscale = f.tcp[<int>TO_CLIENT].wscale = TCP_MAX_SCALE
    f.state = FLOW_SYN_SENT
    f.flags |= FLOW_INSPECT
