# Where an engine's packets come from, how they are judged, and where their verdicts go. See port.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from tigerfox.dataplane.image cimport RuleSet
from tigerfox.dataplane.packet cimport Packet
from tigerfox.dataplane.queue cimport QUEUE_BATCH, Queue

cdef enum:
    MOST_WORKERS = 16
    BATCH_ROOM = 256             # packets an engine may hold in one batch
    PACKET_ROOM = 192            # bytes of a packet that are handed from thread to thread
    FEED_END = -1                # answer of feed_batch: no more, or stopped

cdef enum Mark:                  # in Ledger.marks, a packet each
    MARK_DROP = 1
    MARK_GIVEN = 2
    MARK_OVERFLOW = 4            # judged by the policy for a full queue, not by rules
    MARK_TWICE = 8               # a second verdict came: a fault of the engine
    MARK_LATE = 16               # judged by the policy for a result that did not come in time

cdef struct Feed:                # capture thread only, but for `stopped`
    uint8_t **data               # in memory: packets of the capture, from the IP header
    uint32_t *lengths
    uint32_t count
    uint64_t first, step         # which of them: first, first + step, ...
    uint64_t total               # packets to hand out
    uint64_t next                # handed out so far
    uint64_t interval_ns         # between two packets; 0: as fast as they are taken
    uint64_t begin_ns
    Queue *queue                 # live; else NULL
    int held, at                 # messages of the queue's batch, and the next of them
    uint64_t taken_ns            # when that batch was received
    uint64_t lost                # ENOBUFS answers
    uint32_t *stopped            # set by anybody

cdef struct Judge:               # one worker's rules
    const RuleSet *rules
    uint32_t turns               # of work_turns a packet, beside the rules
    uint64_t judged              # packets; that worker only
    uint64_t spins               # turns that its waits spun
    uint64_t sum                 # so that no work is optimised away

cdef struct Ledger:              # all answering threads
    uint8_t *marks               # by packet number; NULL when live
    uint32_t *order              # packet numbers in the order of their verdicts
    uint32_t *lags               # nanoseconds from arrival to verdict, in that order; 0: not taken
    uint64_t room                # of order and lags
    uint64_t given               # verdicts so far

cdef struct Outlet:              # one answering thread
    Ledger *ledger
    Queue *queue                 # live; else NULL
    uint32_t most                # verdicts in one send
    uint32_t pending
    uint64_t overflowed
    uint64_t failed              # sends that the kernel refused

cdef int feed_batch(Feed *f, Packet *packets, int most, bint wait) noexcept nogil    # packets (0: none now), or FEED_END
cdef void packet_arrived(Packet *p, uint64_t at_ns) noexcept nogil                    # parses it
cdef bint judge_drops(Judge *j, Packet *p) noexcept nogil                            # of a parsed packet
cdef void outlet_give(Outlet *o, const Packet *p, bint drop, uint8_t mark) noexcept nogil
cdef void outlet_flush(Outlet *o) noexcept nogil

cdef class Rig:
    """One run's feeds, rules and ledger."""
    cdef Feed feeds[MOST_WORKERS]
    cdef Queue queues[MOST_WORKERS]        # of the feeds; live
    cdef Queue answers[MOST_WORKERS + 2]   # for threads that answer beside the feed's
    cdef Ledger ledger
    cdef uint32_t stop_word
    cdef int feed_count
    cdef int answer_count
    cdef uint32_t turns
    cdef object whole                      # CompiledRules
    cdef list parts
    cdef object traffic
    cdef object lags_hold, order_hold, marks_hold
    cdef void judge_bind(self, Judge *j, int worker, int workers, bint partition)
    cdef int outlet_bind(self, Outlet *o, int most, int feed) except -1
