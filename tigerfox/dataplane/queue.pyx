"""One NFQUEUE over raw netlink: the supervisor's socket, and the worker's batches in and out.

What it owns
    The receive buffers and the verdict messages of one worker. The socket belongs to the supervisor (``QueueSocket``);
    a worker uses the descriptor that it inherited, and the kernel keeps the queue while any process holds it.

Layout
    A packet message:  nlmsghdr 16 | nfgenmsg 4 | attributes: PACKET_HDR 12, ifindexes, mark, HWADDR ..., PAYLOAD last
    A verdict message: nlmsghdr 16 | nfgenmsg 4 | nlattr 4 | verdict be32, id be32                       = 32 bytes
                       with a packet mark behind it: nlattr 4 | mark be32                                = 40 bytes
                       and with the packet's new bytes behind that: nlattr 4 | at most REPLACE_MAX      <= 148 bytes
    Receive buffers are QUEUE_BATCH times (copy range + MESSAGE_OVERHEAD), 24 KiB for header rules: they stay in the
    cache.

Invariants
    Packets are taken and settled in the order of their ids; an id gets one verdict. The kernel gives out ids, lists the
    packet and delivers the message under one lock (nfnetlink_queue.c, __nfqnl_enqueue_packet), so whatever is listed
    with an id below one that was read has itself been read before, by this process or by its predecessor.
    That is why a run of equal verdicts with consecutive ids may be one NFQNL_MSG_VERDICT_BATCH, which settles every
    waiting id up to its own: all of them were judged in this batch or settled before. What may wait below the first id,
    or in a gap of the ids, was not: it is sent through the hook again (NF_REPEAT) before any verdict that follows.
    Should a kernel ever deliver out of order, the first such id ends batch verdicts for good (`disordered`).
    A single packet gets an ordinary verdict. Measured by bench/packets.py on two cores of an AMD EPYC under kernel
    6.18, 64-byte UDP, medians of 9 rounds, ratios within a round: an accept-all in C with one message a packet, all in
    one send, empties a full queue at 347,111 packets/s (386,608 per CPU second); with one batch verdict a receive at
    365,933 (1.06 times, 1.10 per CPU second); this worker under 24 rules at 387,109 (1.09, 1.09 per CPU second).
    Ids are compared as signed differences: they wrap after 2^32 packets.

Who may write what
    Queue: its worker. The configuration of the queue: the supervisor before the fork, afterwards the worker.

Settling what a predecessor had taken
    A worker that was killed leaves packets that it had read and not answered: they stay listed in the kernel, with ids
    below everything that is still in the socket. The successor reads its first id X, and like any gap they go through
    the hook again: NF_REPEAT for all ids up to X-1, and they come back under new ids and are judged. When no packet
    comes, the id sequence S, read from /proc after the predecessor's death and before the socket was found empty, says
    the same: everything listed up to S was taken. The race: a packet may get id S and be counted in /proc while its
    message is not yet in the socket. Then the batch waits for the queue's lock, sends that packet round as well, and
    its first message meets a verdict that the kernel refuses (counted, harmless): no packet passes unjudged, and none
    is lost.

What happens when full or broken
    A full socket is ENOBUFS (QUEUE_LOST) and a gap in the ids; a full queue is counted by the kernel alone (/proc). A
    send that fails keeps its verdicts, in order, for the next try; the caller gives up the worker rather than judge
    past them, since a later batch verdict would settle them with its own. An NLMSG_ERROR is the kernel's refusal of a
    verdict, not a failure. A message without payload was queued between bind and copy mode: NF_REPEAT sends it round.
"""

import os

from libc.errno cimport EAGAIN, EINTR, ENOBUFS, ENOMEM, errno as c_errno
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from tigerfox.dataplane.packet cimport VERDICT_REPEAT, VERDICT_UNSET
from tigerfox.dataplane.wire cimport load_be32, load_be64, store_be16, store_be32

from tigerfox.dataplane.queuesocket import QueueSocket, queue_owner, queue_rows
from tigerfox.errors import UsageError

cdef extern from * nogil:
    """
    #include <sys/socket.h>
    #include <time.h>
    #include <linux/netlink.h>
    #include <linux/netfilter.h>
    #include <linux/netfilter/nfnetlink.h>
    #include <linux/netfilter/nfnetlink_queue.h>
    """
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    struct nlmsghdr:
        uint32_t nlmsg_len
        uint16_t nlmsg_type
        uint16_t nlmsg_flags
        uint32_t nlmsg_seq
    struct nlattr:
        uint16_t nla_len
        uint16_t nla_type
    int MSG_WAITFORONE, MSG_DONTWAIT, MSG_TRUNC, CLOCK_REALTIME_COARSE
    int NLMSG_ERROR, NLM_F_REQUEST, NLA_TYPE_MASK, NFNL_SUBSYS_QUEUE
    int NFQNL_MSG_PACKET, NFQNL_MSG_VERDICT, NFQNL_MSG_VERDICT_BATCH, NFQNL_MSG_CONFIG
    int NFQA_PACKET_HDR, NFQA_VERDICT_HDR, NFQA_TIMESTAMP, NFQA_PAYLOAD, NFQA_CAP_LEN, NFQA_MARK
    int NFQA_CFG_PARAMS, NFQNL_COPY_PACKET
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, timespec *timeout)
    ssize_t send(int fd, const void *data, size_t length, int flags)
    int clock_gettime(int clock, timespec *t)

cdef enum:
    HEADER_SIZE = 16             # nlmsghdr
    BODY_OFFSET = 20             # behind nfgenmsg
    VERDICT_SIZE = 32
    MARK_SIZE = 8                # attribute of a packet mark
    PAYLOAD_SIZE = 4 + REPLACE_MAX       # attribute of a packet's bytes, at most
    OUT_MESSAGES = 2 * QUEUE_BATCH + 2   # a verdict and a settlement a packet, and one of each by hand
    MESSAGE_OVERHEAD = 256       # of a packet message around its payload
    SETTLE_SEQUENCE = 1          # nlmsg_seq of a settlement: an answer to it is no verdict error
    SEND_TRIES = 10

cdef struct Fields:              # what is read from a packet message
    const uint8_t *id_be
    const uint8_t *payload
    uint32_t payload_len         # that is there
    uint32_t payload_size        # that its attribute announces
    uint32_t wirelen
    uint32_t mark
    uint64_t time_ns

# ---- receive


cdef int queue_bind(Queue *q, int fd, uint16_t number, uint32_t copy_range) noexcept nogil:
    """Give the queue its buffers; free them with queue_free."""
    memset(q, 0, sizeof(Queue))
    q.fd = fd
    q.number = number
    q.copy_range = copy_range
    q.buffer_size = buffer_for(copy_range)
    q.messages = calloc(QUEUE_BATCH, sizeof(mmsghdr))
    q.vectors = calloc(QUEUE_BATCH, sizeof(iovec))
    q.buffers = <uint8_t *>calloc(QUEUE_BATCH, q.buffer_size)
    q.out = <uint8_t *>calloc(OUT_MESSAGES, VERDICT_SIZE + MARK_SIZE + PAYLOAD_SIZE)
    if q.messages == NULL or q.vectors == NULL or q.buffers == NULL or q.out == NULL:
        queue_free(q)
        return ENOMEM
    buffers_link(q)
    return 0


cdef void buffers_link(Queue *q) noexcept nogil:
    cdef mmsghdr *messages = <mmsghdr *>q.messages
    cdef iovec *vectors = <iovec *>q.vectors
    cdef int i
    for i in range(QUEUE_BATCH):
        vectors[i].iov_base = q.buffers + <size_t>i * q.buffer_size
        vectors[i].iov_len = q.buffer_size
        messages[i].msg_hdr.msg_iov = &vectors[i]
        messages[i].msg_hdr.msg_iovlen = 1


cdef int queue_widen(Queue *q, uint32_t copy_range) noexcept nogil:
    """Ask for more of every packet from now on, between two batches; 0 or an errno. It never asks for less again."""
    cdef uint32_t size = buffer_for(copy_range)
    cdef uint8_t *buffers
    if copy_range <= q.copy_range:
        return 0
    buffers = <uint8_t *>calloc(QUEUE_BATCH, size)
    if buffers == NULL:
        return ENOMEM
    free(q.buffers)
    q.buffers, q.buffer_size, q.copy_range = buffers, size, copy_range
    buffers_link(q)
    range_write(q)
    return queue_send(q)


cdef inline uint32_t buffer_for(uint32_t copy_range) noexcept nogil:
    return (copy_range + MESSAGE_OVERHEAD + 63) & ~<uint32_t>63


cdef void queue_free(Queue *q) noexcept nogil:
    free(q.messages)
    free(q.vectors)
    free(q.buffers)
    free(q.out)
    memset(q, 0, sizeof(Queue))


cdef int queue_receive(Queue *q) noexcept nogil:
    return batch_receive(q, MSG_WAITFORONE)


cdef int queue_poll(Queue *q) noexcept nogil:
    return batch_receive(q, MSG_DONTWAIT)


cdef int batch_receive(Queue *q, int flags) noexcept nogil:
    cdef timespec now
    cdef int n = recvmmsg(q.fd, <mmsghdr *>q.messages, QUEUE_BATCH, flags, NULL)
    if n <= 0:
        return receive_failed(q, n)
    clock_gettime(CLOCK_REALTIME_COARSE, &now)
    q.now_ns = <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec
    return n


cdef int receive_failed(Queue *q, int n) noexcept nogil:
    q.error = c_errno if n < 0 else 0
    if n == 0 or q.error == EAGAIN:
        return QUEUE_IDLE
    if q.error == EINTR:
        return QUEUE_INTERRUPTED
    return QUEUE_LOST if q.error == ENOBUFS else QUEUE_FAILED


cdef QueueMessage queue_take(Queue *q, int i, Packet *p) noexcept nogil:
    """Read message i; MESSAGE_PACKET, _TRUNCATED and _UNCOPIED set the source fields of `p`, number above all."""
    cdef mmsghdr *message = &(<mmsghdr *>q.messages)[i]
    cdef uint32_t length = message.msg_len
    cdef bint truncated = (message.msg_hdr.msg_flags & MSG_TRUNC) != 0
    cdef QueueMessage kind = message_read(q.buffers + <size_t>i * q.buffer_size, length, truncated, p, &q.marks[i])
    if kind == MESSAGE_PACKET or kind == MESSAGE_TRUNCATED or kind == MESSAGE_UNCOPIED:
        if p.time_ns == 0:
            p.time_ns = q.now_ns
    return kind


cdef QueueMessage message_read(const uint8_t *at, uint32_t length, bint truncated, Packet *p, uint32_t *mark) noexcept nogil:
    cdef const nlmsghdr *header = <const nlmsghdr *>at
    cdef Fields fields
    if length < HEADER_SIZE:
        return MESSAGE_BAD
    if header.nlmsg_type == NLMSG_ERROR:
        return error_read(at, length)
    if header.nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET) or header.nlmsg_len < BODY_OFFSET:
        return MESSAGE_BAD
    if header.nlmsg_len > length and not truncated:
        return MESSAGE_BAD
    if length > header.nlmsg_len:
        length = header.nlmsg_len
    memset(&fields, 0, sizeof(Fields))
    if not attributes_read(at, length, truncated, &fields) or fields.id_be == NULL:
        return MESSAGE_BAD
    p.number = load_be32(fields.id_be)
    p.data = fields.payload
    p.caplen = fields.payload_len
    p.wirelen = fields.wirelen if fields.wirelen > fields.payload_size else fields.payload_size
    if truncated and p.wirelen == 0:
        p.wirelen = 1            # a packet of unknown length, none of it there: nothing to call malformed
    p.time_ns = fields.time_ns
    mark[0] = fields.mark
    p.flags = 0
    p.verdict = VERDICT_UNSET
    if truncated:
        return MESSAGE_TRUNCATED
    return MESSAGE_PACKET if fields.payload != NULL else MESSAGE_UNCOPIED


cdef QueueMessage error_read(const uint8_t *at, uint32_t length) noexcept nogil:
    """An error carries the errno, negated, and the header of the message that it answers."""
    if length < HEADER_SIZE + 4 + HEADER_SIZE:
        return MESSAGE_BAD
    cdef const nlmsghdr *answered = <const nlmsghdr *>(at + HEADER_SIZE + 4)
    return MESSAGE_SETTLED if answered.nlmsg_seq == SETTLE_SEQUENCE else MESSAGE_ERROR


cdef bint attributes_read(const uint8_t *at, uint32_t length, bint truncated, Fields *fields) noexcept nogil:
    """Walk the attributes; False where one runs over its message (in a truncated message: where it has no header)."""
    cdef uint32_t position = BODY_OFFSET, left, size
    cdef const nlattr *attribute
    while position + sizeof(nlattr) <= length:
        attribute = <const nlattr *>(at + position)
        left = length - position
        size = attribute.nla_len
        if size < sizeof(nlattr) or (size > left and not truncated):
            return False
        attribute_take(attribute, (size if size < left else left) - <uint32_t>sizeof(nlattr), fields)
        if size >= left:
            return True
        position += (size + 3) & ~<uint32_t>3
    return True


cdef inline void attribute_take(const nlattr *attribute, uint32_t size, Fields *fields) noexcept nogil:
    cdef const uint8_t *value = <const uint8_t *>attribute + sizeof(nlattr)
    cdef int kind = attribute.nla_type & NLA_TYPE_MASK
    if kind == NFQA_PAYLOAD:
        fields.payload = value
        fields.payload_len = size
        fields.payload_size = attribute.nla_len - <uint32_t>sizeof(nlattr)
    elif kind == NFQA_PACKET_HDR and size >= 4:
        fields.id_be = value
    elif kind == NFQA_CAP_LEN and size >= 4:
        fields.wirelen = load_be32(value)
    elif kind == NFQA_MARK and size >= 4:
        fields.mark = load_be32(value)
    elif kind == NFQA_TIMESTAMP and size >= 16:
        fields.time_ns = load_be64(value) * 1000000000 + load_be64(value + 8) * 1000


cdef void queue_follow(Queue *q, uint32_t packet_id) noexcept nogil:
    """Follow the ids: what may be waiting below the first one, or in a gap, was never judged and goes round again."""
    cdef int32_t ahead = <int32_t>(packet_id - q.last_seen - 1)
    if q.seen and ahead < 0:
        q.disordered = 1
        return
    if q.seen and ahead > 0:
        q.lost_ids += <uint32_t>ahead
    if not q.seen or ahead > 0:
        queue_settle(q, packet_id - 1)
    q.seen = 1
    q.last_seen = packet_id

# ---- verdicts


cdef void queue_verdict(Queue *q, uint32_t packet_id, uint32_t verdict) noexcept nogil:
    """Add one verdict: to the run before it when that is the same verdict on the id before, else as a new run."""
    if q.run_length and (q.run_verdict != verdict or packet_id != q.run_last + 1 or q.disordered):
        run_close(q)
    q.run_verdict = verdict
    q.run_last = packet_id
    q.run_length += 1


cdef void queue_mark(Queue *q, uint32_t packet_id, uint32_t mark) noexcept nogil:
    """Send one packet through the hook again with another packet mark: all 32 bits of it, what it had among them."""
    marked_write(q, packet_id, VERDICT_REPEAT, mark)


cdef nlmsghdr *marked_write(Queue *q, uint32_t packet_id, uint32_t verdict, uint32_t mark) noexcept nogil:
    """Add a verdict of its own with a packet mark; returns its message."""
    cdef nlmsghdr *header
    run_close(q)
    header = <nlmsghdr *>(q.out + q.out_len)
    verdict_write(q, NFQNL_MSG_VERDICT, packet_id, verdict, 0)
    store_be32(attribute_add(q, header, NFQA_MARK, 4), mark)
    return header


cdef inline uint8_t *attribute_add(Queue *q, nlmsghdr *header, int kind, uint32_t length) noexcept nogil:
    """Add an attribute to the last message; returns where its value goes."""
    cdef nlattr *attribute = <nlattr *>(q.out + q.out_len)
    cdef uint32_t size = <uint32_t>sizeof(nlattr) + (length + 3 & ~<uint32_t>3)
    memset(attribute, 0, size)
    attribute.nla_len, attribute.nla_type = <uint16_t>(sizeof(nlattr) + length), <uint16_t>kind
    header.nlmsg_len += size
    q.out_len += size
    return <uint8_t *>attribute + sizeof(nlattr)


cdef uint8_t *queue_replace(Queue *q, uint32_t packet_id, uint32_t verdict, uint32_t mark, uint32_t length) noexcept nogil:
    """Settle one packet and put other bytes in its place (nfqnl_recv_verdict: bytes first, then the mark, then the verdict)."""
    return attribute_add(q, marked_write(q, packet_id, verdict, mark), NFQA_PAYLOAD, length)


cdef void queue_settle(Queue *q, uint32_t last_id) noexcept nogil:
    """Send every waiting packet up to `last_id` through the hook again, before any verdict that follows."""
    run_close(q)
    q.settled_to = last_id
    verdict_write(q, NFQNL_MSG_VERDICT_BATCH, last_id, VERDICT_REPEAT, SETTLE_SEQUENCE)


cdef inline void run_close(Queue *q) noexcept nogil:
    if q.run_length == 0:
        return
    cdef int kind = NFQNL_MSG_VERDICT if q.run_length == 1 else NFQNL_MSG_VERDICT_BATCH
    verdict_write(q, kind, q.run_last, q.run_verdict, 0)
    q.run_length = 0


cdef inline void verdict_write(Queue *q, int kind, uint32_t packet_id, uint32_t verdict,
                               uint32_t sequence) noexcept nogil:
    cdef uint8_t *value = message_begin(q, kind, NFQA_VERDICT_HDR, 12, sequence)
    store_be32(value, verdict)
    store_be32(value + 4, packet_id)


cdef inline void range_write(Queue *q) noexcept nogil:
    cdef uint8_t *value = message_begin(q, NFQNL_MSG_CONFIG, NFQA_CFG_PARAMS, 9, 0)
    store_be32(value, q.copy_range)
    value[4] = <uint8_t>NFQNL_COPY_PACKET


cdef inline uint8_t *message_begin(Queue *q, int kind, int attribute_kind, int size, uint32_t sequence) noexcept nogil:
    """Add a message of one attribute of at most 12 bytes to the batch; returns where its value goes."""
    cdef uint8_t *at = q.out + q.out_len
    cdef nlmsghdr *header = <nlmsghdr *>at
    cdef nlattr *attribute = <nlattr *>(at + BODY_OFFSET)
    memset(at, 0, VERDICT_SIZE)
    header.nlmsg_len = VERDICT_SIZE
    header.nlmsg_type = <uint16_t>(NFNL_SUBSYS_QUEUE << 8 | kind)
    header.nlmsg_flags = <uint16_t>NLM_F_REQUEST
    header.nlmsg_seq = sequence
    store_be16(at + HEADER_SIZE + 2, q.number)
    attribute.nla_len = <uint16_t>size
    attribute.nla_type = <uint16_t>attribute_kind
    q.out_len += VERDICT_SIZE
    return at + BODY_OFFSET + sizeof(nlattr)


cdef int queue_send(Queue *q) noexcept nogil:
    """Send the batch; a failure for want of memory is tried again a few times, what was not sent stays."""
    cdef int tries = 0
    run_close(q)
    while q.out_len:
        if send(q.fd, q.out, q.out_len, 0) >= 0:
            q.out_len = 0
        elif c_errno != EINTR:
            q.error = c_errno
            tries += 1
            if tries >= SEND_TRIES:
                return q.error
    return 0


# ---- Public API

MESSAGE_NAMES = {1: "packet", 2: "error", 3: "truncated", 4: "bad", 5: "uncopied", 6: "settled"}


cdef class QueueReader:
    """A queue's packets by hand: what the worker's loop does in C, one call at a time, for tests and tools.

    ``fd`` is a queue's netlink socket (or any datagram socket), ``number`` the queue number, ``copy_range`` in bytes.
    """

    cdef Queue queue

    def __cinit__(self, int fd, int number, int copy_range=128):
        if queue_bind(&self.queue, fd, number, copy_range):
            raise MemoryError

    def __dealloc__(self):
        queue_free(&self.queue)

    def receive(self, bint wait=True):
        """Return the messages of one batch as tuples (kind, packet id, bytes on the wire, data, Unix time in ns).

        An empty list: nothing is there. Raises OSError for what the socket reports, ENOBUFS among it.
        """
        cdef int n
        with nogil:
            n = queue_receive(&self.queue) if wait else queue_poll(&self.queue)
        if n == QUEUE_LOST or n == QUEUE_FAILED:
            raise OSError(self.queue.error, os.strerror(self.queue.error))
        return [self._take(i) for i in range(n)]

    def _take(self, int i):
        cdef Packet p
        memset(&p, 0, sizeof(Packet))
        kind = queue_take(&self.queue, i, &p)
        if kind in (MESSAGE_PACKET, MESSAGE_TRUNCATED, MESSAGE_UNCOPIED):
            queue_follow(&self.queue, <uint32_t>p.number)
        data = p.data[:p.caplen] if p.data != NULL else None
        return MESSAGE_NAMES[kind], p.number, p.wirelen, data, p.time_ns

    def verdict(self, uint32_t packet_id, uint32_t verdict):
        """Add a verdict (linux/netfilter.h: 0 drop, 1 accept, 4 repeat) to the batch; at most 64 before ``send``."""
        self._room()
        queue_verdict(&self.queue, packet_id, verdict)

    def mark(self, uint32_t packet_id, uint32_t mark):
        """Send a packet through the hook again with this packet mark, as one of the batch."""
        self._room()
        queue_mark(&self.queue, packet_id, mark)

    def replace(self, uint32_t packet_id, uint32_t verdict, uint32_t mark, bytes data):
        """Give a packet a verdict, this packet mark, and these bytes in the place of as many of its own, as one of the batch."""
        self._room()
        if len(data) > REPLACE_MAX:
            raise UsageError(f"{len(data)} bytes are more than a verdict brings: at most {<int>REPLACE_MAX}")
        memcpy(queue_replace(&self.queue, packet_id, verdict, mark, <uint32_t>len(data)), <const char *>data, len(data))

    def marks(self, int count):
        """Return the packet marks of the first ``count`` messages of the batch received last."""
        return [self.queue.marks[i] for i in range(count)]

    def settle(self, uint32_t last_id):
        """Send all waiting packets up to ``last_id`` through the hook again."""
        self._room()
        queue_settle(&self.queue, last_id)

    def _room(self):
        if self.queue.out_len >= QUEUE_BATCH * VERDICT_SIZE:
            raise UsageError("a batch of verdicts waits already: call send() first")

    def send(self):
        """Send the verdicts of the batch in one call. Raises OSError; the verdicts then wait for the next send."""
        if queue_send(&self.queue):
            raise OSError(self.queue.error, os.strerror(self.queue.error))

    @property
    def lost_ids(self):
        """Packet ids that were missing in the sequence."""
        return self.queue.lost_ids

    @property
    def disordered(self):
        """Whether an id came out of order, which ends batch verdicts."""
        return bool(self.queue.disordered)
