"""A packet that goes on with one byte of its payload replaced: a keep-alive probe, by the byte that was inspected.

What it owns
    Nothing: the packet is written where the verdict message has room for it.

Layout
    IP header 20 or 40 | TCP header 20 to 60 | 1 byte: at most REPLACE_MAX

Invariants
    The packet keeps its length and all its headers but for the TCP checksum. That is computed anew over the whole segment
    and never adjusted: a packet of this host's own or of a segmentation offload may come with the sum over its pseudo
    header alone in that place, and the kernel takes what a verdict brings as one whose checksum is complete
    (nfqnl_mangle: CHECKSUM_NONE). IP options and extension headers are left out, since with a source route among them
    the address that the checksum covers is another one.

Who may write what
    Its caller: the verdict messages of its queue.

What happens when full or broken
    What does not fit is not written again; it is refused as if nobody could mend it.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset
from tigerfox.dataplane.checksum cimport tcp_seal
from tigerfox.dataplane.packet cimport PACKET_FRAGMENT, PACKET_INNER, PACKET_PORTS
from tigerfox.dataplane.parse cimport parse_packet
from tigerfox.dataplane.queue cimport REPLACE_MAX
from tigerfox.dataplane.reason cimport R_NONE
from tigerfox.dataplane.tcp cimport PROTO_TCP


cdef bint mend_fits(const Packet *p) noexcept nogil:
    if p.flow.proto != PROTO_TCP or not p.flags & PACKET_PORTS or p.flags & (PACKET_FRAGMENT | PACKET_INNER):
        return False
    if p.l4_off != (20 if p.flow.version == 4 else 40) or p.payload_len == 0 or p.ip_len > <uint32_t>REPLACE_MAX:
        return False
    return p.caplen == p.ip_len and p.wirelen == p.ip_len


cdef void mend_write(uint8_t *out, const Packet *p, uint8_t byte) noexcept nogil:
    memcpy(out, p.data, p.ip_len)
    out[p.payload_off] = byte
    tcp_seal(out, p.l4_off, p.ip_len - p.l4_off)

# Public API


def mended_packet(bytes data, uint8_t byte):
    """Return the IP packet ``data`` with ``byte`` as the first of its TCP payload; None where it would not be mended."""
    cdef Packet p
    cdef uint8_t[REPLACE_MAX] out
    memset(&p, 0, sizeof(Packet))
    p.data, p.caplen, p.wirelen = <const uint8_t *><const char *>data, <uint32_t>len(data), <uint32_t>len(data)
    if parse_packet(&p) != R_NONE or not mend_fits(&p):
        return None
    mend_write(out, &p, byte)
    return out[:p.ip_len]
