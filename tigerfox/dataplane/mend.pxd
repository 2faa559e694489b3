# A packet that goes on with one byte of its payload replaced. See mend.pyx.

from libc.stdint cimport uint8_t
from tigerfox.dataplane.packet cimport Packet

# Whether it can be written again as a whole: TCP behind a bare IP header, all of it captured, of at most REPLACE_MAX bytes.
cdef bint mend_fits(const Packet *p) noexcept nogil

# Write the packet to `out`, which has room for p.ip_len bytes, with `byte` as the first of its payload.
cdef void mend_write(uint8_t *out, const Packet *p, uint8_t byte) noexcept nogil
