# What the supervisor tells all workers: one page in shared memory. See control.pyx.

from libc.stdint cimport uint32_t, uint64_t
from tigerfox.dataplane.shared cimport Region, SharedHeader

cdef struct Control:
    SharedHeader header
    uint64_t wanted_generation   # of the rule set that every worker should use; supervisor
    uint32_t stop                # 1: workers end after their batch; supervisor
    uint32_t log_level           # of workers and telemetry, as Python's logging levels; supervisor or command line

cdef inline uint64_t control_wanted(const Control *c) noexcept nogil:
    return (<const volatile uint64_t *>&c.wanted_generation)[0]

cdef inline bint control_stopped(const Control *c) noexcept nogil:
    return (<const volatile uint32_t *>&c.stop)[0] != 0

cdef class ControlPage:
    """Python's hold on a control page: created by the supervisor, opened by workers and command line."""
    cdef Region region
    cdef Control *control
