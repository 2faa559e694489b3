# Fragments put together again. See defrag.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.packet cimport FlowTuple, Packet
from tigerfox.dataplane.reason cimport Reason

cdef enum:
    DEFRAG_TRACKERS = 1024       # datagrams in pieces at a time
    DEFRAG_RANGES = 64           # runs of bytes with gaps between them, of one datagram
    DEFRAG_HEADER = 256          # bytes of IP headers before the fragments' data
    DEFRAG_KEEP = 128            # bytes of data kept at least: every transport header, and those inside a tunnel
    DEFRAG_SECONDS = 60          # what RFC 8200, 4.5 and RFC 1122, 3.3.2 let an end host wait
    DEFRAG_GONE = 65536          # places to remember datagrams that had to give way

cdef struct Run:                 # bytes start <= x < end of the datagram's data
    uint16_t start
    uint16_t end

cdef struct Tracker:             # one datagram; all fields: its worker
    FlowTuple key                # addresses, identification in the ports' place, IPv4 protocol, version
    uint64_t hash
    uint32_t since               # Unix seconds of the fragment that came first
    uint32_t sid                 # of the rule that had it dropped
    uint32_t readable            # data bytes from the start that are kept as soon as they are there
    uint32_t header              # bytes of IP headers kept; 0: the first fragment has not come
    uint32_t end                 # bytes of data in all, when has_end
    uint16_t next                # in the chain or in the free list; 0: none, else number + 1; likewise:
    uint16_t older
    uint16_t newer
    uint8_t refused              # Reason that every further fragment gets; 0: none
    uint8_t has_end
    uint8_t held                 # a fragment of it was dropped: stays when complete
    uint32_t run_count
    Run runs[DEFRAG_RANGES]      # ascending, with gaps between them

cdef struct DefragCounts:        # since the reader took them
    uint64_t completed           # datagrams put together
    uint64_t duplicates          # fragments that brought nothing new
    uint64_t overlaps            # fragments that brought again what was there, and more or other bytes
    uint64_t expired             # datagrams that were not complete in time
    uint64_t displaced           # datagrams that gave way to newer ones
    uint64_t rejected            # fragments beyond a bound, those of displaced datagrams too

cdef struct Defrag:
    DefragCounts counts
    uint64_t keys[6]             # of hash40; set at bind, then constant
    uint32_t keep                # bytes of data kept of each datagram; grows between batches
    uint32_t slot                # bytes of a tracker's slot
    uint16_t free                # as Tracker.next
    uint16_t oldest
    uint16_t newest
    Tracker *trackers            # [DEFRAG_TRACKERS]
    uint16_t *heads              # [DEFRAG_TRACKERS] chains by hash, as Tracker.next
    uint32_t *gone               # [DEFRAG_GONE] by hash: Unix seconds at which a datagram gave way
    uint8_t *slots               # DEFRAG_HEADER bytes for headers that end there, then `keep` bytes of data

cdef struct Piece:               # what became of a fragment
    Tracker *tracker             # NULL: it is not part of any datagram
    bint completes
    bint again                   # the datagram was complete before, and held
    uint32_t sid                 # with R_FRAG_DROPPED: of the rule that had dropped the datagram

# Take a parsed fragment in; R_NONE, or what is wrong with it or its datagram. `now` in Unix seconds.
cdef Reason defrag_add(Defrag *d, const Packet *p, uint32_t now, Piece *piece) noexcept nogil

# Fill `whole` with the datagram that `p` completed, and parse it; its bytes stay until the next defrag_add.
cdef Reason defrag_whole(Defrag *d, Tracker *t, const Packet *p, Packet *whole) noexcept nogil

# Let what is still to come of a datagram have this answer, until it expires.
cdef void defrag_refuse(Tracker *t, Reason reason, uint32_t sid) noexcept nogil

# Forget a datagram that is done.
cdef void defrag_release(Defrag *d, Tracker *t) noexcept nogil


cdef class Reassembly:
    """The memory of one Defrag."""
    cdef Defrag defrag
    cdef int widen(self, uint32_t keep) except -1
