"""All workers on the same packet: the first, second and fourth design of the history, by one parameter each.

What it owns
    A Team: two batches of packets, the answer to each of them, and what the threads wait on.

Layout
    capture thread: take a batch ─▶ "go" (start) ─▶ wait until every worker is done ─▶ combine, answer
    worker:         wait for go ─▶ judge every packet of the batch by its rules, on a copy ─▶ "done"
    Batches alternate, so that with `pipelined` the capture thread takes batch n + 1 while the workers have batch n.

    How they wait (Wait):
    SPIN      look, yield, look again: the first design, both sides
    CREATE    a thread for each worker and batch, and join: the second design
    CONDITION a mutex and a condition variable for "go", another pair for "done": the fourth design
    BARRIER   pthread_barrier, twice a batch
    LATCH     "go" by condition variable, "done" by a countdown on a futex
    FUTEX     both by futex
    HYBRID    both by futex behind up to HYBRID_TURNS turns of looking; nobody is woken who does not sleep

Invariants
    `generation` counts batches; a worker waits for it to differ from the batch that it did last. The documented designs have a
    flag in its place, which is set and reset. That is a fault, and a parameter:
    FAULT_RESET   when a worker is done it waits for the reset. Who is not there while the flag is down finds it up again, takes
                  it for the old one, and waits for ever, as the capture thread does for him. Here he looks at the generation
                  after TICK_NS. "done" is told without the mutex, as documented, so that it may go unheard.
    FAULT_AGAIN   nobody resets the flag before the next packet comes. A worker that is done finds it up and judges the same
                  packet again, a copy of its own, and again. Only the first time counts.
    With either fault a packet still gets one verdict, and the right one.
    A packet is dropped when any worker's rules drop it. With `early` a worker passes over what another has dropped already.

Who may write what
    packets, counts, stopping: the capture thread, before "go". dropped[i]: any worker, only from 0 to 1. A Judge: its worker.

What happens when full or broken
    Nothing is queued, so nothing fills up. Every sleep ends after TICK_NS and looks again, so that no lost wake-up can hang a run.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from tigerfox.dataplane.packet cimport Packet

from bench.architectures.port cimport *
from bench.architectures.threads cimport *

from bench.architectures.meter import Meter
from tigerfox.errors import UsageError

cdef enum Wait:
    SPIN = 0
    CREATE = 1
    CONDITION = 2
    BARRIER = 3
    LATCH = 4
    FUTEX = 5
    HYBRID = 6

cdef enum:
    TICK_NS = 100_000_000
    HYBRID_TURNS = 2000

cdef enum Fault:
    FAULT_NONE = 0
    FAULT_RESET = 1
    FAULT_AGAIN = 2

FAULTS = {"": FAULT_NONE, "reset": FAULT_RESET, "again": FAULT_AGAIN}
WAITS = {"spin": SPIN, "create": CREATE, "condition": CONDITION, "barrier": BARRIER, "latch": LATCH, "futex": FUTEX, "hybrid": HYBRID}

cdef struct Team

cdef struct Member:              # a worker
    Team *team
    Judge judge
    Packet own                   # what it judges
    uint64_t missed              # FAULT_RESET: resets that it slept through
    uint64_t repeated            # FAULT_AGAIN: judgements beyond the first
    uint32_t done_generation
    uint8_t apart[64]            # the next one's counters lie in another cache line

cdef struct Team:
    Wait how
    Fault fault
    int workers
    bint early
    Feed *feed
    Outlet outlet
    Member members[MOST_WORKERS]
    pthread_t threads[MOST_WORKERS]
    Packet packets[2][BATCH_ROOM]
    uint8_t dropped[2][BATCH_ROOM]
    int counts[2]
    uint32_t stopping
    uint32_t sleepers            # HYBRID: workers that sleep for "go"
    uint32_t waiting             # HYBRID: the capture thread sleeps for "done"
    uint64_t spins               # of the capture thread
    uint64_t unheard             # FAULT_RESET: "done" that it slept through
    uint64_t late                # FAULT_RESET: packets that waited for TICK_NS, for either reason
    uint64_t waits_seen          # of both kinds, by the packet before
    pthread_mutex_t go_mutex
    pthread_cond_t go
    pthread_mutex_t done_mutex
    pthread_cond_t done
    pthread_barrier_t barrier
    uint8_t apart[64]
    uint32_t generation
    uint32_t flag                # FAULT_RESET, FAULT_AGAIN: "packet ready"
    uint8_t apart_too[64]
    uint32_t missing             # workers that are not done


# ---- worker


cdef void batch_judge(Team *t, Member *m, uint32_t generation) noexcept nogil:
    cdef int side = generation & 1, i
    for i in range(t.counts[side]):
        if t.early and t.dropped[side][i]:
            continue
        memcpy(&m.own, &t.packets[side][i], <size_t>(<char *>&m.own.matches[0] - <char *>&m.own))
        if judge_drops(&m.judge, &m.own):
            t.dropped[side][i] = 1


cdef inline bint go_told(Team *t, uint32_t done) noexcept nogil:
    """Whether a batch behind `done` is there, by the count or by the flag."""
    return word_load(&t.flag) != 0 if t.fault == FAULT_RESET else word_load(&t.generation) != done


cdef void go_wait(Team *t, Judge *j, uint32_t done) noexcept nogil:
    """Wait until a batch behind `done` is there."""
    cdef int turns = 0
    if t.how == BARRIER:
        pthread_barrier_wait(&t.barrier)
    elif t.how == CONDITION or t.how == LATCH:
        pthread_mutex_lock(&t.go_mutex)
        while not go_told(t, done):
            condition_wait(&t.go, &t.go_mutex, TICK_NS)
        pthread_mutex_unlock(&t.go_mutex)
    elif t.how == SPIN:
        while not go_told(t, done):
            j.spins += 1
            sched_yield()
    else:
        while t.how == HYBRID and turns < HYBRID_TURNS and word_load(&t.generation) == done:
            turns += 1
            cpu_pause()
        j.spins += turns
        if t.how == HYBRID:
            word_add(&t.sleepers, 1)
        while word_load(&t.generation) == done:
            word_wait(&t.generation, done, TICK_NS)
        if t.how == HYBRID:
            word_add(&t.sleepers, <uint32_t>-1)


cdef void reset_wait(Team *t, Member *m) noexcept nogil:
    """Wait until the flag is down; who was not there in time sees after TICK_NS that it is up for another batch."""
    cdef uint64_t end = now_ns() + TICK_NS
    if t.how == CONDITION:
        pthread_mutex_lock(&t.go_mutex)
    while word_load(&t.flag) and not word_load(&t.stopping):
        if now_ns() >= end and word_load(&t.generation) != m.done_generation:
            m.missed += 1
            break
        if t.how == CONDITION:
            condition_wait(&t.go, &t.go_mutex, TICK_NS)
        else:
            m.judge.spins += 1
            sched_yield()
    if t.how == CONDITION:
        pthread_mutex_unlock(&t.go_mutex)


cdef void judge_again(Team *t, Member *m) noexcept nogil:
    """The flag is still up: judge the same packet, and again, until there is another one."""
    while word_load(&t.flag) and word_load(&t.generation) == m.done_generation:
        judge_drops(&m.judge, &m.own)
        m.repeated += 1


cdef void done_tell(Team *t) noexcept nogil:
    cdef bint last
    if t.how == BARRIER:
        pthread_barrier_wait(&t.barrier)
        return
    last = word_add(&t.missing, <uint32_t>-1) == 0
    if not last or t.how == SPIN:
        return
    if t.how == CONDITION and t.fault:
        pthread_cond_signal(&t.done)
    elif t.how == CONDITION:
        pthread_mutex_lock(&t.done_mutex)
        pthread_cond_signal(&t.done)
        pthread_mutex_unlock(&t.done_mutex)
    elif t.how != HYBRID or word_load(&t.waiting):
        word_wake(&t.missing, 1)


cdef void *member_run(void *argument) noexcept nogil:
    cdef Member *m = <Member *>argument
    cdef Team *t = m.team
    while True:
        go_wait(t, &m.judge, m.done_generation)
        m.done_generation += 1
        if word_load(&t.stopping):
            return NULL
        batch_judge(t, m, m.done_generation)
        done_tell(t)
        if t.fault == FAULT_RESET:
            reset_wait(t, m)
        elif t.fault == FAULT_AGAIN:
            judge_again(t, m)


cdef void *member_once(void *argument) noexcept nogil:
    """A thread of the second design: one batch, then it ends."""
    cdef Member *m = <Member *>argument
    batch_judge(m.team, m, m.team.generation)
    return NULL

# ---- capture thread


cdef void go_tell(Team *t) noexcept nogil:
    """Let the workers begin with the batch behind the present one."""
    cdef int i
    word_store(&t.missing, <uint32_t>t.workers)
    if t.how == CONDITION or t.how == LATCH:
        pthread_mutex_lock(&t.go_mutex)
        word_add(&t.generation, 1)
        word_store(&t.flag, 1)
        pthread_mutex_unlock(&t.go_mutex)
        pthread_cond_broadcast(&t.go)
        return
    word_add(&t.generation, 1)
    word_store(&t.flag, 1)
    if t.how == BARRIER:
        pthread_barrier_wait(&t.barrier)
    elif t.how == CREATE:
        for i in range(t.workers):
            pthread_create(&t.threads[i], NULL, member_once, &t.members[i])
    elif t.how == FUTEX or t.how == HYBRID and word_load(&t.sleepers):
        word_wake(&t.generation, t.workers)


cdef void flag_reset(Team *t) noexcept nogil:
    cdef uint64_t waits = t.unheard
    cdef int i
    for i in range(t.workers):
        waits += t.members[i].missed
    t.late += waits > t.waits_seen
    t.waits_seen = waits
    pthread_mutex_lock(&t.go_mutex)
    word_store(&t.flag, 0)
    pthread_mutex_unlock(&t.go_mutex)
    pthread_cond_broadcast(&t.go)


cdef void done_wait(Team *t) noexcept nogil:
    cdef int i
    cdef uint64_t begin
    if t.how == BARRIER:
        pthread_barrier_wait(&t.barrier)
    elif t.how == CREATE:
        for i in range(t.workers):
            pthread_join(t.threads[i], NULL)
    elif t.how == CONDITION:
        pthread_mutex_lock(&t.done_mutex)
        while word_load(&t.missing):
            begin = now_ns()
            condition_wait(&t.done, &t.done_mutex, TICK_NS)
            t.unheard += word_load(&t.missing) == 0 and now_ns() - begin >= TICK_NS
        pthread_mutex_unlock(&t.done_mutex)
    else:
        missing_wait(t)


cdef void missing_wait(Team *t) noexcept nogil:
    cdef uint32_t missing
    cdef int turns = 0
    while t.how == SPIN and word_load(&t.missing):
        t.spins += 1
        sched_yield()
    while t.how == HYBRID and turns < HYBRID_TURNS and word_load(&t.missing):
        turns += 1
        cpu_pause()
    t.spins += turns
    word_store(&t.waiting, 1)
    full_fence()
    missing = word_load(&t.missing)
    while missing:
        word_wait(&t.missing, missing, TICK_NS)
        missing = word_load(&t.missing)
    word_store(&t.waiting, 0)


cdef void batch_answer(Team *t, uint32_t generation) noexcept nogil:
    cdef int side = generation & 1, i
    for i in range(t.counts[side]):
        outlet_give(&t.outlet, &t.packets[side][i], t.dropped[side][i], 0)
    outlet_flush(&t.outlet)


cdef int batch_take(Team *t, uint32_t generation, int batch, bint wait) noexcept nogil:
    cdef int side = generation & 1
    t.counts[side] = feed_batch(t.feed, t.packets[side], batch, wait)
    memset(t.dropped[side], 0, batch)
    return t.counts[side]


cdef void capture_run(Team *t, int batch, bint pipelined) noexcept nogil:
    cdef int n = 0, ahead = 0
    while n != FEED_END:
        n = ahead if ahead else batch_take(t, t.generation + 1, batch, True)
        ahead = 0
        if n <= 0:
            continue
        go_tell(t)
        if pipelined:
            ahead = batch_take(t, t.generation + 1, batch, False)
        done_wait(t)
        if t.fault == FAULT_RESET:
            flag_reset(t)
        batch_answer(t, t.generation)
    word_store(&t.stopping, 1)
    if t.how != CREATE:
        go_tell(t)

# ---- Public API


cdef class Teams:
    """The team of one run."""
    cdef Team team

    def __cinit__(self):
        memset(&self.team, 0, sizeof(Team))

    def bind(self, Rig rig, int workers, how, bint partition, bint early, int batch, fault):
        cdef Team *t = &self.team
        cdef int i
        t.how, t.fault, t.workers, t.early, t.feed = WAITS[how], FAULTS[fault], workers, early, &rig.feeds[0]
        rig.outlet_bind(&t.outlet, batch, 0)
        pthread_mutex_init(&t.go_mutex, NULL)
        pthread_mutex_init(&t.done_mutex, NULL)
        condition_init(&t.go)
        condition_init(&t.done)
        pthread_barrier_init(&t.barrier, NULL, workers + 1)
        for i in range(workers):
            t.members[i].team = t
            rig.judge_bind(&t.members[i].judge, i, workers, partition)

    def run(self, int batch, bint pipelined):
        cdef Team *t = &self.team
        cdef int i
        with Meter() as meter, nogil:
            if t.how != CREATE:
                for i in range(t.workers):
                    pthread_create(&t.threads[i], NULL, member_run, &t.members[i])
            capture_run(t, batch, pipelined)
            if t.how != CREATE:
                for i in range(t.workers):
                    pthread_join(t.threads[i], NULL)
        pthread_barrier_destroy(&t.barrier)
        pthread_cond_destroy(&t.go)
        pthread_cond_destroy(&t.done)
        members = range(t.workers)
        figures = meter.figures([t.members[i].judge.judged for i in members],
                                spins=t.spins + sum(t.members[i].judge.spins for i in members), failed=t.outlet.failed)
        return figures | {"late": t.late, "missed": sum(t.members[i].missed for i in members), "unheard": t.unheard,
                          "repeated": sum(t.members[i].repeated for i in members)}


def run(Rig rig not None, int workers=3, how="condition", bint partition=True, bint early=True, int batch=1, bint pipelined=False,
        fault=""):
    """Run until the feed ends. Returns the figures of Meter; ``judged`` counts what each worker did not pass over.

    ``fault`` "reset" (of "condition" and "spin") or "again" (of "spin") counts what came of it: ``late`` packets, resets ``missed``,
    "done" ``unheard``, judgements ``repeated``.
    """
    if how not in WAITS or rig.feed_count != 1 or not 1 <= workers <= MOST_WORKERS or not 1 <= batch <= BATCH_ROOM:
        raise UsageError(f"a team has one feed, 1 to {<int>MOST_WORKERS} workers, a batch of 1 to {<int>BATCH_ROOM}, and waits by "
                         f"one of {', '.join(WAITS)}")
    if fault and (batch > 1 or pipelined or (how, fault) not in (("condition", "reset"), ("spin", "reset"), ("spin", "again"))):
        raise UsageError('the faults are "reset" of "condition" and "spin", and "again" of "spin", a packet at a time')
    if partition and len(rig.parts) != workers:
        raise UsageError(f"{workers} workers want the rules in as many parts, not {len(rig.parts)}")
    teams = Teams()
    teams.bind(rig, workers, how, partition, early, batch, fault)
    return teams.run(batch, pipelined)
