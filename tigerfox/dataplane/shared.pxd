# Memory that outlives a worker: mapped files that begin with one header.
#
#   0        8     12       16      24          32        40            88       128
#   | magic  | kind | layout | size | generation | created | hash keys[6] | spare  | the table itself ...
#
# Invariants: everything behind the header is index-based, never a pointer; `size` is the mapped length; the keys are
# random and never leave the machine (the files are mode 0600).
# Who may write what: the supervisor writes the header once, before anybody else maps the file.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum SharedKind:
    SHARED_BLOCKS = 1
    SHARED_RATES = 2             # threshold and detection_filter trackers
    SHARED_WORKER = 3            # statistics and event ring of one worker
    SHARED_CONTROL = 4           # what the supervisor tells all workers
    SHARED_FLOWS = 5             # flows of one queue
    SHARED_SESSIONS = 6          # what their inspection keeps
    SHARED_HANDOVER = 7          # what workers tell Python inspectors

cdef struct SharedHeader:
    uint64_t magic               # SHARED_MAGIC
    uint32_t kind                # SharedKind
    uint32_t layout              # version of what follows, by kind
    uint64_t size                # bytes in all
    uint64_t generation          # supervisor: counts up when the content is replaced as a whole
    uint64_t created_ns          # Unix time
    uint64_t keys[6]             # of hash40
    uint8_t spare[40]

cdef class Region:
    """A mapped file, or anonymous memory when there is no path; `base` stays valid while the object lives."""
    cdef readonly object path
    cdef readonly bint writable
    cdef readonly size_t size
    cdef uint8_t *base
    cdef object _map
    cdef SharedHeader *header(self) noexcept
