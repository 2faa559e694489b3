"""TLS (RFC 8446, 5246) and the SSLv2 hello: records, handshake messages across them, certificates."""

# What it owns: nothing; state and buffer are the caller's, one of each for a direction.
#
# Layout of the buffer, in the order of arrival: the first hello's body, its JA3 and MD5; the first certificate
#     message's body, then serial, issuer, subject and fingerprint of its first certificate. Spans stay valid until the
#     caller starts over.
#
# Invariants: bytes are taken in order and copied before they are read, so that results do not depend on the segments.
#     Messages that no rule can see are passed over without being stored. From ChangeCipherSpec or application data on
#     (behind a hello and between two messages: anything else would hide a hello from us that a server may still accept)
#     the direction is encrypted: APP_COMPLETE, and nothing more is read. Work is linear in what is fed.
#     A hello's body is read once it is whole; its text is there when the segment that ends it has been fed.
#
# Who may write what: tls_feed its state and buffer. Offsets of the state are checked before they are used.
#
# What happens when full or broken: a record that no TLS has is APP_BROKEN, as the very first one APP_NOT_THIS; a hello
#     larger than the buffer is APP_LIMIT. A larger certificate message keeps its first certificates. All three answers
#     stay. A hello or certificate broken inside is an event and the stream goes on, as in Suricata 7.
#     Measured on one core: a ClientHello of 517 bytes 1,063 ns, most of it MD5; a server's flight of three certificates
#     (4,009 bytes) 2,729 ns.

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset
from tigerfox.dataplane.wire cimport Cursor, cur_left, cur_take, load_be16
from tigerfox.dataplane.app.buffer cimport (
    APP_BROKEN, APP_COMPLETE, APP_LIMIT, APP_NEED_MORE, APP_NOT_THIS, PROBE_MORE, PROBE_NO, PROBE_YES, AppAnswer,
    AppBuffer, AppProbe, AppSpan, buffer_put, buffer_room, span_inside,
)
from tigerfox.dataplane.app.digest cimport sha1_hex_colons
from tigerfox.dataplane.app.hello cimport hello_read
from tigerfox.dataplane.app.tlsstate cimport (
    TLS_BODY, TLS_CERTS, TLS_ENCRYPTED, TLS_EVENT_CERT_BROKEN, TLS_EVENT_CERT_CUT, TLS_EVENT_CIPHER_EARLY,
    TLS_EVENT_EMPTY_RECORD, TLS_EVENT_HELLO_AGAIN, TLS_EVENT_MESSAGE_TYPE, TLS_FAILED, TLS_HEAD, TLS_HELLO_ROOM,
    TLS_RECORD_LENGTH, TLS_RECORD_MAX, TLS_RECORD_TYPE, TLS_RECORD_VERSION, TLS_REFUSED, TLS_SEEN_ALERT,
    TLS_SEEN_CERTIFICATE, TLS_SEEN_CHANGE_CIPHER, TLS_SEEN_CLIENT_HELLO, TLS_SEEN_CLIENT_KEYS, TLS_SEEN_DATA,
    TLS_SEEN_HELLO_DONE, TLS_SEEN_SERVER_HELLO, TLS_SEEN_SERVER_KEYS, TLS_SEEN_SSL2, TLS_SSL2_LENGTH, TLS_START,
    TLS_STATE, TlsFault, TlsHello, TlsState,
)
from tigerfox.dataplane.app.x509 cimport X509_NONE, X509_ROOM, x509_read

cdef enum:
    RECORD_CHANGE_CIPHER = 20
    RECORD_ALERT = 21
    RECORD_HANDSHAKE = 22
    RECORD_DATA = 23
    RECORD_HEARTBEAT = 24
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    CERTIFICATE = 11
    SERVER_KEYS = 12
    HELLO_DONE = 14
    CLIENT_KEYS = 16
    SEEN_HELLO = TLS_SEEN_CLIENT_HELLO | TLS_SEEN_SERVER_HELLO | TLS_SEEN_SSL2



cdef inline uint32_t load_be24(const uint8_t *p) noexcept nogil:
    return <uint32_t>p[0] << 16 | load_be16(p + 1)


cdef inline void tls_fail(TlsState *s, TlsFault fault) noexcept nogil:
    s.fault = <uint8_t>fault
    s.phase = TLS_FAILED


# Certificates

cdef void first_certificate(TlsState *s, AppBuffer *b, const AppSpan *der) noexcept nogil:
    s.x509_fault = <uint8_t>x509_read(b.data + der.off, der.len, b, &s.cert)
    if s.x509_fault != X509_NONE:
        s.events |= TLS_EVENT_CERT_CUT if s.x509_fault == X509_ROOM else TLS_EVENT_CERT_BROKEN
    if buffer_room(b) < 59:
        s.events |= TLS_EVENT_CERT_CUT
        return
    sha1_hex_colons(b.data + der.off, der.len, b.data + b.used)
    s.fingerprint.off = b.used
    s.fingerprint.len = 59
    b.used += 59


cdef void certificates_read(TlsState *s, AppBuffer *b, bint whole) noexcept nogil:
    """RFC 5246, 7.4.2: the list's length, then length and DER of each."""
    cdef Cursor c
    cdef const uint8_t *head
    cdef AppSpan span
    c.pos = b.data + s.message_off
    c.end = c.pos + s.message_stored
    if cur_take(&c, 3) == NULL:
        s.events |= TLS_EVENT_CERT_BROKEN
        return
    while cur_left(&c) >= 3:
        head = cur_take(&c, 3)
        span.len = load_be24(head)
        span.off = <uint32_t>(c.pos - b.data)
        if span.len == 0 or cur_take(&c, span.len) == NULL:
            s.events |= TLS_EVENT_CERT_BROKEN if whole else 0
            break
        if s.cert_count < TLS_CERTS:
            s.certs[s.cert_count] = span
        else:
            s.events |= TLS_EVENT_CERT_CUT
        s.cert_count += 1
    if s.cert_count:
        first_certificate(s, b, &s.certs[0])


# Handshake messages

cdef inline uint32_t message_seen(uint8_t kind) noexcept nogil:
    if kind == CLIENT_HELLO:
        return TLS_SEEN_CLIENT_HELLO
    if kind == SERVER_HELLO:
        return TLS_SEEN_SERVER_HELLO
    if kind == CERTIFICATE:
        return TLS_SEEN_CERTIFICATE
    if kind == SERVER_KEYS:
        return TLS_SEEN_SERVER_KEYS
    if kind == CLIENT_KEYS:
        return TLS_SEEN_CLIENT_KEYS
    return TLS_SEEN_HELLO_DONE if kind == HELLO_DONE else 0


cdef inline bint is_known(uint8_t kind) noexcept nogil:
    """Handshake types of RFC 5246, 8446 and 6066 (and 4: session ticket, 67: next protocol, 254: message hash)."""
    return kind <= 6 or kind == 8 or 11 <= kind <= 16 or 20 <= kind <= 26 or kind == 67 or kind == 254


cdef bint message_wanted(TlsState *s) noexcept nogil:
    """Is this message to be kept? Of each direction's hellos and certificate messages the first one."""
    cdef uint8_t kind = s.message_type
    if kind == CLIENT_HELLO or kind == SERVER_HELLO:
        if not s.seen & (TLS_SEEN_CLIENT_HELLO | TLS_SEEN_SERVER_HELLO):
            return True
        s.events |= TLS_EVENT_HELLO_AGAIN
        return False
    return kind == CERTIFICATE and not s.seen & TLS_SEEN_CERTIFICATE


cdef void message_begin(TlsState *s, AppBuffer *b) noexcept nogil:
    s.message_type = s.head[8]
    s.message_left = load_be24(s.head + 9)
    s.message_stored = 0
    s.message_off = b.used
    s.keep = message_wanted(s)
    if not is_known(s.message_type):
        s.events |= TLS_EVENT_MESSAGE_TYPE
    if s.keep and s.message_type != CERTIFICATE and s.message_left > buffer_room(b):
        tls_fail(s, TLS_HELLO_ROOM)


cdef void message_end(TlsState *s, AppBuffer *b, bint whole) noexcept nogil:
    s.message_have = 0
    s.seen |= message_seen(s.message_type)
    if not s.keep:
        return
    s.keep = False
    if not span_inside(b, s.message_off, s.message_stored):
        tls_fail(s, TLS_STATE)
    elif s.message_type == CERTIFICATE:
        certificates_read(s, b, whole)
    elif not hello_read(s, b, s.message_off, s.message_stored, s.message_type == SERVER_HELLO):
        tls_fail(s, TLS_HELLO_ROOM)


cdef void message_take(TlsState *s, AppBuffer *b, Cursor *c) noexcept nogil:
    """Take bytes of the message's body; what has no room is passed over (only of certificates)."""
    cdef uint32_t take = cur_left(c), stored
    if take > s.message_left:
        take = s.message_left
    if s.keep:
        stored = take if take < buffer_room(b) else buffer_room(b)
        buffer_put(b, c.pos, stored)
        s.message_stored += stored
        if stored < take:
            s.events |= TLS_EVENT_CERT_CUT
    cur_take(c, take)
    s.message_left -= take


cdef void handshake_take(TlsState *s, AppBuffer *b, Cursor *c) noexcept nogil:
    """The part of a handshake record that is there: any number of messages, begun and ended anywhere."""
    while s.phase == TLS_BODY and c.pos < c.end:
        if s.message_have < 4:
            s.head[8 + s.message_have] = cur_take(c, 1)[0]
            s.message_have += 1
            if s.message_have == 4:
                message_begin(s, b)
        else:
            message_take(s, b, c)
        if s.phase == TLS_BODY and s.message_have >= 4 and s.message_left == 0:
            message_end(s, b, not s.events & TLS_EVENT_CERT_CUT)


# Records

cdef void encrypted_begin(TlsState *s) noexcept nogil:
    """ChangeCipherSpec or application data; before a hello, or within a message, it hides nothing that follows."""
    if s.seen & SEEN_HELLO and s.message_have == 0:
        s.phase = TLS_ENCRYPTED
    else:
        s.events |= TLS_EVENT_CIPHER_EARLY


cdef void record_begin(TlsState *s) noexcept nogil:
    s.content = s.head[0]
    s.record_version = load_be16(s.head + 1)
    s.record_left = load_be16(s.head + 3)
    s.phase = TLS_BODY
    if not RECORD_CHANGE_CIPHER <= s.content <= RECORD_HEARTBEAT:
        tls_fail(s, TLS_RECORD_TYPE)
    elif s.head[1] != 3:
        tls_fail(s, TLS_RECORD_VERSION)
    elif s.record_left > TLS_RECORD_MAX:
        tls_fail(s, TLS_RECORD_LENGTH)
    elif s.content == RECORD_DATA:
        s.seen |= TLS_SEEN_DATA
        encrypted_begin(s)
    elif s.content == RECORD_CHANGE_CIPHER:
        s.seen |= TLS_SEEN_CHANGE_CIPHER
        encrypted_begin(s)
    elif s.content == RECORD_ALERT:
        s.seen |= TLS_SEEN_ALERT
    elif s.content == RECORD_HANDSHAKE and s.record_left == 0:
        s.events |= TLS_EVENT_EMPTY_RECORD


cdef inline bint is_ssl2(const uint8_t *head) noexcept nogil:
    """Two length bytes, then a hello: of a client with the version it wants, of a server its session id flag."""
    return head[0] & 0x80 != 0 and (
        head[2] == 1 and (head[3] == 3 or load_be16(head + 3) == 2) or head[2] == 4 and head[3] <= 1)


cdef void ssl2_begin(TlsState *s) noexcept nogil:
    """An SSLv2 hello. One that offers SSLv3 or later is followed by TLS records; else all that follows is SSLv2."""
    cdef uint32_t length = load_be16(s.head) & 0x7fff
    s.seen |= TLS_SEEN_SSL2
    s.content = 0
    s.record_version = 2
    s.hello.version = load_be16(s.head + 3) if s.head[2] == 1 else 2
    if length < 3:
        tls_fail(s, TLS_SSL2_LENGTH)
        return
    s.record_left = length - 3
    s.phase = TLS_BODY if s.hello.version != 2 else TLS_ENCRYPTED


cdef void first_begin(TlsState *s) noexcept nogil:
    """The first record: TLS that is not known by its first five bytes is another protocol."""
    if is_ssl2(s.head):
        ssl2_begin(s)
    else:
        record_begin(s)
        if s.phase == TLS_FAILED or tls_probe(s.head, 5) == PROBE_NO:
            s.phase = TLS_REFUSED


cdef void head_take(TlsState *s, Cursor *c) noexcept nogil:
    while s.head_have < 5 and c.pos < c.end:
        s.head[s.head_have] = cur_take(c, 1)[0]
        s.head_have += 1
    if s.head_have < 5:
        return
    s.head_have = 0
    s.records += 1
    if s.phase == TLS_START:
        first_begin(s)
    else:
        record_begin(s)


cdef void body_take(TlsState *s, AppBuffer *b, Cursor *c) noexcept nogil:
    cdef Cursor part
    cdef uint32_t take = cur_left(c)
    if take > s.record_left:
        take = s.record_left
    s.record_left -= take
    part.pos = cur_take(c, take)
    part.end = part.pos + take
    if s.content == RECORD_HANDSHAKE:
        handshake_take(s, b, &part)
    if s.phase == TLS_BODY and s.record_left == 0:
        s.phase = TLS_HEAD


cdef AppAnswer tls_answer(const TlsState *s) noexcept nogil:
    if s.phase == TLS_ENCRYPTED:
        return APP_COMPLETE
    if s.phase == TLS_REFUSED:
        return APP_NOT_THIS
    if s.phase == TLS_FAILED:
        return APP_LIMIT if s.fault == TLS_HELLO_ROOM else APP_BROKEN
    return APP_NEED_MORE


cdef AppAnswer tls_feed(TlsState *s, AppBuffer *b, const uint8_t *data, uint32_t n) noexcept nogil:
    """Take the next bytes of one direction. `seen` says what has become whole."""
    cdef Cursor c
    c.pos = data
    c.end = data + n
    while c.pos < c.end and s.phase < TLS_ENCRYPTED:
        if s.phase == TLS_BODY:
            body_take(s, b, &c)
        else:
            head_take(s, &c)
    return tls_answer(s)


# Detection

cdef AppProbe tls_probe(const uint8_t *data, uint32_t n) noexcept nogil:
    """Does this direction begin with a TLS handshake or alert record, or an SSLv2 hello? Five bytes tell."""
    if n == 0:
        return PROBE_MORE
    if data[0] & 0x80:
        if n < 5:
            return PROBE_MORE if n < 3 or data[2] == 1 or data[2] == 4 else PROBE_NO
        return PROBE_YES if is_ssl2(data) else PROBE_NO
    if data[0] != RECORD_HANDSHAKE and data[0] != RECORD_ALERT or n > 1 and data[1] != 3 or n > 2 and data[2] > 4:
        return PROBE_NO
    if n < 5:
        return PROBE_MORE
    return PROBE_YES if load_be16(data + 3) <= TLS_RECORD_MAX else PROBE_NO


# Public API

ANSWERS = ("need_more", "complete", "not_this", "broken", "limit")
PROBES = ("no", "yes", "more")
TLS_FAULTS = (
    "none", "record_type", "record_version", "record_length", "ssl2_length", "state", "hello_room")


def probe_tls(data):
    """"yes", "no" or "more": do a connection's first bytes of one direction begin TLS?"""
    cdef const uint8_t[::1] view = memoryview(data).cast("B")
    return PROBES[<int>tls_probe(&view[0] if view.shape[0] else <const uint8_t *>b"", view.shape[0])]


cdef class TlsParser:
    """One direction of a TLS connection, for tests and tools; ``room`` is the size of its buffer in bytes."""

    cdef TlsState state
    cdef AppBuffer buffer
    cdef bytearray store

    def __init__(self, int room=70_000):
        self.store = bytearray(max(room, 1))
        self.buffer.data = <uint8_t *>self.store
        self.buffer.size = room
        self.clear()

    def clear(self):
        """Start over with another connection."""
        memset(&self.state, 0, sizeof(TlsState))
        self.buffer.used = 0

    def feed(self, data):
        """Take in-order bytes. Returns the answer: a name of ``ANSWERS``."""
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef const uint8_t *first = &view[0] if view.shape[0] else <const uint8_t *>b""
        return ANSWERS[<int>tls_feed(&self.state, &self.buffer, first, view.shape[0])]

    def measure(self, bytes data, int rounds):
        """Take the same bytes as ``rounds`` connections; for benches."""
        cdef int place
        cdef const uint8_t *first = <const uint8_t *>data
        cdef uint32_t n = <uint32_t>len(data)
        with nogil:
            for place in range(rounds):
                memset(&self.state, 0, sizeof(TlsState))
                self.buffer.used = 0
                tls_feed(&self.state, &self.buffer, first, n)

    cdef bytes _text(self, AppSpan span):
        return bytes(self.store[span.off:span.off + span.len])

    def fields(self):
        """A dict of the fields of tls.pxd, spans as bytes, ``alpn`` as a list of names, ``fault`` of ``TLS_FAULTS``."""
        cdef TlsState *s = &self.state
        cdef TlsHello *h = &s.hello
        wire, alpn = self._text(h.alpn), []
        while wire:
            alpn.append(wire[1:1 + wire[0]])
            wire = wire[1 + wire[0]:]
        text = {name: self._text(span) for name, span in dict(
            sni=h.sni, ciphers=h.ciphers, extensions=h.extensions, ja3=h.ja3, ja3_hash=h.ja3_hash, serial=s.cert.serial,
            issuer=s.cert.issuer, subject=s.cert.subject, fingerprint=s.fingerprint).items()}
        return text | dict(
            fault=TLS_FAULTS[s.fault], seen=s.seen, events=s.events, records=s.records, record_version=s.record_version,
            version=h.version, chosen=h.chosen, cipher=h.cipher, cipher_count=h.cipher_count, alpn=alpn,
            extension_count=h.extension_count, certs=[self._text(one) for one in s.certs[:min(s.cert_count, TLS_CERTS)]],
            cert_count=s.cert_count, not_before=s.cert.not_before, not_after=s.cert.not_after, x509_fault=s.x509_fault)
