# One NFQUEUE spoken over raw netlink: batches in, batches of verdicts out. See queue.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.packet cimport Packet, Verdict

cdef enum:
    QUEUE_BATCH = 64             # messages per receive
    REPLACE_MAX = 104            # bytes of a packet that a verdict brings with it, at most: a multiple of four

cdef enum QueueEvent:            # answers of queue_receive below 0
    QUEUE_IDLE = -1              # the receive timed out: nothing is there
    QUEUE_LOST = -2              # the kernel could not deliver messages (ENOBUFS)
    QUEUE_FAILED = -3            # the socket is gone; errno is in Queue.error
    QUEUE_INTERRUPTED = -4       # a signal arrived while nothing was there

cdef enum QueueMessage:          # answers of queue_take
    MESSAGE_PACKET = 1           # Packet's source fields are set
    MESSAGE_ERROR = 2            # the kernel refused a verdict
    MESSAGE_TRUNCATED = 3        # the receive buffer cut the message: a packet with the bytes that are there
    MESSAGE_BAD = 4              # not a message of this queue
    MESSAGE_UNCOPIED = 5         # a packet without payload, queued before the copy mode was set: send it round again
    MESSAGE_SETTLED = 6          # the kernel's answer that a settlement found nothing to settle

cdef struct Queue:
    int fd                       # supervisor's; inherited
    uint16_t number              # set at bind, then constant
    uint32_t copy_range          # bytes of each packet asked of the kernel
    uint32_t buffer_size         # per message
    int error                    # errno of the last failure
    void *messages               # mmsghdr[QUEUE_BATCH]
    void *vectors                # iovec[QUEUE_BATCH]
    uint8_t *buffers             # QUEUE_BATCH times buffer_size
    uint8_t *out                 # verdict messages of this batch
    uint32_t out_len
    uint32_t run_last            # last packet id of the pending run of equal verdicts
    uint32_t run_length          # packets in it
    uint32_t run_verdict
    uint8_t seen                 # a packet id was read since bind: last_seen holds
    uint8_t disordered           # an id came out of order: no batch verdicts any more
    uint32_t last_seen           # packet id read last
    uint32_t settled_to          # last settlement: ids up to this one went through the hook again
    uint64_t lost_ids            # ids missing in the sequence
    uint32_t marks[QUEUE_BATCH]  # packet marks of the batch's messages
    uint64_t now_ns              # Unix time of the batch

cdef int queue_bind(Queue *q, int fd, uint16_t number, uint32_t copy_range) noexcept nogil    # 0, or ENOMEM
cdef int queue_widen(Queue *q, uint32_t copy_range) noexcept nogil            # 0, or errno
cdef void queue_free(Queue *q) noexcept nogil
cdef int queue_receive(Queue *q) noexcept nogil                               # messages, or a QueueEvent
cdef int queue_poll(Queue *q) noexcept nogil                                  # the same, without waiting
cdef QueueMessage queue_take(Queue *q, int i, Packet *p) noexcept nogil       # message i of the batch
cdef void queue_follow(Queue *q, uint32_t packet_id) noexcept nogil           # before each packet's verdict
cdef void queue_verdict(Queue *q, uint32_t packet_id, uint32_t verdict) noexcept nogil   # in the order of ids; a whole verdict word
# One packet through the hook again, with this packet mark.
cdef void queue_mark(Queue *q, uint32_t packet_id, uint32_t mark) noexcept nogil
# One packet with other bytes, as many as it has, and this packet mark: returns where those `length` bytes go, before the next call.
cdef uint8_t *queue_replace(Queue *q, uint32_t packet_id, uint32_t verdict, uint32_t mark, uint32_t length) noexcept nogil
cdef void queue_settle(Queue *q, uint32_t last_id) noexcept nogil             # all ids up to it through the hook again
cdef int queue_send(Queue *q) noexcept nogil                                  # 0, or errno; what was not sent stays
