# One packet under inspection, and all that its rules may ask for; what a worker needs to inspect.
#
# What it owns: Detect points into tables of its worker; a Scene lives for one packet.
# Layout: private memory.
# Invariants: `payload` is what BUF_PAYLOAD means just now: a chunk of the stream or the packet's own payload. Of http, tls, ssh
#     and dns at most one is set, while its message is judged.
# Who may write what: the stages candidate, message and detect of the one worker.
# What happens when full or broken: see Candidates (candidates that found no place are counted).

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.app.buffer cimport AppBuffer
from tigerfox.dataplane.app.dns cimport DnsMessage
from tigerfox.dataplane.app.httpmessage cimport HttpMemory, HttpSide
from tigerfox.dataplane.app.ssh cimport SshState
from tigerfox.dataplane.app.tlsstate cimport TlsState
from tigerfox.dataplane.candidates cimport Candidates
from tigerfox.dataplane.flow cimport Flow, FlowSide, FlowTable
from tigerfox.dataplane.image cimport RuleSet
from tigerfox.dataplane.inspect cimport Bytes, Inspector
from tigerfox.dataplane.packet cimport Packet
from tigerfox.dataplane.scan cimport Scanners
from tigerfox.dataplane.session cimport Session, Sessions

cdef enum Phase:                 # of a message: which buffers become whole together
    PHASE_PAYLOAD = 0
    PHASE_REQUEST_LINE
    PHASE_REQUEST_HEAD
    PHASE_REQUEST_BODY
    PHASE_RESPONSE_LINE
    PHASE_RESPONSE_HEAD
    PHASE_RESPONSE_BODY
    PHASE_DNS
    PHASE_TLS_CLIENT
    PHASE_TLS_SERVER
    PHASE_TLS_CERTS
    PHASE_SSH
    PHASE_COUNT

cdef enum:
    DNS_TEXT = 4096              # bytes for the names of a message over UDP
    LITERAL_MAX = 64             # bytes of the longest literal that a scan looks for (ruleset/literals.py: LONGEST)

cdef struct DetectCounts:        # since the reader took them
    uint64_t candidates          # rules whose full check was begun
    uint64_t candidates_cut      # that found no room in a list
    uint64_t streams_refused     # packets whose bytes could not be taken into their stream
    uint64_t unfollowed          # TCP packets with payload whose stream is not followed

# Told of a rule before its full check, and with NO_RULE of a unit when its candidates were checked. `scene` is a Scene.
ctypedef void (*DetectWatch)(void *watcher, void *scene, uint32_t number) noexcept nogil

cdef struct Detect:              # of one worker
    const RuleSet *rules         # changed between batches only, as the two below
    const Scanners *scanners
    Inspector *inspector
    FlowTable *flows             # set at bind, as those below
    Sessions *sessions
    DetectCounts counts
    DetectWatch watch            # NULL but where a capture is explained
    void *watcher
    uint32_t depth               # bytes of each direction of a TCP stream that are inspected; 0: all
    Flow *flow                   # of the packet inspected last, NULL: none
    FlowSide side                # of that packet
    uint8_t reach                # ReachState of its direction; REACH_DECIDED, REACH_NEVER: of its connection
    uint8_t reach_back           # of the other direction
    uint8_t packet_scans         # some scanned rule means a packet's own payload
    uint32_t phase_count[PHASE_COUNT]
    uint32_t *phase_views[PHASE_COUNT]     # views with a scan, by the phase in which their buffer becomes whole
    Candidates pending           # of the packet: what the header index named
    Candidates found             # of the unit being judged
    HttpMemory draft             # of the message that is being read
    DnsMessage dns
    uint8_t dns_text[DNS_TEXT]

cdef struct Scene:
    Detect *d
    Packet *p
    Flow *flow                   # NULL: none
    Session *session             # NULL: its stream is not followed
    bint refused                 # for want of a session
    FlowSide side
    const uint32_t *key          # the packet's classes (match)
    Bytes payload
    HttpSide *http
    HttpMemory memory
    TlsState *tls
    SshState *ssh
    const DnsMessage *dns
    AppBuffer text               # of tls, dns or ssh
    uint8_t version[2]           # of tls, in network order
