"""Names and explanations of the Reason enum: one row per reason, in the order of reason.pxd."""

from tigerfox.dataplane.reason cimport R_COUNT, Reason, reason_class

_CLASSES = ("pass", "stop", "malformed", "unparsed", "failure")

_ROWS = (
    ("none", "nothing has decided yet"),
    ("default", "no rule decided, the default verdict holds"),
    ("alert_rule", "an alert rule fired, the packet passes"),
    ("pass_rule", "a pass rule decided"),
    ("drop_rule", "a drop rule decided"),
    ("reject_rule", "a reject rule decided"),
    ("blocked_connection", "the connection is in the block table"),
    ("blocked_source", "the source address is in the block table"),
    ("blocked_destination", "the destination address is in the block table"),
    ("blocked_pair", "the pair of addresses is in the block table"),
    ("fragment_dropped", "a fragment of a datagram of which another part, or the whole, was stopped"),
    ("inspector", "a Python inspector dropped the packet"),
    ("ip_short", "fewer bytes than the fixed part of an IP header"),
    ("ip_version", "the IP version is neither 4 nor 6"),
    ("ipv4_header_length", "the IPv4 header length is under 20 bytes or over the packet"),
    ("ipv4_length", "the IPv4 total length is under the header or over the packet"),
    ("ipv4_options", "an IPv4 option runs over the end of the header"),
    ("ipv6_length", "the IPv6 payload length is over the packet"),
    ("ipv6_extension_short", "an IPv6 extension header runs over the end of the packet"),
    ("ipv6_extension_order", "IPv6 hop-by-hop options not first, or an extension header repeated"),
    ("fragment_length", "a fragment without data, or a middle fragment not of a multiple of 8 bytes"),
    ("fragment_oversize", "a fragment that ends beyond 65,535 bytes"),
    ("tcp_short", "fewer bytes than a TCP header"),
    ("tcp_header_length", "the TCP header length is under 20 bytes or over the packet"),
    ("tcp_options", "a TCP option runs over the end of the header"),
    ("udp_short", "fewer bytes than a UDP header"),
    ("udp_length", "the UDP length is under 8 bytes or over the packet"),
    ("icmp_short", "fewer bytes than an ICMP header"),
    ("icmpv6_short", "fewer bytes than an ICMPv6 header"),
    ("sctp_short", "fewer bytes than an SCTP header"),
    ("gre_short", "fewer bytes than the GRE header announces"),
    ("tunnel_inner", "the packet inside the tunnel is malformed"),
    ("ipv6_extension_limit", "more IPv6 extension headers than are followed"),
    ("header_truncated", "a header lies beyond the bytes that were captured"),
    ("tunnel_depth", "a tunnel inside a tunnel, which is not looked into"),
    ("fragment_tiny", "a first fragment without the whole transport header, or a later one that would overwrite it"),
    ("fragment_overlap", "a fragment with other bytes for what came before, or in IPv6 any fragment that overlaps"),
    ("fragment_end", "a fragment that disagrees with the others about where the datagram ends"),
    ("fragment_limit", "a fragment beyond a bound of reassembly: too many datagrams or pieces, too long headers, nested"),
    ("stream_overlap", "a TCP segment with other bytes for what came before; the end host may have either"),
    ("stream_unseen", "a TCP segment that repeats bytes no longer kept, of half a connection: nobody hears what is confirmed"),
    ("stream_outside", "a TCP segment with payload that its receiver ignores: outside its window, or of another connection"),
    ("stream_limit", "a TCP segment too far behind a gap, or behind more bytes under way than are kept; it will be sent again"),
    ("stream_urgent", "urgent data in HTTP, TLS or DNS: an end host may leave that byte out of what it reads"),
    ("stream_sessions", "a TCP segment of a connection that is to be inspected and has no session: flows.sessions are in use"),
    ("http_connect_unseen", "CONNECT, and what follows it, where the replies that would tell of a tunnel are left to the kernel"),
    ("no_verdict", "a stage left the packet without a verdict"),
)


def _table():
    rows = tuple((name, _CLASSES[reason_class(<Reason><int>r)], text) for r, (name, text) in enumerate(_ROWS))
    if len(rows) != <int>R_COUNT:
        raise ImportError(f"{len(rows)} names for {<int>R_COUNT} reasons. Give each reason of reason.pxd its row here.")
    return rows


# Public API

REASONS = _table()
"""Tuple by reason number of (name, class, explanation); class is one of pass, stop, malformed, unparsed, failure."""


def reason_number(name):
    """Return the number of a reason by its name; KeyError for a name that is none."""
    for number, row in enumerate(REASONS):
        if row[0] == name:
            return number
    raise KeyError(name)
