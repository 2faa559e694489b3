# One HTTP/1.x connection as plain data: two directions, each with the transaction that it is in.
#
# What it owns: nothing; bytes stand in memory that the caller lends for every call (HttpMemory).
# Layout: one direction has two areas. `head` holds, from the bottom up, the raw bytes of the head (and of a chunked
#     body's trailer, directly behind it); from the top down what was made of them: folded and repeated values, the
#     normalised buffers. `body` holds the body as it came, or decoded, up to its size. A span is an offset and a
#     length into `head`, for HTTP_BUF_BODY into `body`.
#       head: [ request line | header lines | trailer ->    free    <- derived ]
# Invariants: head_len <= head_top <= size of `head`, which is at most HTTP_HEAD_MAX. All is indexes: a copy of HttpFlow
#     and of the two areas goes on in another process. The one exception is a decoder's state (see httpinflate.pyx):
#     side.codec and side.codec_epoch name it, and a successor whose pool has another epoch reports
#     HTTP_EV_DECODER_LOST and shows no more of that body.
# Who may write what: http_feed and http_close everything; http_buffer the spans, and the derived end of `head`.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from tigerfox.dataplane.app.buffer cimport AppBuffer
from tigerfox.dataplane.app.httpinflate cimport InflatePool
from tigerfox.dataplane.ascii cimport ascii_hex, ascii_is_space, ascii_lower

cdef enum HttpDirection:
    HTTP_REQUEST = 0
    HTTP_RESPONSE = 1

cdef enum HttpProgress:          # of the transaction in this direction; a buffer is whole from its progress on
    HTTP_PROGRESS_NONE = 0
    HTTP_PROGRESS_LINE = 1       # request line or status line
    HTTP_PROGRESS_HEAD = 2       # header fields
    HTTP_PROGRESS_BODY = 3       # bytes of the body are there, more may come
    HTTP_PROGRESS_COMPLETE = 4

cdef enum HttpAnswer:
    HTTP_MORE = 0                # everything was taken
    HTTP_HEAD = 1                # the head is whole, a body follows
    HTTP_INTERIM = 2             # the head of a 1xx response; the response proper follows in the same transaction
    HTTP_COMPLETE = 3            # the message is whole; its buffers stay until the next byte of this direction
    HTTP_TUNNEL = 4              # no longer HTTP: CONNECT or 101; nothing more is taken
    HTTP_BROKEN = 5              # cannot be parsed on; HttpSide.events says why; nothing more is taken

cdef enum HttpStep:
    HTTP_STEP_LINE = 0
    HTTP_STEP_JUNK = 1           # a line that stands where a status line should: body, as browsers have it
    HTTP_STEP_OLD = 2            # a request line without a protocol: HTTP/0.9, or do fields follow?
    HTTP_STEP_FIELDS = 3
    HTTP_STEP_LENGTH = 4
    HTTP_STEP_CLOSE = 5
    HTTP_STEP_CHUNK_SIZE = 6
    HTTP_STEP_CHUNK_REST = 7     # behind the digits, to the end of the line
    HTTP_STEP_CHUNK_DATA = 8
    HTTP_STEP_CHUNK_END = 9
    HTTP_STEP_TRAILER = 10
    HTTP_STEP_AFTER = 11         # complete; what comes decides between a new message and more body
    HTTP_STEP_TUNNEL = 12
    HTTP_STEP_BROKEN = 13

cdef enum HttpEvent:             # number of the bit in HttpSide.events; the names stand in http.pyx
    HTTP_EV_LEADING_JUNK = 0     # empty or blank lines, or bytes that are no status line, before a message
    HTTP_EV_LINE_ODD = 1         # a first line with other separators, an unknown version or no status
    HTTP_EV_OLD_PROTOCOL = 2     # HTTP/0.9
    HTTP_EV_PROTOCOL_MISSING = 3 # a request line without protocol, but fields follow
    HTTP_EV_LINE_END_ODD = 4     # CR alone, LF alone, LF CR
    HTTP_EV_HEAD_FULL = 5        # the head is larger than its memory: broken
    HTTP_EV_DERIVED_FULL = 6     # no room for a normalised buffer: it is missing or cut
    HTTP_EV_FIELDS_FULL = 7      # more than HTTP_FIELDS fields: the rest only in the raw buffer
    HTTP_EV_FIELD_NO_COLON = 8
    HTTP_EV_FIELD_NAME_ODD = 9   # empty, no token, white space before the colon
    HTTP_EV_FIELD_NUL = 10
    HTTP_EV_FOLDING_ODD = 11     # a continuation of nothing, or one that looks like a field
    HTTP_EV_FIELD_REPEATED = 12
    HTTP_EV_LENGTH_INVALID = 13
    HTTP_EV_LENGTH_AMBIGUOUS = 14 # Content-Length twice with other values, or beside Transfer-Encoding
    HTTP_EV_CODING_ODD = 15      # Transfer-Encoding is not just "chunked"
    HTTP_EV_CHUNK_ODD = 16       # an extension, junk behind the size, junk behind the data
    HTTP_EV_CHUNK_BROKEN = 17    # no chunk size where one must stand: the rest is body
    HTTP_EV_BODY_FULL = 18       # more body than its memory
    HTTP_EV_BODY_UNEXPECTED = 19 # bytes behind a message that are no message
    HTTP_EV_BODY_CUT = 20        # the stream ended before the body did
    HTTP_EV_ENCODING_UNKNOWN = 21
    HTTP_EV_ENCODING_LZMA = 22   # refused; the body is shown as it came
    HTTP_EV_ENCODING_DEEP = 23   # more than HTTP_LAYERS encodings
    HTTP_EV_ENCODING_FALSE = 24  # not encoded as announced: shown by another decoder, or as it came
    HTTP_EV_ENCODING_BROKEN = 25 # ended in an error: shown up to there
    HTTP_EV_ENCODING_TRAILING = 26 # bytes behind the end of the encoded data
    HTTP_EV_BOMB = 27            # inflates beyond the bound on work: shown up to there
    HTTP_EV_DECODER_NONE = 28    # no decoder free: shown as it came
    HTTP_EV_DECODER_LOST = 29    # the decoder died with another worker: the rest is not shown
    HTTP_EV_PIPELINE_FULL = 30   # more requests without an answer than HTTP_PIPELINE
    HTTP_EV_RESPONSE_UNASKED = 31
    HTTP_EV_URI_ENCODING_ODD = 32 # invalid, doubled or %u percent-encoding, overlong or invalid UTF-8, NUL
    HTTP_EV_HOST_ODD = 33        # no host in HTTP/1.1, or another one in the request target
    HTTP_EV_UPGRADE = 34         # CONNECT or 101
    HTTP_EV_COUNT = 35

cdef enum HttpBuffer:            # as Suricata names them: see http.pyx
    HTTP_BUF_METHOD = 0
    HTTP_BUF_URI_RAW = 1
    HTTP_BUF_URI = 2
    HTTP_BUF_PROTOCOL = 3
    HTTP_BUF_LINE = 4
    HTTP_BUF_STAT_CODE = 5
    HTTP_BUF_STAT_MSG = 6
    HTTP_BUF_HEADER_RAW = 7
    HTTP_BUF_HEADER = 8
    HTTP_BUF_HEADER_NAMES = 9
    HTTP_BUF_START = 10
    HTTP_BUF_HOST = 11
    HTTP_BUF_HOST_RAW = 12
    HTTP_BUF_USER_AGENT = 13
    HTTP_BUF_COOKIE = 14
    HTTP_BUF_CONTENT_TYPE = 15
    HTTP_BUF_CONTENT_LEN = 16
    HTTP_BUF_REFERER = 17
    HTTP_BUF_ACCEPT = 18
    HTTP_BUF_ACCEPT_LANG = 19
    HTTP_BUF_ACCEPT_ENC = 20
    HTTP_BUF_CONNECTION = 21
    HTTP_BUF_SERVER = 22
    HTTP_BUF_LOCATION = 23
    HTTP_BUF_BODY = 24
    HTTP_BUF_COUNT = 25

cdef enum HttpName:              # of the fields that something is made of; their texts stand in httpfields.pyx
    HTTP_NAME_OTHER = 0
    HTTP_NAME_HOST = 1
    HTTP_NAME_USER_AGENT = 2
    HTTP_NAME_COOKIE = 3
    HTTP_NAME_SET_COOKIE = 4
    HTTP_NAME_CONTENT_TYPE = 5
    HTTP_NAME_CONTENT_LENGTH = 6
    HTTP_NAME_CONTENT_ENCODING = 7
    HTTP_NAME_TRANSFER_ENCODING = 8
    HTTP_NAME_REFERER = 9
    HTTP_NAME_ACCEPT = 10
    HTTP_NAME_ACCEPT_LANGUAGE = 11
    HTTP_NAME_ACCEPT_ENCODING = 12
    HTTP_NAME_CONNECTION = 13
    HTTP_NAME_SERVER = 14
    HTTP_NAME_LOCATION = 15
    HTTP_NAME_COUNT = 16

cdef enum HttpAsked:             # what a request was, as far as its response depends on it
    HTTP_ASKED_PLAIN = 0
    HTTP_ASKED_HEAD = 1
    HTTP_ASKED_CONNECT = 2
    HTTP_ASKED_OLD = 3           # HTTP/0.9: the response has no head

cdef enum:
    HTTP_FIELDS = 96
    HTTP_PIPELINE = 32           # power of two
    HTTP_LAYERS = 2              # Suricata: response-body-decompress-layer-limit
    HTTP_PEEK = 32
    HTTP_HEAD_MAX = 65535
    HTTP_FIELD_REPEATED = 1      # stands behind another of the same name and is joined to that
    HTTP_FIELD_LEADS = 2         # others of the same name follow

cdef struct HttpSpan:
    uint32_t off
    uint32_t len

cdef struct HttpField:
    uint16_t name_off
    uint16_t name_len
    uint16_t value_off
    uint16_t value_len
    uint8_t flags
    uint8_t next                 # the next of the same name, where a flag says that there is one

cdef struct HttpSide:
    uint64_t events              # of this transaction: 1 << HttpEvent
    uint64_t built               # buffers whose span is made: 1 << HttpBuffer
    uint64_t there               # buffers that exist
    uint64_t body_left           # of a body or chunk of known length
    uint64_t body_total          # bytes of the body as they came
    uint64_t codec_epoch
    uint32_t codec               # handle in the pool, 0 for none
    uint32_t transaction         # counts from 1
    uint32_t head_len
    uint32_t head_top
    uint32_t line_off            # the line being read
    uint32_t line_end            # and, when it is whole, the end of its text
    uint32_t fields_off          # where the first line ended
    uint32_t field_off           # the field being read, which may go on in the next line
    uint32_t field_end
    uint32_t body_len            # bytes in `body`
    uint16_t status              # 0 where there is none
    uint8_t step
    uint8_t progress
    uint8_t direction
    uint8_t version              # 9, 10, 11; 0 where it is none of them
    uint8_t asked                # response: HttpAsked of its request
    uint8_t field_open
    uint8_t field_folded
    uint8_t cr                   # the last byte of the line is a CR that may end it
    uint8_t lf                   # the line before ended with LF alone
    uint8_t skip_lf              # one LF before the body belongs to the head
    uint8_t junk                 # the body began before a status line
    uint8_t tunnel_next          # behind CONNECT: HTTP again, or a tunnel
    uint8_t codings
    uint8_t coding[HTTP_LAYERS]
    uint8_t chunk_digits
    uint8_t peek_len
    uint8_t field_count
    uint8_t named[HTTP_NAME_COUNT]     # 1 + the place of the first field of that name, 0: there is none
    uint8_t peek[HTTP_PEEK]
    HttpSpan span[HTTP_BUF_COUNT]
    HttpField field[HTTP_FIELDS]

cdef struct HttpFlow:
    HttpSide side[2]
    uint32_t requests            # begun
    uint32_t responses           # begun
    uint8_t upgraded
    uint8_t connected            # a request was CONNECT
    uint8_t asked[HTTP_PIPELINE]

cdef struct HttpMemory:          # lent for one call, one direction
    AppBuffer head
    AppBuffer body

cdef struct HttpRun:             # one call; never stored
    HttpFlow *flow
    HttpSide *side
    HttpMemory *memory
    InflatePool *pool
    const uint8_t *pos
    const uint8_t *end


cdef inline void http_event(HttpSide *s, HttpEvent e) noexcept nogil:
    s.events |= <uint64_t>1 << e


cdef inline bint http_has_event(const HttpSide *s, HttpEvent e) noexcept nogil:
    return (s.events >> e) & 1


cdef inline uint32_t http_left(const HttpRun *r) noexcept nogil:
    return <uint32_t>(r.end - r.pos)


cdef inline void http_set(HttpSide *s, HttpBuffer which, uint32_t off, uint32_t length) noexcept nogil:
    s.span[<int>which].off = off
    s.span[<int>which].len = length
    s.built |= <uint64_t>1 << which
    s.there |= <uint64_t>1 << which


cdef inline bint http_is_lws(uint8_t c) noexcept nogil:
    return c == 32 or c == 9


cdef inline bint pair_at(const uint8_t *head, uint32_t at, uint8_t a, uint8_t b) noexcept nogil:
    return head[at] == a and head[at + 1] == b


cdef inline bint http_same(const uint8_t *a, const char *b, uint32_t n) noexcept nogil:
    """n bytes at a are the lower-case letters b, whatever their case."""
    cdef uint32_t i
    for i in range(n):
        if ascii_lower(a[i]) != <uint8_t>b[i]:
            return False
    return True
