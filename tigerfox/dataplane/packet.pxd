# One packet on its way through the stages.
#
# What it owns: nothing; `data` is borrowed from the source's batch and valid until the batch is settled.
# Layout: the flow tuple first, contiguous and zero-padded, so that its 40 bytes are the hash key; what every
#     stage reads lies in the first 64 bytes.
# Invariants: after parse_packet every integer is in host order; addresses stay in network order. `verdict`
#     starts as VERDICT_UNSET and is set exactly once.
# Who may write what: the comment behind each field names the stage.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum Verdict:               # linux/netfilter.h: NF_DROP, NF_ACCEPT, NF_QUEUE, NF_REPEAT
    VERDICT_DROP = 0
    VERDICT_ACCEPT = 1
    VERDICT_QUEUE = 3
    VERDICT_REPEAT = 4
    VERDICT_UNSET = 255

cdef enum PacketFlag:
    PACKET_FRAGMENT = 1          # any fragment, the first too
    PACKET_LATER_FRAGMENT = 2    # a fragment with an offset: it has no transport header
    PACKET_PORTS = 4             # sport and dport were read (TCP, UDP, SCTP)
    PACKET_TUNNEL = 8            # carries an IP packet: inner_off, inner_len say where
    PACKET_INNER = 16            # is the packet inside a tunnel
    PACKET_TRUNCATED = 32        # fewer bytes captured than the IP header announces
    PACKET_BARE = 64             # ethertype without IP, or a link type's other payload: nothing to judge
    PACKET_REASSEMBLED = 128     # put together from fragments
    PACKET_STREAMED = 256        # its payload belongs to a stream that is followed
    PACKET_PASSED = 512          # a pass rule let the rest of its flow through

cdef enum FragBit:               # as in the IPv4 header's flags, also set from the IPv6 fragment header
    FRAG_MORE = 1
    FRAG_DONT = 2
    FRAG_RESERVED = 4

cdef enum IpOption:              # bit in Packet.ip_options per option seen in an IPv4 header (RFC 791, Suricata `ipopts`)
    IPOPT_SEEN_RR = 1
    IPOPT_SEEN_EOL = 2
    IPOPT_SEEN_NOP = 4
    IPOPT_SEEN_TS = 8
    IPOPT_SEEN_SEC = 16
    IPOPT_SEEN_ESEC = 32
    IPOPT_SEEN_LSRR = 64
    IPOPT_SEEN_SSRR = 128
    IPOPT_SEEN_SATID = 256
    IPOPT_SEEN_ANY = 512         # at least one option

cdef enum:
    PACKET_MATCHES = 15          # alerts kept per packet, as Suricata's packet-alert-max

cdef struct FlowTuple:           # 40 bytes, no padding
    uint8_t src[16]              # network order; an IPv4 address in the first four, the rest zero
    uint8_t dst[16]
    uint16_t sport               # 0 where the protocol has no ports
    uint16_t dport
    uint8_t proto                # upper-layer protocol, after IPv6 extension headers
    uint8_t version              # 4 or 6; 0 when there is no IP header
    uint16_t zero

cdef struct Packet:
    FlowTuple flow               # parse
    const uint8_t *data          # source: first byte of the IP header
    uint32_t caplen              # source: bytes readable at data
    uint32_t wirelen             # source: bytes the packet had from data on
    uint32_t payload_off         # parse: from data to the transport payload
    uint32_t payload_len         # parse: transport payload by the IP length; may exceed what was captured
    # second cache line
    uint64_t time_ns             # source: Unix time
    uint64_t number              # source: packet id of the queue, or 1-based place in the capture
    uint32_t ip_len              # parse: IPv4 total length, IPv6 payload length + 40
    uint32_t tcp_seq             # parse
    uint32_t tcp_ack             # parse
    uint32_t frag_off            # parse: in bytes
    uint32_t ip_id               # parse: IPv4 identification, IPv6 fragment identification
    uint32_t inner_off           # parse: from data to the IP header inside the tunnel
    uint32_t inner_len           # parse: bytes of it by the outer lengths
    uint64_t flow_hash           # ahead: of its ends, as the flow table hashes them; 0: not worked out
    uint16_t l4_off              # parse: from data to the transport header
    uint16_t tcp_window          # parse
    uint16_t tcp_flags           # parse: nine bits, NS included
    uint16_t ip_options          # parse: IpOption bits
    uint16_t icmp_id             # parse: of echo and the like, else 0
    uint16_t icmp_seq            # parse
    uint16_t flags               # parse: PacketFlag bits
    uint16_t frag_data           # parse: from data to a fragment's data
    uint8_t ttl                  # parse: hop limit for IPv6
    uint8_t tos                  # parse: traffic class for IPv6
    uint8_t frag_bits            # parse: FragBit bits
    uint8_t icmp_type            # parse
    uint8_t icmp_code            # parse
    uint8_t ip_proto             # parse: IPv4 protocol; IPv6: upper-layer protocol
    uint8_t next_header          # parse: the protocol field of the outermost IP header itself
    uint8_t verdict              # top
    uint8_t fault                # top: Reason that parse answered
    uint8_t has_icmp_echo        # parse: icmp_id and icmp_seq were read
    uint8_t match_count          # match, candidate
    uint8_t match_cut            # match, candidate: how many matches found no place
    uint8_t alone_count          # detect
    uint32_t handover            # top: the verdict's whole word where `verdict` is VERDICT_QUEUE: queue number and flag
    uint32_t matches[PACKET_MATCHES]   # match: rule numbers in the order of action and priority
    uint32_t alone[PACKET_MATCHES]     # detect: of these, rules that hold for the packet's own payload and not for its stream


cdef inline uint32_t payload_there(const Packet *p) noexcept nogil:
    """Bytes of the transport payload that were captured."""
    cdef uint32_t there = p.caplen - p.payload_off if p.caplen > p.payload_off else 0
    return p.payload_len if p.payload_len < there else there
