# DNS messages, over UDP and over TCP.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from tigerfox.dataplane.app.buffer cimport AppAnswer, AppBuffer, AppProbe, AppSpan

cdef enum:
    DNS_QUESTIONS = 16           # kept of one message; servers answer one and refuse more
    DNS_RECORDS = 64             # kept of one message; the others are walked and counted
    DNS_NAME_MAX = 1025          # characters of a name, as in Suricata 7
    DNS_NAME_STEPS = 255         # labels and pointers of a name, as in Suricata 7
    DNS_MESSAGE_STEPS = 4096     # of all names of a message together

cdef enum DnsFault:
    DNS_NONE = 0
    DNS_HEADER_SHORT = 1
    DNS_NAME_SHORT = 2           # a name goes on behind the message's end
    DNS_LABEL_TYPE = 3           # the two upper bits are 01 or 10
    DNS_POINTER_RANGE = 4
    DNS_POINTER_LOOP = 5
    DNS_NAME_LONG = 6            # over DNS_NAME_STEPS without a pointer
    DNS_QUESTION_SHORT = 7
    DNS_RECORD_SHORT = 8
    DNS_RDATA_SHORT = 9          # a record's data ends before what its type has
    DNS_ROOM = 10                # bound: the buffer is full
    DNS_QUESTION_LIMIT = 11      # bound: over DNS_QUESTIONS
    DNS_STEP_LIMIT = 12          # bound: over DNS_MESSAGE_STEPS
    DNS_STREAM_LIMIT = 13        # bound: a message over TCP larger than the buffer; it is skipped

cdef enum DnsEvent:              # bits
    DNS_EVENT_Z_FLAG = 1         # Suricata's dns.z_flag_set
    DNS_EVENT_OPCODE = 2         # 7 or larger: dns.invalid_opcode
    DNS_EVENT_NAME_CUT = 4       # a name was cut at a bound or loop behind a pointer
    DNS_EVENT_RECORDS_CUT = 8    # more than DNS_RECORDS
    DNS_EVENT_TRAILING = 16      # bytes behind the last record

cdef enum DnsSection:
    DNS_ANSWER = 1
    DNS_AUTHORITY = 2
    DNS_ADDITIONAL = 3

cdef struct DnsQuestion:
    AppSpan name                 # in the buffer: labels joined by dots, bytes as they came; empty for the root
    uint16_t type
    uint16_t cls

cdef struct DnsRecord:
    AppSpan name                 # in the buffer
    AppSpan text                 # in the buffer: the name that CNAME, NS, PTR, MX, SRV, SOA, DNAME carry; TXT's strings
    AppSpan data                 # in the message: the record's data as it is (A, AAAA: the address)
    uint32_t ttl
    uint16_t type
    uint16_t cls
    uint8_t section              # DnsSection
    uint8_t zero[3]

cdef struct DnsMessage:          # written whole by dns_parse; offsets, no pointers
    uint16_t id
    uint16_t flags               # as on the wire, host order
    uint16_t opcode
    uint16_t rcode               # with the upper bits of an OPT record (RFC 6891)
    uint16_t counts[4]           # of the header: questions, answers, authorities, additionals
    uint16_t question_count      # kept
    uint16_t record_count        # kept
    uint16_t records_walked
    uint16_t edns_size           # 0 without OPT
    uint32_t events              # DnsEvent bits
    uint16_t steps               # of names, so far
    uint8_t fault                # DnsFault
    uint8_t response
    DnsQuestion questions[DNS_QUESTIONS]
    DnsRecord records[DNS_RECORDS]

cdef struct DnsStream:           # one direction of one connection; all zero at its start
    uint32_t length              # of the message under way
    uint32_t have                # bytes of it stored
    uint32_t skip                # bytes still to pass over
    uint32_t messages
    uint32_t limits              # messages skipped for their size
    uint8_t head_have            # of the two length bytes
    uint8_t head
    uint8_t zero[2]

cdef AppProbe dns_probe(const uint8_t *data, uint32_t n) noexcept nogil
cdef AppProbe dns_probe_stream(const uint8_t *data, uint32_t n) noexcept nogil
cdef AppAnswer dns_parse(DnsMessage *m, AppBuffer *b, const uint8_t *data, uint32_t n) noexcept nogil
cdef AppAnswer dns_feed(DnsStream *s, DnsMessage *m, AppBuffer *b, const uint8_t *data, uint32_t n,
                        uint32_t *used) noexcept nogil
