"""A firewall between two interfaces on AF_XDP sockets: the plan's third phase, which puts another thing in the queue's place.

What it owns
    A Forwarder: frames of memory that kernel and program share, a Port for each interface (a socket with its four rings), the
    XDP program that puts frames into the sockets, and the links that hold it at the interfaces.

Layout
    interface ─▶ program ─▶ received ─▶ judge ─┬▶ sending (other port) ─▶ interface        the frame itself is not copied here
                  ▲                            └▶ free
    fill (frames to receive into)   ◀── free ◀── completed (frames that were sent)

Invariants
    A frame is in one place: a ring, the list of free ones, or on its way through the judge. Every frame that comes out of
    `received` is counted once as passed, dropped, or without room. Frames of no IPv4 packet never get here: the program leaves
    ARP to the kernel and drops the rest, and drops everything once the socket is gone.

Who may write what
    Rings: one side each, the kernel the other. Everything else: the thread that runs. Counts: that thread; others read.

What happens when full or broken
    No room in `sending`: the frame is dropped and counted. No frame to receive into: the kernel drops and counts.
    Links and sockets are descriptors: whatever ends the process takes the program off the interfaces.
"""

import socket

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EBUSY, ENOBUFS, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from tigerfox.dataplane.packet cimport Packet
from tigerfox.dataplane.wire cimport load_be16, store_be16

from bench.architectures.port cimport *
from bench.architectures.threads cimport *

from tigerfox.errors import UsageError

cdef extern from *:
    """
    #include <linux/bpf.h>
    #include <linux/if_xdp.h>
    #include <poll.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static inline long bpf_syscall(int command, void *attributes, unsigned size) {
        return syscall(SYS_bpf, command, attributes, size);
    }
    static inline int xsk_bind(int fd, unsigned interface, int shared_with) {
        struct sockaddr_xdp to = {.sxdp_family = AF_XDP, .sxdp_ifindex = interface,
                                  .sxdp_flags = shared_with < 0 ? XDP_COPY : XDP_SHARED_UMEM,
                                  .sxdp_shared_umem_fd = shared_with < 0 ? 0 : (unsigned)shared_with};
        return bind(fd, (struct sockaddr *)&to, sizeof to);
    }
    static inline int xsk_push(int fd) { return (int)sendto(fd, 0, 0, MSG_DONTWAIT, 0, 0); }
    static inline int ports_wait(int one, int other, int milliseconds) {
        struct pollfd both[2] = {{.fd = one, .events = POLLIN}, {.fd = other, .events = POLLIN}};
        return poll(both, 2, milliseconds);
    }
    """
    struct xdp_desc:
        uint64_t addr
        uint32_t len
        uint32_t options
    struct xdp_ring_offset:
        uint64_t producer
        uint64_t consumer
        uint64_t desc
    struct xdp_mmap_offsets:
        xdp_ring_offset rx, tx, fr, cr
    struct xdp_umem_reg:
        uint64_t addr, len
        uint32_t chunk_size
    struct xdp_statistics:
        uint64_t rx_dropped, rx_invalid_descs, tx_invalid_descs, rx_ring_full, rx_fill_ring_empty_descs
    int AF_XDP, SOL_SOCKET, SOL_XDP, SO_SNDBUFFORCE
    int XDP_MMAP_OFFSETS, XDP_RX_RING, XDP_TX_RING, XDP_UMEM_REG, XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_STATISTICS
    uint64_t XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_FILL_RING, XDP_UMEM_PGOFF_COMPLETION_RING
    long bpf_syscall(int command, void *attributes, unsigned size)
    int xsk_bind(int fd, unsigned interface, int shared_with)
    int xsk_push(int fd) noexcept nogil
    int ports_wait(int one, int other, int milliseconds) noexcept nogil
    int setsockopt(int fd, int level, int name, const void *value, unsigned length) noexcept nogil
    int getsockopt(int fd, int level, int name, void *value, unsigned *length) noexcept nogil

cdef enum:
    FRAME = 2048                 # bytes; a whole Ethernet frame and the room that XDP keeps before it
    FRAMES = 8192
    RING = 2048                  # places of each ring
    BATCH = 64                   # as the queue's
    ETHERNET = 14
    TTL_AT = ETHERNET + 8        # in a frame with IPv4
    CHECKSUM_AT = ETHERNET + 10
    SHORTEST = ETHERNET + 20
    WAIT_MS = 100
    OWED_WAIT_MS = 1             # while frames lie in `sending` that the kernel would not take
    MOST_PUSHES = 16             # of one batch: the kernel takes 32 frames a call
    TELL_NS = 10_000_000         # the kernel's drops are read so often

cdef enum:                       # in Forwarding.counts
    COUNT_PASSED = 0
    COUNT_DROPPED = 1
    COUNT_NO_ROOM = 2
    COUNT_LOST = 3               # by the kernel, before they were received
    COUNT_KINDS = 4

COUNTS = ("passed", "dropped", "no_room", "lost")

cdef struct Ring:
    uint32_t *producer
    uint32_t *consumer
    uint8_t *places              # addresses (fill, completed) or xdp_desc (received, sending)
    void *map
    size_t length

cdef struct Port:
    int fd
    Ring fill, completed, received, sending
    uint8_t ether[12]            # of what leaves here: destination, source

cdef struct Forwarding:
    Port ports[2]
    uint8_t *frames
    uint64_t free[FRAMES]
    uint32_t free_count
    Judge judge
    bint judges                  # False: everything passes, unread
    uint64_t *counts
    uint64_t told_ns

# ---- rings


cdef inline uint32_t ring_waiting(Ring *r) noexcept nogil:
    """What the kernel has put there for us."""
    return word_load(r.producer) - r.consumer[0]


cdef inline uint32_t ring_room(Ring *r) noexcept nogil:
    return RING - (r.producer[0] - word_load(r.consumer))


cdef inline uint64_t *address_at(Ring *r, uint32_t place) noexcept nogil:
    return <uint64_t *>r.places + (place & (RING - 1))


cdef inline xdp_desc *frame_at(Ring *r, uint32_t place) noexcept nogil:
    return <xdp_desc *>r.places + (place & (RING - 1))


cdef inline void frame_free(Forwarding *f, uint64_t address) noexcept nogil:
    f.free[f.free_count] = address & ~<uint64_t>(FRAME - 1)
    f.free_count += 1


cdef void port_fill(Forwarding *f, Port *p) noexcept nogil:
    """Give the kernel frames to receive into, as many as it has room for and we have free."""
    cdef uint32_t n = ring_room(&p.fill), i, at = p.fill.producer[0]
    n = n if n < f.free_count else f.free_count
    for i in range(n):
        f.free_count -= 1
        address_at(&p.fill, at + i)[0] = f.free[f.free_count]
    word_store(p.fill.producer, at + n)


cdef void port_reap(Forwarding *f, Port *p) noexcept nogil:
    """Take back the frames that were sent."""
    cdef uint32_t n = ring_waiting(&p.completed), i, at = p.completed.consumer[0]
    for i in range(n):
        frame_free(f, address_at(&p.completed, at + i)[0])
    word_store(p.completed.consumer, at + n)


cdef void port_push(Port *p) noexcept nogil:
    """Let the kernel send what lies in `sending`; it does so within the call, until it has no more memory for it."""
    cdef int i
    for i in range(MOST_PUSHES):
        if ring_room(&p.sending) == RING:
            return
        if xsk_push(p.fd) < 0 and errno != EAGAIN and errno != EBUSY and errno != ENOBUFS:
            return

# ---- frames


cdef inline bint hop_taken(uint8_t *frame) noexcept nogil:
    """One off the time to live, as a router does; False where none is left."""
    cdef uint32_t total
    if frame[TTL_AT] <= 1:
        return False
    frame[TTL_AT] -= 1
    total = load_be16(frame + CHECKSUM_AT) + 0x100
    store_be16(frame + CHECKSUM_AT, <uint16_t>(total + (total >= 0xffff)))
    return True


cdef bint frame_passes(Forwarding *f, uint8_t *frame, uint32_t length) noexcept nogil:
    cdef Packet p
    if not f.judges:
        return True
    if length < SHORTEST:
        return False
    memset(&p, 0, <size_t>(<char *>&p.matches[0] - <char *>&p))
    p.data = frame + ETHERNET
    p.caplen = p.wirelen = length - ETHERNET
    packet_arrived(&p, 0)
    return not judge_drops(&f.judge, &p) and hop_taken(frame)


cdef int batch_forward(Forwarding *f, Port *here, Port *there) noexcept nogil:
    """Judge up to BATCH frames that came here and send those that pass there; how many there were."""
    cdef uint32_t n = ring_waiting(&here.received), room = ring_room(&there.sending), at = here.received.consumer[0]
    cdef uint32_t to = there.sending.producer[0], sent = 0, i
    cdef xdp_desc *one
    n = n if n < BATCH else BATCH
    for i in range(n):
        one = frame_at(&here.received, at + i)
        if not frame_passes(f, f.frames + one.addr, one.len):
            f.counts[COUNT_DROPPED] += 1
        elif sent == room:
            f.counts[COUNT_NO_ROOM] += 1
        else:
            memcpy(f.frames + one.addr, there.ether, sizeof(there.ether))
            frame_at(&there.sending, to + sent)[0] = one[0]
            sent += 1
            continue
        frame_free(f, one.addr)
    word_store(here.received.consumer, at + n)
    if sent:
        f.counts[COUNT_PASSED] += sent
        word_store(there.sending.producer, to + sent)
        port_push(there)
    port_reap(f, there)
    port_fill(f, here)
    return <int>n


cdef void losses_tell(Forwarding *f, bint now) noexcept nogil:
    cdef xdp_statistics found
    cdef unsigned length
    cdef uint64_t lost = 0
    cdef int side
    if not now and now_ns() - f.told_ns < TELL_NS:
        return
    f.told_ns = now_ns()
    for side in range(2):
        length = sizeof(found)
        if getsockopt(f.ports[side].fd, SOL_XDP, XDP_STATISTICS, &found, &length) == 0:
            lost += found.rx_dropped + found.rx_ring_full
    f.counts[COUNT_LOST] = lost


cdef void forward_run(Forwarding *f, const uint32_t *stopped) noexcept nogil:
    """Until stopped: take turns between the two directions, sleep when there is nothing."""
    cdef int n
    cdef bint owed
    while not word_load(stopped):
        n = batch_forward(f, &f.ports[0], &f.ports[1]) + batch_forward(f, &f.ports[1], &f.ports[0])
        losses_tell(f, n == 0)
        if n == 0:
            owed = ring_room(&f.ports[0].sending) < RING or ring_room(&f.ports[1].sending) < RING
            ports_wait(f.ports[0].fd, f.ports[1].fd, OWED_WAIT_MS if owed else WAIT_MS)

# ---- Public API


def bpf_call(int command, bytes attributes not None):
    """bpf(2) with the bytes of its attributes; what it returns. Raises OSError."""
    cdef uint8_t[128] held
    cdef long found
    if len(attributes) > <Py_ssize_t>sizeof(held):
        raise UsageError(f"attributes of {len(attributes)} bytes: at most {sizeof(held)}")
    memset(held, 0, sizeof(held))
    memcpy(held, <const uint8_t *>attributes, len(attributes))
    found = bpf_syscall(command, held, sizeof(held))
    if found < 0:
        PyErr_SetFromErrno(OSError)
    return found


cdef int ring_map(Ring *r, int fd, uint64_t which, const xdp_ring_offset *at, size_t item_size) except -1:
    cdef uint8_t *found
    r.length = at.desc + RING * item_size
    found = <uint8_t *>mmap(NULL, r.length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, which)
    if found == MAP_FAILED:
        PyErr_SetFromErrno(OSError)
    r.map = found
    r.producer, r.consumer, r.places = <uint32_t *>(found + at.producer), <uint32_t *>(found + at.consumer), found + at.desc
    return 0


cdef void ring_unmap(Ring *r) noexcept:
    if r.map != NULL:
        munmap(r.map, r.length)


cdef class Forwarder:
    """Two interfaces of this namespace, by their index, and the Ethernet addresses of what leaves each of them.

    The rules are the rig's, unless it does not judge: then everything passes, unread. ``counts``: memory for COUNTS, 64 bits
    each, which others may read. ``sockets`` are to be put into the map of the XDP program before anything is received.
    """
    cdef Forwarding f
    cdef Rig rig
    cdef object hold
    cdef readonly list sockets

    def __cinit__(self):
        memset(&self.f, 0, sizeof(Forwarding))

    def __init__(self, Rig rig not None, interfaces, ethers, uint64_t[::1] counts not None, bint judges=True):
        cdef int side
        cdef bytes ether
        if counts.shape[0] < COUNT_KINDS:
            raise UsageError(f"{counts.shape[0]} counts: {<int>COUNT_KINDS} are kept")
        self.hold, self.f.counts, self.rig, self.f.judges = counts, &counts[0], rig, judges
        rig.judge_bind(&self.f.judge, 0, 1, False)
        self._frames_make()
        self.sockets = [socket.socket(AF_XDP, socket.SOCK_RAW) for _ in range(2)]
        for side in range(2):
            ether = ethers[side]
            memcpy(self.f.ports[side].ether, <const uint8_t *>ether, sizeof(self.f.ports[side].ether))
            self._port_make(&self.f.ports[side], self.sockets[side].fileno(), side)
            if xsk_bind(self.f.ports[side].fd, interfaces[side], self.f.ports[0].fd if side else -1):
                PyErr_SetFromErrno(OSError)
            port_fill(&self.f, &self.f.ports[side])

    def _frames_make(self):
        cdef int i
        cdef void *found = mmap(NULL, FRAMES * FRAME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)
        if found == MAP_FAILED:
            raise MemoryError
        self.f.frames = <uint8_t *>found
        for i in range(FRAMES):
            frame_free(&self.f, <uint64_t>i * FRAME)

    cdef int _port_make(self, Port *p, int fd, int side) except -1:
        """A socket's share of the frames, and its rings."""
        cdef xdp_umem_reg memory
        cdef xdp_mmap_offsets at
        cdef unsigned length = sizeof(at)
        cdef int places = RING, room = 16 << 20, name
        p.fd = fd
        memset(&memory, 0, sizeof(memory))
        memory.addr, memory.len, memory.chunk_size = <uint64_t>self.f.frames, FRAMES * FRAME, FRAME
        if side == 0 and setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &memory, sizeof(memory)):
            PyErr_SetFromErrno(OSError)
        for name in (XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING):
            if setsockopt(fd, SOL_XDP, name, &places, sizeof(places)):
                PyErr_SetFromErrno(OSError)
        if getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &length) or setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)):
            PyErr_SetFromErrno(OSError)
        ring_map(&p.fill, fd, XDP_UMEM_PGOFF_FILL_RING, &at.fr, sizeof(uint64_t))
        ring_map(&p.completed, fd, XDP_UMEM_PGOFF_COMPLETION_RING, &at.cr, sizeof(uint64_t))
        ring_map(&p.received, fd, XDP_PGOFF_RX_RING, &at.rx, sizeof(xdp_desc))
        ring_map(&p.sending, fd, XDP_PGOFF_TX_RING, &at.tx, sizeof(xdp_desc))
        return 0

    def __dealloc__(self):
        cdef Port *p
        cdef int side
        for side in range(2):
            p = &self.f.ports[side]
            ring_unmap(&p.fill)
            ring_unmap(&p.completed)
            ring_unmap(&p.received)
            ring_unmap(&p.sending)
        if self.f.frames != NULL:
            munmap(self.f.frames, FRAMES * FRAME)

    def run(self):
        """Forward until the rig is stopped."""
        with nogil:
            forward_run(&self.f, &self.rig.stop_word)

    def finish(self):
        """Judge what is still there, once the program is off the interfaces; frames by what became of them."""
        cdef Forwarding *f = &self.f
        with nogil:
            while batch_forward(f, &f.ports[0], &f.ports[1]) + batch_forward(f, &f.ports[1], &f.ports[0]):
                pass
            port_push(&f.ports[0])
            port_push(&f.ports[1])
            losses_tell(f, True)
        return {name: f.counts[place] for place, name in enumerate(COUNTS)}
