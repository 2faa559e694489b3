# What one worker counts: a page in shared memory, written by that worker alone, read by all.

from libc.stdint cimport uint32_t, uint64_t
from tigerfox.dataplane.reason cimport R_COUNT
from tigerfox.dataplane.shared cimport Region
from tigerfox.dataplane.events cimport EventRing

cdef enum:
    STATS_REASONS = 64           # room for R_COUNT and what is to come
    STATS_BATCHES = 65           # batch sizes 0 to 64

cdef struct WorkerStats:
    # progress
    uint64_t heartbeat           # counts every turn of the loop, with or without packets
    uint64_t packets             # packets that got a verdict
    uint64_t bytes               # their length on the wire
    uint64_t accepted
    uint64_t dropped
    uint64_t rejected            # of the dropped: answered with RST or unreachable
    uint64_t alerts              # rules that fired and were not silenced by a threshold
    uint64_t blocks_added        # entries put into the block table
    uint64_t blocks_refused      # entries that found no place
    uint64_t matches_cut         # matches beyond PACKET_MATCHES of one packet
    uint64_t replies_failed      # RST or unreachable that could not be sent
    # fragments
    uint64_t fragments_completed     # datagrams put together
    uint64_t fragments_duplicate     # fragments that brought nothing new
    uint64_t fragments_overlapping   # fragments that brought again what was there, and more or other bytes
    uint64_t fragments_expired       # datagrams that were not complete in time
    uint64_t fragments_displaced     # datagrams that gave way to newer ones
    uint64_t fragments_rejected      # fragments beyond a bound
    # inspection
    uint64_t flows_created
    uint64_t flows_expired           # not seen for their timeout, or closed
    uint64_t flows_evicted           # gave way to newer ones, embryonic ones first
    uint64_t flows_rejected          # packets whose flow found no place
    uint64_t flowbits_rejected       # flowbits beyond what a flow keeps
    uint64_t sessions_opened         # connections whose stream was followed
    uint64_t sessions_rejected       # times that a connection found no room for it
    uint64_t sessions_displaced      # idle ones that gave way to other connections'
    uint64_t sessions_discarded      # a worker was killed while it changed them
    uint64_t streams_unfollowed      # TCP packets with payload that were judged by themselves
    uint64_t streams_refused         # TCP packets that their stream did not take
    uint64_t bypassed_flows          # connections that no rule can match any more
    uint64_t bypass_marks            # packets by which a direction of one was left to the kernel
    uint64_t replies_left            # connections whose replies alone were left to the kernel
    uint64_t replies_taken_back      # packets that were to take replies back from it
    uint64_t probes_mended           # keep-alive probes that went on with the byte that was inspected
    uint64_t candidates              # rules checked in full
    uint64_t candidates_cut          # rules that found no place among the candidates
    # the queue
    uint64_t receives            # receive calls that brought packets
    uint64_t sends               # verdict messages sends
    uint64_t lost_enobufs        # times the kernel said that messages were lost
    uint64_t lost_ids            # packet ids missing in the sequence: accepted or dropped unseen
    uint64_t truncated           # messages cut by the receive buffer
    uint64_t verdict_errors      # verdicts that the kernel refused (unknown id and the like)
    uint64_t send_errors         # sends that failed
    uint64_t bad_messages        # netlink messages that are not what they must be
    uint64_t repeated            # ids up to which a predecessor's packets were sent through the hook again
    # identity
    uint64_t generation          # of the rule set in use
    uint64_t last_id             # packet id settled last
    uint64_t started_ns          # Unix time at which the worker began
    uint32_t pid
    uint32_t queue
    uint32_t cpu                 # pinned to; 0xffffffff: not pinned
    uint32_t restarts            # supervisor: how often this worker was forked again
    uint64_t reasons[STATS_REASONS]
    uint64_t batches[STATS_BATCHES]

cdef class WorkerPage:
    """The page of one worker: statistics and event ring in one mapped file, or anonymous for replay."""
    cdef Region region
    cdef WorkerStats *stats
    cdef EventRing ring
