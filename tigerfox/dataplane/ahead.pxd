# Memory asked for before packets are judged. See ahead.pyx.

from tigerfox.dataplane.flow cimport flow_near
from tigerfox.dataplane.packet cimport Packet
from tigerfox.dataplane.scene cimport Detect

cdef enum:
    AHEAD_PACKETS = 8            # of a group, whose memory is asked for at a time

cdef void group_ahead(const Detect *d, const Packet *packets, int n) noexcept nogil


# A packet was read: ask for where its flow is found.
cdef inline void packet_ahead(const Detect *d, Packet *p) noexcept nogil:
    if d.rules.needs_flows:
        flow_near(d.flows, p)


# Packet i of n is judged next: if a group begins with it, ask for what judging all of the group will touch.
cdef inline void packets_ahead(const Detect *d, const Packet *packets, int i, int n) noexcept nogil:
    if i % AHEAD_PACKETS == 0 and d.rules.needs_flows:
        group_ahead(d, packets + i, min(n - i, <int>AHEAD_PACKETS))
