# Why a packet got its verdict: one enum, one counter and one name each.
#
# A stage answers R_NONE ("go on") or the reason that decides. Names, classes and explanations stand in the
# one table of reason.pyx, in the order of this enum; tests/stages/test_reason.py compares the two.
# New reasons go before R_COUNT of their group only together with their row in that table.

cdef enum Reason:
    R_NONE = 0                # nothing decided yet
    # the packet passes
    R_DEFAULT                 # no rule decided: the default verdict
    R_ALERT                   # an alert rule fired, the packet passes
    R_PASS                    # a pass rule decided
    # the packet is stopped by a rule or by the block table
    R_DROP                    # a drop rule decided
    R_REJECT                  # a reject rule decided
    R_BLOCKED_CONNECTION
    R_BLOCKED_SOURCE
    R_BLOCKED_DESTINATION
    R_BLOCKED_PAIR
    R_FRAG_DROPPED            # a fragment of a datagram that was stopped
    R_INSPECTOR               # a Python inspector dropped it
    # malformed: the end host discards such a packet as well (policy `malformed`)
    R_IP_SHORT                # not even an IP header's first byte, or less than its fixed part
    R_IP_VERSION              # neither 4 nor 6
    R_IPV4_HLEN               # header length under 20, or over the packet
    R_IPV4_LENGTH             # total length under the header, or over the packet
    R_IPV4_OPTIONS            # an option's length runs over the header
    R_IPV6_LENGTH             # payload length over the packet
    R_IPV6_EXT_SHORT          # an extension header runs over the packet
    R_IPV6_EXT_ORDER          # hop-by-hop options not first, or a header repeated against RFC 8200
    R_FRAG_LENGTH             # a middle fragment whose length is not a multiple of 8
    R_FRAG_OVERSIZE           # a fragment that ends beyond 65,535 bytes
    R_TCP_SHORT
    R_TCP_HLEN
    R_TCP_OPTIONS
    R_UDP_SHORT
    R_UDP_LENGTH
    R_ICMP_SHORT
    R_ICMPV6_SHORT
    R_SCTP_SHORT
    R_GRE_SHORT
    R_TUNNEL_INNER            # the packet inside the tunnel is malformed
    # unparsed: an end host might accept it, but its headers cannot be judged (policy `unparsed`)
    R_IPV6_EXT_LIMIT          # more extension headers than are followed
    R_HEADER_TRUNCATED        # a header lies beyond the bytes that were copied from the kernel
    R_TUNNEL_DEPTH            # a tunnel inside a tunnel
    R_FRAG_TINY               # a first fragment that hides the transport header, or an overlap onto it
    R_FRAG_OVERLAP            # a fragment that brings other bytes for what came before; any overlap in IPv6
    R_FRAG_END                # fragments that disagree about where the datagram ends
    R_FRAG_LIMIT              # beyond a bound of reassembly
    R_STREAM_OVERLAP          # a TCP segment with other bytes for what came before
    R_STREAM_UNSEEN           # a TCP segment that repeats what is no longer kept, of a stream whose receiver was not heard
    R_STREAM_OUTSIDE          # a TCP segment with payload that its receiver ignores
    R_STREAM_LIMIT            # a TCP segment too far behind a gap or behind what is not confirmed, or behind too many gaps
    R_STREAM_URGENT           # urgent data where end hosts differ about what is read
    R_STREAM_SESSIONS         # payload of a connection that there is no session for, or whose session gave way
    R_HTTP_CONNECT_UNSEEN     # CONNECT where the replies are left to the kernel: nobody sees whether a tunnel opens
    # the failure policy decided
    R_NO_VERDICT              # a stage left the packet without verdict
    R_COUNT

cdef enum ReasonClass:
    CLASS_PASS = 0
    CLASS_STOP
    CLASS_MALFORMED
    CLASS_UNPARSED
    CLASS_FAILURE

cdef inline ReasonClass reason_class(Reason r) noexcept nogil:
    if r <= R_PASS:
        return CLASS_PASS
    if r <= R_INSPECTOR:
        return CLASS_STOP
    if r <= R_TUNNEL_INNER:
        return CLASS_MALFORMED
    if r <= R_HTTP_CONNECT_UNSEEN:
        return CLASS_UNPARSED
    return CLASS_FAILURE
