# What the inspection of one flow keeps: its streams, its application parser, and what rules wait for. See session.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.app.buffer cimport AppBuffer
from tigerfox.dataplane.app.dns cimport DnsStream
from tigerfox.dataplane.app.httpinflate cimport InflatePool
from tigerfox.dataplane.app.httpmessage cimport HttpFlow, HttpMemory
from tigerfox.dataplane.app.ssh cimport SshState
from tigerfox.dataplane.app.tlsstate cimport TlsState
from tigerfox.dataplane.flow cimport Flow, FlowSide
from tigerfox.dataplane.shared cimport Region, SharedHeader
from tigerfox.dataplane.stream cimport Stream, STREAM_WINDOW

cdef enum:
    SESSION_HEAD = 32768         # bytes of an HTTP head and what is made of it
    SESSION_BODY = 102400        # bytes of a body (Suricata: request-body-limit, response-body-limit), or of a TLS or DNS message
    SESSION_STATE = 16384        # bytes of a Session, with room to grow
    SESSION_COLOUR = 4544        # of padding, so that slots begin in different sets of the caches (71 lines)
    SESSION_SIZE = SESSION_STATE + 2 * (STREAM_WINDOW + SESSION_HEAD + SESSION_BODY) + SESSION_COLOUR
    WAIT_RULES = 48              # rules that wait for more of a message or stream
    FIRED_RULES = 24             # rules that have matched in it
    TUNNELS = 4                  # changes of protocol that are followed in a connection
    SESSION_LOOKS = 16           # slots among which one that may give way is looked for
    DECODERS = 64                # bodies being decoded at a time, a worker
    WIDE_STREAMS = 128           # directions that may hold more than STREAM_NARROW at a time, a worker

cdef struct Waiting:             # rules of one side that were named by a scan and do not hold yet
    uint16_t count
    uint16_t fired_count
    uint16_t cut                 # found no room: what follows is scanned as a whole
    uint16_t spare
    uint32_t rules[WAIT_RULES]
    uint64_t since[WAIT_RULES]   # stream offset at which the scan named it
    uint32_t fired[FIRED_RULES]

cdef struct Message:             # of one side: which message the rules have seen, and how much of it
    uint64_t looked              # TLS: TlsSeen bits that were judged
    uint32_t transaction
    uint32_t body_looked         # bytes of the body that were scanned
    uint8_t progress             # up to which it was judged
    uint8_t spare[7]
    Waiting waiting

cdef struct Session:             # plain data, at the start of its slot; its worker only
    uint64_t flow_id             # whose it is; 0: free
    uint32_t next                # free list: number + 1
    uint32_t flow                # number of the flow in its table
    uint32_t generation          # of the rules that the numbers below are of
    uint64_t fed[2]              # stream offset up to which the application parser has read
    uint64_t told[2]             # stream offset behind the last whole HTTP message
    uint8_t app                  # AppProto that is being read
    uint8_t app_done[2]          # the parser wants no more of this side
    uint8_t tunnels              # how often another protocol began behind HTTP
    uint8_t broken               # its worker was killed while it changed this
    uint8_t closed[2]            # a FIN ended this side's HTTP message before its end
    uint8_t spare
    uint32_t closed_seq[2]       # where
    uint64_t seen_ns             # Unix time of the last packet that was judged with it
    uint64_t begun[2]            # stream offset at which the last HTTP message began
    uint8_t drafted[2]           # which stands in no memory here, but in the stream (draft.pyx)
    uint8_t room[30]             # so that streams begin on a line
    Stream streams[2]
    Waiting stream_waiting[2]
    Message messages[2]
    HttpFlow http
    TlsState tls[2]
    uint32_t tls_used[2]
    DnsStream dns[2]
    uint32_t dns_used[2]
    SshState ssh[2]

cdef struct SessionCounts:       # since the reader took them
    uint64_t opened
    uint64_t rejected            # times that a flow found no slot
    uint64_t displaced           # sessions that gave way to another flow's
    uint64_t discarded           # of a worker that was killed in the middle

cdef struct SessionState:        # in shared memory, behind the header; its worker only
    uint32_t free                # number + 1
    uint32_t used
    uint32_t touched             # slots below this were in use once
    uint32_t hand                # where the search for one that may give way goes on
    uint64_t busy                # number + 1 of the slot being changed, 0: none
    uint32_t wide                # streams that are wide

cdef struct Sessions:            # of one process: pointers into the region
    SessionCounts counts
    SharedHeader *header
    SessionState *state
    uint8_t *slots
    uint32_t capacity
    InflatePool *pool

# The slot of a flow, taken when it has none; NULL where all are in use. session_of: NULL where it has none, or none any more.
cdef Session *session_open(Sessions *t, Flow *f, uint32_t flow) noexcept nogil
cdef Session *session_of(Sessions *t, const Flow *f) noexcept nogil

# The slot of this number, whose ever it is; NULL where there is none.
cdef inline Session *session_slot(const Sessions *t, uint32_t number) noexcept nogil:
    return <Session *>(t.slots + <uint64_t>number * SESSION_SIZE) if number < t.capacity else NULL

# Whether no slot is free. session_idle: one that was not used for a while and may give way; NULL where those looked at were.
cdef inline bint session_full(const Sessions *t) noexcept nogil:
    return t.state.free == 0 and t.state.touched >= t.capacity

cdef Session *session_idle(Sessions *t, uint64_t now_ns) noexcept nogil

# Give a slot back; numbers that are not in use are passed over.
cdef void session_release(Sessions *t, uint32_t number) noexcept nogil

# A worker is about to change this session, and is done with it: a successor discards what was left in between.
cdef void session_begin(Sessions *t, const Session *s) noexcept nogil
cdef void session_end(Sessions *t) noexcept nogil

# Let a direction of it be wide, if so many are not yet; and give that back, with the memory.
cdef void session_widen(Sessions *t, Session *s, FlowSide side) noexcept nogil
cdef void session_narrow(Sessions *t, Session *s, FlowSide side) noexcept nogil

cdef uint8_t *session_window(Session *s, FlowSide side) noexcept nogil
cdef void session_http_memory(Session *s, FlowSide side, HttpMemory *memory) noexcept nogil
cdef AppBuffer session_buffer(Session *s, FlowSide side) noexcept nogil


cdef inline bint waiting_add(Waiting *w, uint32_t number, uint64_t at) noexcept nogil:
    """Let a rule wait that a scan named at stream offset `at`; without room all that follows is scanned anew."""
    if w.count == WAIT_RULES:
        w.cut = 1
        return False
    w.rules[w.count], w.since[w.count] = number, at
    w.count += 1
    return True


cdef class SessionTable:
    """Python's hold on the sessions of a queue: anonymous shared memory."""
    cdef Region region
    cdef Sessions sessions
