# The compiled rule set: one immutable block of bytes, index-based, written by ruleset/compile.py, mapped by every worker.
# See image.pyx for the map of its sections.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
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
    uint32_t spare[4]

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

cdef class CompiledRules:
    """An image bound to memory: keeps the buffer alive, gives the data plane its RuleSet."""
    cdef object _buffer
    cdef Py_buffer _view
    cdef bint _bound
    cdef RuleSet rules
