# The compiled rule set: one immutable block of bytes, index-based, written by ruleset/compile.py, mapped by every worker.
# See image.pyx for the map of its sections.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from tigerfox.dataplane.prefixes cimport PrefixTable, RangeTable

cdef enum RuleAction:            # in the order in which they decide (Suricata's action-order)
    ACTION_PASS = 0
    ACTION_DROP = 1
    ACTION_REJECT_SRC = 2        # TCP RST or ICMP unreachable to the source
    ACTION_REJECT_DST = 3
    ACTION_REJECT_BOTH = 4
    ACTION_ALERT = 5

cdef enum:
    NO_RULE = 0xffffffff
    INSPECTORS = 16              # that rules can name
    IMAGE_PATTERNS = 64          # index patterns at most: one bit each in the class masks

cdef enum RuleTransport:         # Rule.transport: 0 any, an IP protocol number, or
    TRANSPORT_ICMP = 255         # ICMP and ICMPv6

cdef enum RuleTwin:              # `<>` makes two rules, one a direction; a packet that matches both counts once
    TWIN_NONE = 0
    TWIN_FIRST = 1               # its twin is the next rule
    TWIN_SECOND = 2              # its twin is the rule before

cdef struct Rule:                # 64 bytes; lower numbers decide first
    uint32_t sid
    uint32_t gid
    uint32_t rev
    uint32_t first_condition
    uint16_t condition_count
    uint8_t action               # RuleAction
    uint8_t version              # 0 either, 4 or 6
    uint8_t transport            # RuleTransport
    uint8_t twin                 # RuleTwin
    uint8_t noalert
    uint8_t block_scope          # BlockScope
    uint32_t block_seconds       # how long a drop blocks
    uint32_t src_set             # 0: any; else the address set
    uint32_t dst_set
    uint32_t sport_set           # 0: any; else the port set
    uint32_t dport_set
    uint32_t rate                # 0: none; else the number of its rate + 1
    uint32_t inspection          # 0: headers alone; else the number of its inspection + 1
    uint32_t block_default       # 1: the rule does not say what to block
    uint32_t of_addresses        # 1: an alert on addresses alone; where flows are kept, once a flow and direction
    uint16_t inspector           # 0: none; else the number of the Python inspector that is asked
    uint16_t inspect_flow        # 1: it is asked about the rest of the connection too

cdef enum ConditionField:        # names in match.FIELDS, same order
    FIELD_TCP_FLAGS = 0
    FIELD_TCP_SEQ
    FIELD_TCP_ACK
    FIELD_TCP_WINDOW
    FIELD_TTL
    FIELD_TOS
    FIELD_IP_ID
    FIELD_FRAG_BITS
    FIELD_FRAG_OFF
    FIELD_IP_OPTIONS
    FIELD_SAME_IP
    FIELD_ICMP_TYPE
    FIELD_ICMP_CODE
    FIELD_ICMP_ID
    FIELD_ICMP_SEQ
    FIELD_ICMP_MTU
    FIELD_DSIZE
    FIELD_IP_PROTO
    FIELD_COUNT

cdef enum ConditionOp:           # names in match.OPS, same order
    OP_RANGE = 0                 # a <= x <= b
    OP_MASK                      # (x & a) == b
    OP_ANY                       # (x & a) != 0
    OP_COUNT

cdef struct Condition:           # 12 bytes: one packet field against a range or a mask
    uint8_t field                # ConditionField
    uint8_t op                   # ConditionOp
    uint16_t negated
    uint32_t a
    uint32_t b

cdef struct Rate:                # threshold or detection_filter of a rule
    uint8_t kind                 # RateKind
    uint8_t track                # RateTrack
    uint16_t spare               # 16 bytes in all
    uint32_t count
    uint32_t seconds
    uint32_t identity            # stable over reloads: a hash of gid, sid and what is counted

cdef enum BufferId:              # what rules look into; names in ruleset/buffers.py, same order
    BUF_PAYLOAD = 0
    BUF_HTTP_METHOD
    BUF_HTTP_URI_RAW
    BUF_HTTP_URI
    BUF_HTTP_PROTOCOL
    BUF_HTTP_REQUEST_LINE
    BUF_HTTP_RESPONSE_LINE
    BUF_HTTP_STAT_CODE
    BUF_HTTP_STAT_MSG
    BUF_HTTP_HEADER_RAW
    BUF_HTTP_HEADER
    BUF_HTTP_HEADER_NAMES
    BUF_HTTP_START
    BUF_HTTP_HOST
    BUF_HTTP_HOST_RAW
    BUF_HTTP_USER_AGENT
    BUF_HTTP_COOKIE
    BUF_HTTP_CONTENT_TYPE
    BUF_HTTP_CONTENT_LEN
    BUF_HTTP_REFERER
    BUF_HTTP_ACCEPT
    BUF_HTTP_ACCEPT_LANG
    BUF_HTTP_ACCEPT_ENC
    BUF_HTTP_CONNECTION
    BUF_HTTP_SERVER
    BUF_HTTP_LOCATION
    BUF_HTTP_REQUEST_BODY
    BUF_HTTP_RESPONSE_BODY
    BUF_FILE_DATA
    BUF_DNS_QUERY
    BUF_TLS_SNI
    BUF_TLS_CERT_SUBJECT
    BUF_TLS_CERT_ISSUER
    BUF_TLS_CERT_SERIAL
    BUF_TLS_CERT_FINGERPRINT
    BUF_TLS_CERTS
    BUF_JA3_HASH
    BUF_JA3_STRING
    BUF_JA3S_HASH
    BUF_JA3S_STRING
    BUF_TLS_VERSION
    BUF_IPV4_HEADER
    BUF_IPV6_HEADER
    BUF_TCP_HEADER
    BUF_UDP_HEADER
    BUF_ICMPV4_HEADER
    BUF_ICMPV6_HEADER
    BUF_SSH_PROTO
    BUF_SSH_SOFTWARE
    BUF_HTTP_REQUEST_FIELD
    BUF_HTTP_RESPONSE_FIELD
    BUF_COUNT

cdef enum InspectUnit:           # what an inspection needs at hand
    UNIT_PACKET = 0              # the packet and its flow; BUF_PAYLOAD is the packet's payload, or the stream's window
    UNIT_TRANSACTION             # a message of an application protocol

cdef enum PayloadKind:           # what BUF_PAYLOAD is in TCP; see ruleset/rule.py, Rule.payload
    PAYLOAD_ANY = 0
    PAYLOAD_PACKET
    PAYLOAD_STREAM
    PAYLOAD_BOTH

cdef enum FlowWant:              # bits of Inspection.flow
    WANT_TO_SERVER = 1
    WANT_TO_CLIENT = 2
    WANT_ESTABLISHED = 4
    WANT_NOT_ESTABLISHED = 8
    WANT_STATELESS = 16
    WANT_NO_FRAG = 32
    WANT_ONLY_FRAG = 64
    WANT_FLOW = 128              # any `flow` keyword stands in the rule: a packet without a flow does not match

cdef enum AppProto:              # of a flow; bits of Inspection.apps: 1 << AppProto
    APP_UNKNOWN = 0              # not decided yet
    APP_FAILED = 1               # none of these
    APP_HTTP = 2
    APP_TLS = 3
    APP_DNS = 4
    APP_SSH = 5

cdef enum BitOp:
    BIT_ISSET = 0
    BIT_ISNOTSET
    BIT_SET                      # this and below: done when all of the rule holds
    BIT_UNSET
    BIT_TOGGLE

cdef struct BitStep:             # 8 bytes: one flowbits keyword
    uint8_t op                   # BitOp
    uint8_t more                 # isset, isnotset: the next step is another name of the same keyword; one is enough
    uint16_t bit                 # number of the name in this rule set
    uint32_t name                # hash of the name: what a flow keeps, so that it holds over a reload

cdef struct SizeStep:            # 12 bytes: one stream_size keyword
    uint8_t side                 # 0 client, 1 server, 2 both, 3 either
    uint8_t op                   # 0 <, 1 >, 2 =, 3 !=, 4 <=, 5 >=
    uint16_t spare
    uint32_t size
    uint32_t spare2

cdef struct Inspection:          # 48 bytes: what a rule looks at beyond the headers
    uint32_t first_part
    uint32_t first_bit           # in BitStep
    uint32_t first_size          # in SizeStep
    uint16_t part_count
    uint16_t flow                # FlowWant bits
    uint16_t apps                # wanted: 1 << AppProto; 0: any
    uint16_t apps_not            # unwanted
    uint8_t bit_count
    uint8_t size_count
    uint8_t unit                 # InspectUnit
    uint8_t payload              # PayloadKind
    uint8_t side                 # transaction: 0 request, 1 response, 2 either
    uint8_t progress             # transaction: HttpProgress from which all its buffers are there
    uint8_t scanned              # a scan names it; else it is a candidate wherever its header holds
    uint8_t of_flow              # a drop is one of the flow whenever it matches, not only when its stream or message did
    uint32_t scan_view           # the view whose scan names it; NO_VIEW where none does
    uint32_t variable_count      # of its byte_extract and byte_math
    uint32_t spare[3]

cdef struct Part:                # 12 bytes
    uint32_t view
    uint32_t first_test
    uint32_t test_count

cdef enum TestKind:
    TEST_CONTENT = 0
    TEST_PCRE
    TEST_DATA_AT
    TEST_SIZE
    TEST_BYTES                   # byte_test
    TEST_JUMP
    TEST_EXTRACT
    TEST_MATH
    TEST_BASE64                  # what follows is looked for in what is decoded here
    TEST_COUNT

cdef enum TestFlag:
    TEST_NEGATED = 1
    TEST_RELATIVE = 2
    TEST_NOCASE = 4              # content: the literal is in lower case
    TEST_AT_END = 8              # content: endswith
    TEST_BOUNDED = 16            # content: depth counts
    TEST_OFFSET_VARIABLE = 32    # `offset` (isdataat: its place) is the number of a variable; likewise:
    TEST_DEPTH_VARIABLE = 64
    TEST_COUNT_VARIABLE = 128
    TEST_VALUE_VARIABLE = 256
    TEST_LITTLE = 512            # byte order
    TEST_ALIGN = 1024            # byte_jump: to the next multiple of four
    TEST_FROM_BEGINNING = 2048   # byte_jump
    TEST_FROM_END = 4096
    TEST_BASE_OF_NEXT = 8192     # content, pcre: a later test counts from its end, so another place may make that one hold
    TEST_ALONE = 16384           # content: nothing counts from it, it counts from nothing, and it has no bounds

cdef enum ByteOp:                # byte_test; "!" is TEST_NEGATED
    BYTES_LESS = 0
    BYTES_MORE
    BYTES_EQUAL
    BYTES_AT_MOST
    BYTES_AT_LEAST
    BYTES_AND
    BYTES_XOR
    BYTES_OP_COUNT

cdef enum MathOp:
    MATH_ADD = 0
    MATH_SUBTRACT
    MATH_MULTIPLY
    MATH_DIVIDE
    MATH_LEFT
    MATH_RIGHT
    MATH_OP_COUNT

cdef enum:
    RULE_VARIABLES = 64          # of one rule
    VIEW_TRANSFORMS = 7
    NO_VIEW = 0xffffffff

cdef struct Test:                # 48 bytes: one test of a buffer
    uint8_t kind                 # TestKind
    uint8_t op                   # ByteOp or MathOp
    uint8_t base                 # of digits as text: 8, 10, 16; 0: bytes
    uint8_t count                # bytes of the number, or a variable
    uint16_t flags               # TestFlag
    uint8_t target               # the variable that it sets
    uint8_t align                # byte_extract: 0, or up to a multiple of it
    uint32_t literal             # content: offset in the literals; pcre: number of the expression
    uint32_t length              # of the literal
    int32_t offset               # from the buffer's start, or from where the match before ended; bytes
    int32_t depth                # bytes behind that in which the whole literal lies; byte_jump: post_offset; base64: 0 all
    uint32_t mask                # 0: none
    uint32_t multiplier
    uint32_t rare                # content: offset in it of the byte that is looked for first
    uint32_t spare
    uint64_t value               # what is compared or calculated with; size: low in the lower half, high in the upper

cdef struct Expression:          # 16 bytes: text in the literals
    uint32_t text
    uint32_t length
    uint32_t options             # of PCRE2
    uint32_t spare

cdef enum Transform:             # names in ruleset/buffers.py, TRANSFORMS, same order
    TRANSFORM_DOTPREFIX = 0
    TRANSFORM_LOWER
    TRANSFORM_UPPER
    TRANSFORM_STRIP_SPACE
    TRANSFORM_COMPRESS_SPACE
    TRANSFORM_URL_DECODE
    TRANSFORM_HEADER_LOWERCASE
    TRANSFORM_STRIP_PSEUDO
    TRANSFORM_COUNT

cdef struct View:                # 8 bytes: a buffer as tests see it; views stand in the order of their buffers
    uint8_t buffer               # BufferId
    uint8_t transform[VIEW_TRANSFORMS]   # Transform + 1 each, 0: none

cdef enum:
    SCAN_NEEDED = 4

cdef enum Traffic:               # what a scan is for: rules of TCP and of the other protocols, by the direction in its flow
    TRAFFIC_TCP = 0              # + FlowSide
    TRAFFIC_OTHER = 2            # + FlowSide
    TRAFFIC_COUNT = 4

cdef struct Scan:                # 28 bytes, TRAFFIC_COUNT a view: what is looked for in it
    uint32_t database            # its bytes in the databases: from, length 0 for nothing
    uint32_t length
    uint32_t first_pattern
    uint32_t pattern_count
    uint32_t shortest            # no literal is shorter
    uint8_t needed_count         # 0: not known
    uint8_t needed[SCAN_NEEDED]  # bytes without all of which no literal is there
    uint8_t spare[3]

cdef struct ScanPattern:         # 8 bytes: a literal's rules; its place in the view's run is its number in the database
    uint32_t first               # in the scan rules
    uint32_t count

cdef enum RateKind:
    RATE_LIMIT = 1
    RATE_THRESHOLD = 2
    RATE_BOTH = 3
    RATE_DETECTION_FILTER = 4

cdef enum RateTrack:
    TRACK_SOURCE = 1
    TRACK_DESTINATION = 2
    TRACK_RULE = 3
    TRACK_BOTH = 4

cdef enum:                       # dimensions of the index; bit i of Pattern.dimensions
    DIM_SRC = 0
    DIM_DST
    DIM_SPORT
    DIM_DPORT
    DIM_EXTRA                    # class of the TCP flags or of the ICMP type
    DIM_COUNT

cdef struct Pattern:             # 16 bytes: rules found by the classes of the chosen dimensions
    uint32_t dimensions
    uint32_t first_slot
    uint32_t slot_mask
    uint32_t spare

cdef struct Slot:                # 32 bytes; count 0: empty
    uint32_t key[5]              # class per dimension, 0 where the pattern does not use it
    uint32_t first               # in the candidate list
    uint32_t count
    uint32_t spare

cdef enum ExtraKind:             # rows of RuleSet.extra_classes
    EXTRA_NONE = 0
    EXTRA_TCP_FLAGS
    EXTRA_ICMP_TYPE
    EXTRA_COUNT

cdef enum Section:               # of an image, in this order
    SECTION_RULES = 0
    SECTION_CONDITIONS
    SECTION_RATES
    SECTION_PATTERNS
    SECTION_SLOTS
    SECTION_CANDIDATES
    SECTION_PROTOCOL_MASKS
    SECTION_SRC_MASKS
    SECTION_DST_MASKS
    SECTION_SPORT_MASKS
    SECTION_DPORT_MASKS
    SECTION_EXTRA_MASKS
    SECTION_EXTRA_CLASSES
    SECTION_SET_STARTS
    SECTION_INTERVALS
    SECTION_PORT_CLASSES
    SECTION_V4_ROOT
    SECTION_V4_CHUNKS
    SECTION_V6_ROOT
    SECTION_V6_NODES
    SECTION_V6_LEAVES
    SECTION_INSPECTIONS
    SECTION_PARTS
    SECTION_TESTS
    SECTION_BIT_STEPS
    SECTION_SIZE_STEPS
    SECTION_VIEWS
    SECTION_LITERALS
    SECTION_EXPRESSIONS
    SECTION_SCANS
    SECTION_SCAN_PATTERNS
    SECTION_SCAN_RULES
    SECTION_DATABASES
    SECTION_COUNT

cdef struct SectionPlace:
    uint64_t offset              # from the image's start, a multiple of 64
    uint64_t length              # in bytes

cdef struct ImageHeader:
    uint64_t magic               # IMAGE_MAGIC
    uint32_t layout              # version of this file's structs
    uint32_t copy_range          # bytes of a packet that the rules and the parser need
    uint64_t size                # of the image
    SectionPlace sections[SECTION_COUNT]

cdef struct RuleSet:             # pointers into one image; bound once, then constant
    uint32_t generation          # set at bind
    uint32_t copy_range
    uint32_t rule_count
    uint32_t pattern_count
    uint32_t address_classes     # bounds of the class masks
    uint32_t port_classes_used
    uint32_t extra_classes_used
    uint32_t set_count
    uint32_t inspection_count
    uint32_t expression_count
    uint32_t view_count
    uint8_t needs_flows          # some rule looks at more than one packet's headers, or passes a flow
    uint8_t needs_streams        # some rule looks into what a TCP connection carries
    uint8_t needs_apps           # some rule wants to know the application protocol
    uint8_t files_sport          # some pattern files rules under their source ports
    uint16_t view_first[BUF_COUNT + 1]   # views of buffer b: view_first[b] up to, not with, view_first[b + 1]
    const Rule *rules
    const Condition *conditions
    const Rate *rates
    const Pattern *patterns
    const Slot *slots
    const uint32_t *candidates
    const uint64_t *protocol_masks    # [256] patterns alive for an IP protocol
    const uint64_t *src_masks         # [address class] patterns alive, likewise below
    const uint64_t *dst_masks
    const uint64_t *sport_masks       # [port class]
    const uint64_t *dport_masks
    const uint64_t *extra_masks       # [extra class]
    const uint16_t *extra_classes     # [ExtraKind][256]
    const uint32_t *set_starts        # [set_count + 1] first interval of each address or port set
    const uint32_t *intervals         # pairs: first and last class
    const uint16_t *port_classes      # [65536]
    RangeTable v4
    PrefixTable v6
    const Inspection *inspections
    const Part *parts
    const Test *tests
    const BitStep *bit_steps
    const SizeStep *size_steps
    const View *views
    const uint8_t *literals
    const Expression *expressions
    const Scan *scans            # [view]
    const ScanPattern *scan_patterns
    const uint32_t *scan_rules
    const uint8_t *databases

cdef inline const Inspection *rule_inspection(const RuleSet *rs, uint32_t number) noexcept nogil:
    """What a rule looks at beyond the headers, NULL for headers alone."""
    cdef uint32_t inspection = rs.rules[number].inspection
    return &rs.inspections[inspection - 1] if inspection else NULL


cdef class CompiledRules:
    """An image bound to memory: keeps the buffer alive, gives the data plane its RuleSet."""
    cdef object _buffer
    cdef Py_buffer _view
    cdef bint _bound
    cdef RuleSet rules
