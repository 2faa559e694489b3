"""A queue for each worker: the third design of the history, the pipeline of the plan before and after, and its second phase.

What it owns
    Lanes: a box of packets for each worker, and, where a thread of its own gives the verdicts, boxes of answers.

Layout
    capture thread ─▶ box ─▶ worker ─┬▶ its own outlet                          answer "worker"   the third design
         (round robin)               ├▶ box of answers ─▶ verdict thread        answer "thread"   the plan
                                     └▶ box of answers ─▶ capture, which waits  answer "wait"     the plan's "before"
    With locked boxes all workers share one box of answers; with rings each has its own, and the verdict thread reads them in
    turn. The verdict thread takes up to ANSWER_BATCH answers at once and wakes up every ANSWER_WAIT_NS.

Invariants
    A packet that found room in a box gets its verdict from the rules; one that did not gets it at once from `full`: "drop",
    "accept", or "hold": the capture thread waits for room and meanwhile takes nothing from the kernel.
    The end goes the same way as the packets: feed, boxes, workers, boxes of answers, verdict thread. Nothing is left behind.

    With `lose` n, a worker loses every n-th of its results, and the capture thread, which waits for each, gives up after
    `limit_ns`: the packet gets its verdict from `late`, marked as such, and a result that comes after that is not used. This is
    the documented fault of the pipeline before; without `lose` the wait goes on until the result is there.

Who may write what
    Boxes as box.pyx says. A Judge and an Outlet: their thread.

What happens when full or broken
    As `full` says; a full box of answers makes its worker wait. No wait is without an end, see box.pyx.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from tigerfox.dataplane.packet cimport Packet

from bench.architectures.box cimport *
from bench.architectures.port cimport *
from bench.architectures.threads cimport *

from bench.architectures.meter import Meter
from tigerfox.errors import UsageError

cdef enum AnswerBy:
    BY_WORKER = 0
    BY_THREAD = 1
    BY_CAPTURE = 2

cdef enum WhenFull:
    FULL_DROP = 0
    FULL_ACCEPT = 1
    FULL_HOLD = 2

cdef enum:
    ANSWER_BATCH = 100           # as the plan has it
    ANSWER_WAIT_NS = 1_000_000
    IDLE_WAIT_NS = 100_000_000
    RESULT_WAIT_NS = 100_000_000 # "wait": after it a result is counted as late
    MOST_BATCH = 64

ANSWERS = {"worker": BY_WORKER, "thread": BY_THREAD, "wait": BY_CAPTURE}
LATES = {"drop": True, "accept": False}
FULLS = {"drop": FULL_DROP, "accept": FULL_ACCEPT, "hold": FULL_HOLD}

cdef struct Task:                # a packet on its way to a worker, with the bytes that belong to it
    Packet packet
    uint8_t data[PACKET_ROOM]

cdef struct Reply:               # a verdict on its way to who gives it
    uint64_t number
    uint64_t time_ns
    uint64_t drop

cdef struct Lanes

cdef struct Lane:                # a worker
    Lanes *all
    Box box
    Box replies                  # ring: its own
    Bell bell
    Judge judge
    Outlet outlet
    Task tasks[MOST_BATCH]       # what it took
    uint8_t apart[64]

cdef struct Lanes:
    BoxKind kind
    AnswerBy answer
    WhenFull full
    int workers
    int batch
    int spin                     # turns of looking before a ring's reader sleeps
    int lose                     # "wait": of so many results of a worker one is lost; 0: none
    bint late_drops              # verdict of a packet whose result was lost
    uint64_t limit_ns
    Feed *feed
    Outlet outlet                # capture thread
    Outlet answerer              # verdict thread
    Box replies                  # locked: of all workers
    Bell bell
    Lane lanes[MOST_WORKERS]
    pthread_t threads[MOST_WORKERS + 1]
    Packet packets[MOST_BATCH]
    Task tasks[MOST_BATCH]       # what the capture thread hands on
    uint64_t spins               # of the verdict thread
    uint64_t late                # "wait": results that took longer than RESULT_WAIT_NS, or were lost


cdef inline Box *reply_box(Lane *lane) noexcept nogil:
    return &lane.replies if lane.all.kind == BOX_RING else &lane.all.replies

# ---- worker


cdef void task_finish(Lane *lane, Task *task) noexcept nogil:
    """Judge a packet and hand on, or give, its verdict."""
    cdef Reply reply
    cdef bint drop = judge_drops(&lane.judge, &task.packet)
    if lane.all.answer == BY_WORKER:
        outlet_give(&lane.outlet, &task.packet, drop, 0)
        return
    if lane.all.lose and lane.judge.judged % <uint64_t>lane.all.lose == 0:
        return
    reply.number, reply.time_ns, reply.drop = task.packet.number, task.packet.time_ns, drop
    box_put(reply_box(lane), &reply, 1, True)


cdef void *lane_run(void *argument) noexcept nogil:
    cdef Lane *lane = <Lane *>argument
    cdef Box *box = &lane.box
    cdef int i, n
    while not box_over(box):
        n = box_take(box, lane.tasks, lane.all.batch, IDLE_WAIT_NS)
        for i in range(n):
            lane.tasks[i].packet.data = lane.tasks[i].data
            task_finish(lane, &lane.tasks[i])
        outlet_flush(&lane.outlet)
        if n == 0 and lane.all.kind == BOX_RING and not box_over(box):
            lane.judge.spins += bell_wait(&lane.bell, &box, 1, lane.all.spin, IDLE_WAIT_NS)
    return NULL

# ---- verdict thread


cdef void reply_give(Outlet *o, const Reply *reply) noexcept nogil:
    cdef Packet p
    p.number, p.time_ns = reply.number, reply.time_ns
    outlet_give(o, &p, reply.drop != 0, 0)


cdef int replies_give(Lanes *all, Box *box, uint64_t wait_ns) noexcept nogil:
    cdef Reply replies[ANSWER_BATCH]
    cdef int i, n = box_take(box, replies, ANSWER_BATCH, wait_ns)
    for i in range(n):
        reply_give(&all.answerer, &replies[i])
    outlet_flush(&all.answerer)
    return n


cdef void *answer_run(void *argument) noexcept nogil:
    cdef Lanes *all = <Lanes *>argument
    cdef Box *boxes[MOST_WORKERS]
    cdef int i, n
    if all.kind == BOX_LOCKED:
        while not box_over(&all.replies):
            replies_give(all, &all.replies, ANSWER_WAIT_NS)
        return NULL
    for i in range(all.workers):
        boxes[i] = &all.lanes[i].replies
    while not boxes_over(boxes, all.workers):
        n = 0
        for i in range(all.workers):
            n += replies_give(all, boxes[i], 0)
        if n == 0:
            all.spins += bell_wait(&all.bell, boxes, all.workers, all.spin, ANSWER_WAIT_NS)
    return NULL


cdef bint boxes_over(Box **boxes, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if not box_over(boxes[i]):
            return False
    return True

# ---- capture thread


cdef void task_fill(Task *task, const Packet *p) noexcept nogil:
    """Copy the packet and its first bytes: the receive buffer is used again before the worker is done."""
    cdef uint32_t length = p.caplen if p.caplen < PACKET_ROOM else PACKET_ROOM
    memcpy(&task.packet, p, <size_t>(<char *>&p.matches[0] - <char *>p))
    memcpy(task.data, p.data, length)
    task.packet.caplen = length


cdef void result_wait_limited(Lanes *all, Box *box, const Packet *p, int count) noexcept nogil:
    """The same for one packet, by the clock; what comes too late for an earlier one is passed over."""
    cdef Reply reply
    cdef uint64_t end = now_ns() + all.limit_ns, now = 0
    while count and now < end:
        if box_take(box, &reply, 1, end - now if now else all.limit_ns) and reply.number == p.number:
            reply_give(&all.outlet, &reply)
            return
        now = now_ns()
    all.late += count
    if count:
        outlet_give(&all.outlet, p, all.late_drops, MARK_LATE)


cdef void result_wait(Lanes *all, Lane *lane, int count) noexcept nogil:
    """Wait for the worker's result of every packet that was just submitted, then give it: the plan's "before"."""
    cdef Reply reply
    cdef int done = 0, n
    cdef Box *box = reply_box(lane)
    if all.lose:
        result_wait_limited(all, box, &all.packets[0], count)
        return
    while done < count:
        n = box_take(box, &reply, 1, RESULT_WAIT_NS)
        if n == 0 and all.kind == BOX_RING:
            all.spins += bell_wait(box.bell, &box, 1, all.spin, RESULT_WAIT_NS)
        elif n == 0:
            all.late += 1
        else:
            reply_give(&all.outlet, &reply)
            done += 1


cdef void capture_run(Lanes *all) noexcept nogil:
    cdef int i, n = 0, put, turn = 0
    cdef Lane *lane
    while n != FEED_END:
        n = feed_batch(all.feed, all.packets, all.batch, True)
        if n <= 0:
            continue
        for i in range(n):
            task_fill(&all.tasks[i], &all.packets[i])
        lane = &all.lanes[turn]
        turn = turn + 1 if turn + 1 < all.workers else 0
        put = box_put(&lane.box, all.tasks, n, all.full == FULL_HOLD)
        for i in range(put, n):
            outlet_give(&all.outlet, &all.packets[i], all.full == FULL_DROP, MARK_OVERFLOW)
        if all.answer == BY_CAPTURE:
            result_wait(all, lane, put)
        outlet_flush(&all.outlet)


cdef void lanes_run(Lanes *all) noexcept nogil:
    """Start the threads, capture to the end, and end stage by stage."""
    cdef int i
    for i in range(all.workers):
        pthread_create(&all.threads[i], NULL, lane_run, &all.lanes[i])
    if all.answer == BY_THREAD:
        pthread_create(&all.threads[all.workers], NULL, answer_run, all)
    capture_run(all)
    for i in range(all.workers):
        box_close(&all.lanes[i].box)
    for i in range(all.workers):
        pthread_join(all.threads[i], NULL)
        if all.kind == BOX_RING:
            box_close(&all.lanes[i].replies)
    if all.kind == BOX_LOCKED:
        box_close(&all.replies)
    if all.answer == BY_THREAD:
        pthread_join(all.threads[all.workers], NULL)

# ---- Public API


cdef class LaneSet:
    """The lanes of one run."""
    cdef Lanes *all

    def __cinit__(self):
        self.all = <Lanes *>calloc(1, sizeof(Lanes))
        if self.all == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        for i in range(self.all.workers):
            box_free(&self.all.lanes[i].box)
            box_free(&self.all.lanes[i].replies)
        box_free(&self.all.replies)
        free(self.all)

    def bind(self, Rig rig, int workers, BoxKind kind, AnswerBy answer, int room, int sends):
        cdef Lanes *all = self.all
        cdef Lane *lane
        cdef int i, failed = 0
        all.kind, all.answer, all.workers, all.feed = kind, answer, workers, &rig.feeds[0]
        rig.outlet_bind(&all.outlet, sends, -1)
        rig.outlet_bind(&all.answerer, sends, -1)
        if kind == BOX_LOCKED:
            failed |= box_make(&all.replies, BOX_LOCKED, room, sizeof(Reply), NULL)
        for i in range(workers):
            lane = &all.lanes[i]
            lane.all = all
            failed |= box_make(&lane.box, kind, room, sizeof(Task), &lane.bell)
            if kind == BOX_RING:
                failed |= box_make(&lane.replies, BOX_RING, room, sizeof(Reply), &all.bell)
            rig.judge_bind(&lane.judge, i, workers, False)
            rig.outlet_bind(&lane.outlet, sends, -1)
        if failed:
            raise MemoryError

    def run(self, int batch, int spin, WhenFull full, int lose, bint late_drops, int limit_ms):
        cdef Lanes *all = self.all
        cdef int i
        all.batch, all.spin, all.full = batch, spin, full
        all.lose, all.late_drops, all.limit_ns = lose, late_drops, <uint64_t>limit_ms * 1_000_000
        with Meter() as meter, nogil:
            lanes_run(all)
        lanes = range(all.workers)
        figures = meter.figures([all.lanes[i].judge.judged for i in lanes],
                                spins=all.spins + sum(all.lanes[i].judge.spins for i in lanes), overflowed=all.outlet.overflowed,
                                failed=all.outlet.failed + all.answerer.failed + sum(all.lanes[i].outlet.failed for i in lanes))
        return figures | {"late": all.late}


def run(Rig rig not None, int workers=3, bint lock_free=False, answer="thread", full="hold", int batch=1, int spin=0,
        int room=10_000, int sends=1, int lose=0, late="accept", int limit_ms=100):
    """Run until the feed ends. ``sends``: verdicts in one send. Returns the figures of Meter, and ``late`` results of "wait".

    ``lose``: one of so many results of "wait" is lost; its packet gets the verdict ``late`` after ``limit_ms``.
    """
    if answer not in ANSWERS or full not in FULLS or rig.feed_count != 1 or not 1 <= workers <= MOST_WORKERS \
            or not 1 <= batch <= MOST_BATCH or room < 1 or not 1 <= sends <= ANSWER_BATCH:
        raise UsageError(f"lanes have one feed, 1 to {<int>MOST_WORKERS} workers, a batch of 1 to {<int>MOST_BATCH}, an answer of "
                         f"{', '.join(ANSWERS)} and for full boxes one of {', '.join(FULLS)}")
    if lose < 0 or lose and (answer != "wait" or batch > 1 or lock_free or late not in LATES or not 1 <= limit_ms <= 1000):
        raise UsageError(f'results are lost where capture waits by "wait", a packet at a time in locked boxes, for 1 to 1000 ms; then '
                         f"the packet meets one of {', '.join(LATES)}")
    lanes = LaneSet()
    lanes.bind(rig, workers, BOX_RING if lock_free else BOX_LOCKED, ANSWERS[answer], room, sends)
    return lanes.run(batch, spin, FULLS[full], lose, LATES[late] if lose else False, limit_ms)
