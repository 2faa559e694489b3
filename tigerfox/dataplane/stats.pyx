"""What one worker counts: a page of counters and the event ring, in one mapped file."""

# What it owns
#   The page of one worker. It outlives the worker: a successor goes on counting where its predecessor stopped.
#
# Layout
#   0        128                     (next multiple of 64)   + 64
#   | header | WorkerStats           | ring: written, slots  | slots of 96 bytes, a power of two ...
#
# Invariants
#   Every counter only grows while the instance runs. `written` lies on its own cache line: readers that poll it do not
#   slow the counters.
#
# Who may write what
#   The worker on this queue, everything but `restarts`, which is the supervisor's. Readers map the page read-only.
#
# What happens when full or broken
#   Counters do not overflow in 64 bits; the ring overwrites its oldest event. A file whose slot count is no power of two or does
#   not fit its size is refused before anybody reads from it.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

import socket

from tigerfox.dataplane.events cimport Event, EventKind, EventReader, event_push, event_reader
from tigerfox.dataplane.packet cimport Packet
from tigerfox.dataplane.shared cimport SHARED_WORKER, SharedHeader

from tigerfox.errors import SharedMemoryError

cdef struct RingHeader:          # 64 bytes
    uint64_t written             # worker
    uint64_t slots               # creator, then constant
    uint64_t spare[6]

cdef enum:
    RING_OFFSET = (sizeof(SharedHeader) + sizeof(WorkerStats) + 63) // 64 * 64
    SLOTS_OFFSET = RING_OFFSET + 64      # behind the RingHeader
    LAYOUT = 6

DEFAULT_SLOTS = 4096
NOT_PINNED = 0xffffffff


cdef class WorkerPage:
    """``WorkerPage.create(path, queue, ring_slots)`` makes a page (``path=None``: anonymous memory),
    ``WorkerPage.open(path)`` maps one.

    ``ring_slots`` is the number of events kept, a power of two. Raises SharedMemoryError when a file is not a page
    of this version.
    """

    @staticmethod
    def create(path, uint32_t queue=0, ring_slots=DEFAULT_SLOTS):
        cdef WorkerPage page = WorkerPage.__new__(WorkerPage)
        if not 1 <= ring_slots <= 1 << 24 or ring_slots & (ring_slots - 1):
            raise ValueError(f"an event ring of {ring_slots} slots cannot be made; choose a power of two up to {1 << 24}")
        page.region = Region.create(path, SHARED_WORKER, LAYOUT, SLOTS_OFFSET + <size_t>ring_slots * sizeof(Event))
        (<RingHeader *>(page.region.base + RING_OFFSET)).slots = ring_slots
        page._bind()
        page.stats.queue = queue
        page.stats.cpu = NOT_PINNED
        return page

    @staticmethod
    def open(path, bint writable=False):
        cdef WorkerPage page = WorkerPage.__new__(WorkerPage)
        page.region = Region.open(path, SHARED_WORKER, LAYOUT, writable)
        page._bind()
        return page

    def _bind(self):
        cdef RingHeader *ring = <RingHeader *>(self.region.base + RING_OFFSET)
        cdef uint64_t slots = ring.slots if self.region.size >= SLOTS_OFFSET else 0
        if not 0 < slots <= 1 << 24 or slots & (slots - 1) or SLOTS_OFFSET + slots * sizeof(Event) != self.region.size:
            raise SharedMemoryError(f"{self.region.path}: a ring of {slots} events does not fit its {self.region.size} bytes. "
                                    "Remove it and start the instance again.")
        self.stats = <WorkerStats *>(self.region.base + sizeof(SharedHeader))
        self.ring.written = &ring.written
        self.ring.slots = <Event *>(self.region.base + SLOTS_OFFSET)
        self.ring.mask = slots - 1

    @property
    def ring_slots(self):
        """Events that the ring keeps."""
        return self.ring.mask + 1

    @property
    def heartbeat(self):
        """Turns of the worker's loop so far: it stands still when the worker is stuck."""
        return self.stats.heartbeat

    def begin(self, int pid, cpu, uint64_t started_ns):
        """Write down which process serves the queue from now on, its CPU (None: not pinned) and since when (Unix time).

        The worker calls it before its first packet.
        """
        self._must_write()
        self.stats.pid, self.stats.started_ns = pid, started_ns
        self.stats.cpu = NOT_PINNED if cpu is None else cpu

    @property
    def generation(self):
        """Generation of the rule set that the worker uses."""
        return self.stats.generation

    def count_restart(self):
        """Count that this worker was forked again; the supervisor calls it."""
        self._must_write()
        self.stats.restarts += 1

    def reader(self, from_start=True):
        """Return an EventReader: from the oldest event that is still there, or from the next to come."""
        return event_reader(self, self.ring, from_start)

    def snapshot(self):
        """Return the counters by name (``events_written`` and ``events_slots`` too); ``reasons`` and ``batches`` are lists.

        ``reasons[r]`` counts packets by Reason, ``batches[n]`` receive calls that brought n packets;
        ``cpu`` is None when not pinned.
        """
        cdef WorkerStats s = self.stats[0]
        counts = dict(s)
        counts["cpu"] = None if s.cpu == NOT_PINNED else s.cpu
        counts["reasons"] = [s.reasons[i] for i in range(STATS_REASONS)]
        counts["batches"] = [s.batches[i] for i in range(STATS_BATCHES)]
        counts["events_written"] = self.ring.written[0]
        counts["events_slots"] = self.ring.mask + 1
        return counts

    def counters(self):
        """Return the single numbers of ``snapshot``, without ``reasons`` and ``batches``."""
        return {name: value for name, value in self.snapshot().items() if name not in ("reasons", "batches")}

    def push(self, int kind, src, dst, int count=1, uint64_t time_ns=0, uint64_t number=0, int sport=0, int dport=0, int proto=0,
             uint32_t rule=0xffffffff, uint32_t generation=0, uint32_t sid=0, int action=0, int reason=0,
             uint32_t ip_len=0, int ttl=0):
        """Write ``count`` events about one packet, ``number`` counting up, as the worker that owns the page.

        Only for a process that owns the page: a Python inspector, or a test. ``src`` and ``dst`` are addresses as text.
        """
        cdef Packet p
        cdef int i
        self._must_write()
        memset(&p, 0, sizeof(p))
        family = socket.AF_INET6 if ":" in src else socket.AF_INET
        _fill(p.flow.src, socket.inet_pton(family, src))
        _fill(p.flow.dst, socket.inet_pton(family, dst))
        p.flow.version = 6 if ":" in src else 4
        p.flow.sport, p.flow.dport, p.flow.proto = <uint16_t>sport, <uint16_t>dport, <uint8_t>proto
        p.time_ns, p.number, p.ip_len, p.ttl = time_ns, number, ip_len, <uint8_t>ttl
        with nogil:
            for i in range(count):
                event_push(&self.ring, <EventKind>kind, &p, rule, generation, sid, <uint8_t>action, <uint8_t>reason)
                p.number += 1

    def _must_write(self):
        if not self.region.writable:
            raise SharedMemoryError(f"{self.region.path}: mapped for reading only. Open it with writable=True.")


cdef void _fill(uint8_t *sixteen, bytes packed) noexcept:
    cdef Py_ssize_t i
    for i in range(len(packed)):
        sixteen[i] = packed[i]
