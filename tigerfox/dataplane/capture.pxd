# Packets from a capture file, behind the same stages as a queue. See capture.pyx.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.packet cimport Packet

cdef enum:
    CAPTURE_INTERFACES = 1024    # of one pcapng section; packets of further ones are bare

cdef struct Interface:           # what a packet's bytes and time mean
    uint16_t link                # LINKTYPE number
    uint8_t known                # the link type is read
    uint8_t resolution           # if_tsresol: power of ten, with bit 7 of two
    uint32_t snaplen             # 0: no limit
    int64_t offset_s             # if_tsoffset

cdef class Capture:
    """A mapped pcap or pcapng file; capture_next hands out borrowed bytes."""
    cdef readonly object path
    cdef object _hold            # keeps the bytes alive
    cdef const uint8_t *base     # set at open, then constant
    cdef uint64_t size           # set at open, then constant
    cdef uint64_t pos            # the next record or block
    cdef uint64_t entered        # the pages before this place are in the page table
    cdef uint8_t touched         # a byte of the last of them
    cdef uint64_t number         # packets handed out
    cdef uint64_t limit          # hand out so many packets and no more
    cdef uint64_t strange        # of them on an interface whose link type is not read
    cdef uint32_t header_size    # of a pcap record; 0: pcapng
    cdef bint swapped            # the other byte order than this machine's
    cdef int damage              # Damage: why capture_next answers -1
    cdef uint32_t interface_count
    cdef Interface interfaces[CAPTURE_INTERFACES]
    cdef int capture_next(self, Packet *p) noexcept nogil    # 1: a packet; 0: the end; -1: cut short here
    cdef void capture_ahead(self, const Packet *p) noexcept nogil    # what follows some way behind a packet is on its way
