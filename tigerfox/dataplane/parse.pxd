# From bytes to a Packet. See parse.pyx.

from tigerfox.dataplane.packet cimport FlowTuple, Packet
from tigerfox.dataplane.reason cimport Reason

# Reads data, caplen, wirelen; writes every field marked `parse`. R_NONE, or why the packet cannot be judged.
cdef Reason parse_packet(Packet *p) noexcept nogil

# Fills `inner` with the packet inside the tunnel of `outer` (PACKET_TUNNEL set) and parses it.
cdef Reason parse_inner(const Packet *outer, Packet *inner) noexcept nogil

# Fills `quoted` with the ends of the packet that an ICMP error quotes; False where there is none, or it is not read to its ports.
cdef bint parse_quoted(const Packet *p, FlowTuple *quoted) noexcept nogil
