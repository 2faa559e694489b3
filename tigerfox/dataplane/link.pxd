# From a link-layer frame to the IP packet in it. See link.pyx.

from libc.stdint cimport uint16_t
from tigerfox.dataplane.packet cimport Packet

# Whether frames of this LINKTYPE number are read.
cdef bint link_known(uint16_t link) noexcept nogil

# Moves data, caplen and wirelen of a frame to its IP header and clears flags; or sets PACKET_BARE and leaves them.
cdef void link_strip(uint16_t link, Packet *p) noexcept nogil
