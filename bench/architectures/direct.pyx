"""One thread does everything: receives, judges, answers. Alone (sequential), or one for each queue (run to completion).

What it owns
    One Loop per feed: its packets, its rules, its outlet. Loops share the rule set, which nobody writes, and nothing else.

Layout
    receive up to `batch` packets ─▶ judge each ─▶ one send. With batch 1 that is the textbook loop: a packet, a verdict, a call.

Invariants
    Packets are answered in the order in which they came.

Who may write what
    A Loop: its thread.

What happens when full or broken
    Nothing is queued here, so nothing fills up: what is not taken waits in the kernel's queue.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memset
from tigerfox.dataplane.packet cimport Packet

from bench.architectures.port cimport *
from bench.architectures.threads cimport *

from bench.architectures.meter import Meter
from tigerfox.errors import UsageError

cdef struct Loop:
    Feed *feed
    Judge judge
    Outlet outlet
    int batch
    Packet packets[BATCH_ROOM]


cdef void *loop_run(void *argument) noexcept nogil:
    cdef Loop *loop = <Loop *>argument
    cdef int i, n = 0
    while n != FEED_END:
        n = feed_batch(loop.feed, loop.packets, loop.batch, True)
        for i in range(n):
            outlet_give(&loop.outlet, &loop.packets[i], judge_drops(&loop.judge, &loop.packets[i]), 0)
        outlet_flush(&loop.outlet)
    return NULL


cdef class Loops:
    """The loops of one run."""
    cdef Loop loops[MOST_WORKERS]
    cdef pthread_t threads[MOST_WORKERS]

    def run(self, Rig rig, int workers, int batch):
        cdef int i
        for i in range(workers):
            memset(&self.loops[i], 0, sizeof(Loop))
            self.loops[i].feed, self.loops[i].batch = &rig.feeds[i], batch
            rig.judge_bind(&self.loops[i].judge, i, workers, False)
            rig.outlet_bind(&self.loops[i].outlet, batch, i)
        with Meter() as meter, nogil:
            for i in range(1, workers):
                pthread_create(&self.threads[i], NULL, loop_run, &self.loops[i])
            loop_run(&self.loops[0])
            for i in range(1, workers):
                pthread_join(self.threads[i], NULL)
        return meter.figures([self.loops[i].judge.judged for i in range(workers)],
                             failed=sum(self.loops[i].outlet.failed for i in range(workers)))


def run(Rig rig not None, int workers=1, int batch=1):
    """Run until the feeds end; the rig has a feed for each worker. Returns the figures of Meter."""
    if workers != rig.feed_count or not 1 <= batch <= BATCH_ROOM:
        raise UsageError(f"{workers} workers want as many feeds, and a batch of 1 to {<int>BATCH_ROOM}")
    return Loops().run(rig, workers, batch)
