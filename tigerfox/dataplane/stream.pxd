# TCP streams in order: what the end host would read is what is inspected. See stream.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.flow cimport Flow, FlowSide
from tigerfox.dataplane.packet cimport Packet

cdef enum:
    STREAM_WINDOW = 524288       # bytes of one direction that a wide stream can hold: inspected ones, those that wait for a gap
    STREAM_NARROW = 131072       # and that any other can
    STREAM_KEEP = 4096           # inspected bytes kept before the new ones, at least
    STREAM_UNHEARD = 32768       # the same where nobody hears what the receiver confirms; else all that is not confirmed
    STREAM_RUNS = 32             # runs of bytes behind gaps

cdef enum StreamAnswer:          # what a packet's payload is. `pass`: as far as the stream is concerned
    STREAM_NOTHING = 0           # pass: no payload, or only bytes that were inspected before (unchanged) or lie beyond the depth
    STREAM_NEW = 1               # pass, once inspected: bytes in order, Stream.fresh_at to Stream.end_at
    STREAM_WAITING = 2           # pass: kept behind a gap; the packet that fills the gap is judged by them too
    STREAM_OVERLAP = 3           # stop: brings other bytes for what came before
    STREAM_OUTSIDE = 4           # its receiver ignores it. Without payload: pass. With payload: stop, it was not inspected
    STREAM_LIMIT = 5             # stop: no room behind the gap, or beside what is not confirmed; the sender will send it again
    STREAM_UNKNOWN = 6           # the stream is not followed (no beginning, or gone deaf): judge the packet alone
    STREAM_UNSEEN = 7            # older than what is kept, of a stream whose receiver was not heard: nobody can say whether these
                                 # are the bytes that were inspected. Judge the packet alone; stop it where that is not enough
    STREAM_ANSWERS = 8

cdef struct StreamRun:           # stream offsets: start <= x < end
    uint64_t start
    uint64_t end

cdef struct Stream:              # one direction; no pointers; all zero at its start; its worker only
    uint64_t base                # stream offset (0: first byte behind the SYN) of window[0]
    uint64_t held_at             # stream offset of the first byte behind the last hole; see stream_held_at
    uint64_t fresh_at            # stream offset of the first byte that the last packet made available
    uint64_t end_at              # stream offset behind the last byte in order
    uint64_t skipped             # bytes beyond the depth: passed over
    uint64_t lost                # bytes that the receiver has got and that never came by here: passed over
    uint32_t isn                 # of the side it belongs to
    uint16_t run_count
    uint8_t started
    uint8_t ended                # the FIN was reached in order
    uint8_t holed                # a hole of lost bytes lies before fresh_at, and nothing from before it is held
    uint8_t offered              # fresh_at..end_at was the answer to the last packet
    uint8_t wide                 # session.pyx: it may hold more than others
    uint8_t spare[5]
    StreamRun runs[STREAM_RUNS]  # held bytes behind gaps, in no order

# Take a packet's payload into the stream of its direction, after flow_track. `window` is the direction's memory of
# STREAM_WINDOW bytes, `depth` how many bytes of a direction are inspected (0: all). The bytes stream_held_at..end_at stay until
# the next call for this direction.
cdef StreamAnswer stream_take(Stream *s, uint8_t *window, Flow *f, FlowSide side, const Packet *p, uint32_t depth) noexcept nogil

# How many bytes of its window a stream may use.
cdef inline uint64_t stream_room(const Stream *s) noexcept nogil:
    return STREAM_WINDOW if s.wide else STREAM_NARROW

# Where a held byte stands in the window.
cdef inline uint8_t *stream_at(const Stream *s, uint8_t *window, uint64_t offset) noexcept nogil:
    return window + (offset - s.base)

# The first of the bytes that are held in order, without a gap, up to end_at.
cdef inline uint64_t stream_held_at(const Stream *s) noexcept nogil:
    return s.base if s.base > s.held_at else s.held_at

# How many bytes are new since the last packet; they begin at stream_at(s, window, s.fresh_at).
cdef inline uint32_t stream_fresh(const Stream *s) noexcept nogil:
    return <uint32_t>(s.end_at - s.fresh_at)
