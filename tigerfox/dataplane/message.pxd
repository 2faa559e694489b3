# Messages of application protocols: feed the parsers, judge what they found. See message.pyx.

from libc.stdint cimport uint8_t, uint32_t
from tigerfox.dataplane.flow cimport Flow, FlowSide
from tigerfox.dataplane.scene cimport Scene

# In-order bytes of one side of a TCP connection, from the session's window; `ended`: the FIN was reached.
cdef void stream_read(Scene *s, bint ended) noexcept nogil

# A datagram of UDP.
cdef void datagram_read(Scene *s) noexcept nogil
