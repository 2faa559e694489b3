"""ClientHello and ServerHello (RFC 8446, 5246, 6066, 7301): versions, SNI, ALPN, lists, JA3 and JA3S."""

# What it owns: nothing.
#
# Layout: the body lies in the buffer from `off` on and stays there; spans point into it. Behind it JA3 is written:
#     "version,ciphers,extensions,groups,point formats" (JA3S: "version,cipher,extensions"), numbers in decimal joined
#     by "-", without the values of RFC 8701 (GREASE), then its MD5.
#
# Invariants: every list is a Cursor inside its parent. Three walks over the extensions at most for JA3, whose parts do
#     not come in the order of the string. As in Suricata 7: of several SNI extensions the first counts and only a
#     host name that stands first in it; a wrong SNI, ALPN or supported_versions ends the walk, and JA3 is made of what
#     was before it; a wrong length of an extension or of a JA3 list gives no JA3.
#
# Who may write what: the hello, events and seen bits of the state, and the buffer behind the body.
#
# What happens when full or broken: a broken hello sets an event and leaves what was read before. False: the buffer had
#     no room for what is derived.

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from tigerfox.dataplane.wire cimport Cursor, cur_left, cur_take, load_be16
from tigerfox.dataplane.app.buffer cimport AppBuffer, AppSpan, buffer_byte, buffer_number, buffer_room, span_from
from tigerfox.dataplane.app.digest cimport md5_hex
from tigerfox.dataplane.app.tlsstate cimport (
    TLS_EVENT_HELLO_BROKEN, TLS_EVENT_SNI_AGAIN, TLS_EVENT_SNI_LENGTH, TLS_EVENT_SNI_TYPE, TLS_SEEN_EARLY_DATA,
    TLS_SEEN_TICKET, TLS_SNI_MAX, TlsHello, TlsState,
)

cdef enum:
    EXT_SNI = 0
    EXT_GROUPS = 10
    EXT_POINTS = 11
    EXT_ALPN = 16
    EXT_TICKET = 35
    EXT_EARLY_DATA = 42
    EXT_VERSIONS = 43

cdef enum Walk:                  # how a walk over the extensions ended
    WALK_WHOLE = 0
    WALK_STOPPED = 1             # one was wrong; those before it count
    WALK_BROKEN = 2              # a length contradicts its parent's


# Lists

cdef inline bint is_grease(uint16_t value) noexcept nogil:
    return value & 0x0f0f == 0x0a0a and value >> 8 == value & 0xff


cdef inline bint list_take(Cursor *c, int width, Cursor *out) noexcept nogil:
    """A list whose length stands before it in one or two bytes."""
    cdef const uint8_t *head = cur_take(c, width)
    cdef uint32_t n
    if head == NULL:
        return False
    n = head[0] if width == 1 else load_be16(head)
    out.pos = cur_take(c, n)
    out.end = c.pos
    return out.pos != NULL


cdef inline AppSpan span_of(const AppBuffer *b, const Cursor *c) noexcept nogil:
    cdef AppSpan span
    span.off = <uint32_t>(c.pos - b.data)
    span.len = cur_left(c)
    return span


cdef inline bint extension_next(Cursor *block, uint16_t *kind, Cursor *content) noexcept nogil:
    cdef const uint8_t *head = cur_take(block, 2)
    if head == NULL:
        return False
    kind[0] = load_be16(head)
    return list_take(block, 2, content)


# Extensions

cdef bint sni_read(TlsState *s, const AppBuffer *b, Cursor c) noexcept nogil:
    """RFC 6066, 3. The list's own length is not asked, as Suricata does not."""
    cdef Cursor name
    if cur_left(&c) == 0:
        return True
    if cur_take(&c, 2) == NULL or cur_left(&c) == 0:
        s.events |= TLS_EVENT_HELLO_BROKEN
        return False
    if cur_take(&c, 1)[0] != 0:
        s.events |= TLS_EVENT_SNI_TYPE
        return False
    if not list_take(&c, 2, &name) or not 0 < cur_left(&name) <= TLS_SNI_MAX:
        s.events |= TLS_EVENT_SNI_LENGTH
        return False
    if s.hello.sni.len:
        s.events |= TLS_EVENT_SNI_AGAIN
    else:
        s.hello.sni = span_of(b, &name)
    return True


cdef bint alpn_read(TlsState *s, const AppBuffer *b, Cursor c) noexcept nogil:
    cdef Cursor names
    if cur_left(&c) == 0:
        return True
    if not list_take(&c, 2, &names):
        s.events |= TLS_EVENT_HELLO_BROKEN
        return False
    if s.hello.alpn.len == 0:
        s.hello.alpn = span_of(b, &names)
    return True


cdef inline bint is_version(uint16_t v) noexcept nogil:
    """SSLv3 to TLS 1.3, and the drafts of TLS 1.3."""
    return 0x0300 <= v <= 0x0304 or 0x7f0e <= v <= 0x7f1c or v == 0xfb1a


cdef bint versions_read(TlsState *s, Cursor c, bint server) noexcept nogil:
    cdef Cursor list
    cdef uint16_t version
    if cur_left(&c) == 0:
        return True
    if server and cur_left(&c) >= 2:
        s.hello.chosen = load_be16(c.pos)
        return True
    if server or not list_take(&c, 1, &list) or cur_left(&list) < 2:
        s.events |= TLS_EVENT_HELLO_BROKEN
        return False
    while cur_left(&list) >= 2 and s.hello.chosen == 0:
        version = load_be16(cur_take(&list, 2))
        s.hello.chosen = version if is_version(version) else 0
    return True


cdef bint extension_read(TlsState *s, const AppBuffer *b, uint16_t kind, Cursor content, bint server) noexcept nogil:
    if kind == EXT_SNI:
        return sni_read(s, b, content)
    if kind == EXT_ALPN:
        return alpn_read(s, b, content)
    if kind == EXT_VERSIONS:
        return versions_read(s, content, server)
    if kind == EXT_TICKET and not server:
        s.seen |= TLS_SEEN_TICKET
    elif kind == EXT_EARLY_DATA and not server:
        s.seen |= TLS_SEEN_EARLY_DATA
    return True


cdef Walk extensions_read(TlsState *s, const AppBuffer *b, Cursor *block, bint server) noexcept nogil:
    """Read them; where one stops the walk, block ends before it."""
    cdef Cursor c = block[0]
    cdef Cursor content
    cdef uint16_t kind
    cdef const uint8_t *here
    while c.pos < c.end:
        here = c.pos
        if not extension_next(&c, &kind, &content):
            s.events |= TLS_EVENT_HELLO_BROKEN
            return WALK_BROKEN
        if not extension_read(s, b, kind, content, server):
            block.end = here
            return WALK_STOPPED
        s.hello.extension_count += 1
    return WALK_WHOLE


# JA3

cdef inline bint value_put(AppBuffer *b, uint32_t start, uint16_t value) noexcept nogil:
    if is_grease(value):
        return True
    if b.used > start and not buffer_byte(b, 45):
        return False
    return buffer_number(b, value)


cdef bint values_put(AppBuffer *b, uint32_t start, Cursor c, int width) noexcept nogil:
    cdef const uint8_t *value
    while True:
        value = cur_take(&c, width)
        if value == NULL:
            return True
        if not value_put(b, start, value[0] if width == 1 else load_be16(value)):
            return False


cdef bint kinds_put(AppBuffer *b, Cursor block) noexcept nogil:
    cdef Cursor content
    cdef uint16_t kind
    cdef uint32_t start = b.used
    while extension_next(&block, &kind, &content):
        if not value_put(b, start, kind):
            return False
    return True


cdef bint lists_put(AppBuffer *b, Cursor block, uint16_t wanted, int head, int width) noexcept nogil:
    """The values of the lists in all extensions of one kind."""
    cdef Cursor content, list
    cdef uint16_t kind
    cdef uint32_t start = b.used
    while extension_next(&block, &kind, &content):
        if kind == wanted and cur_left(&content) and list_take(&content, head, &list):
            if not values_put(b, start, list, width):
                return False
    return True


cdef bint lists_sound(Cursor block) noexcept nogil:
    """May JA3 be made: groups and point formats have the lengths they say, groups in pairs of bytes?"""
    cdef Cursor content, list
    cdef uint16_t kind
    while extension_next(&block, &kind, &content):
        if (kind == EXT_GROUPS or kind == EXT_POINTS) and cur_left(&content):
            if not list_take(&content, 2 if kind == EXT_GROUPS else 1, &list):
                return False
            if kind == EXT_GROUPS and cur_left(&list) & 1:
                return False
    return True


cdef bint ja3_text(AppBuffer *b, const TlsHello *hello, Cursor ciphers, Cursor block, bint server) noexcept nogil:
    cdef bint fits = buffer_number(b, hello.version) and buffer_byte(b, 44)
    fits = fits and values_put(b, b.used, ciphers, 2) and buffer_byte(b, 44) and kinds_put(b, block)
    if server or not fits:
        return fits
    fits = buffer_byte(b, 44) and lists_put(b, block, EXT_GROUPS, 2, 2)
    return fits and buffer_byte(b, 44) and lists_put(b, block, EXT_POINTS, 1, 1)


cdef bint ja3_put(AppBuffer *b, TlsHello *hello, Cursor ciphers, Cursor block, bint server) noexcept nogil:
    cdef uint32_t start = b.used
    if not ja3_text(b, hello, ciphers, block, server) or buffer_room(b) < 32:
        b.used = start
        return False
    hello.ja3 = span_from(b, start)
    md5_hex(b.data + start, hello.ja3.len, b.data + b.used)
    hello.ja3_hash.off = b.used
    hello.ja3_hash.len = 32
    b.used += 32
    return True


# Hellos

cdef inline bint has_session(uint16_t version) noexcept nogil:
    """The drafts of TLS 1.3 before 22 had neither session id nor compression in a ServerHello."""
    return not 0x7f00 <= version < 0x7f16


cdef bint server_cipher(TlsHello *hello, Cursor *c, Cursor *cipher) noexcept nogil:
    cdef Cursor session
    cdef bint full = has_session(hello.version)
    if full and not list_take(c, 1, &session):
        return False
    cipher.pos = cur_take(c, 2)
    if cipher.pos == NULL:
        return False
    cipher.end = c.pos
    hello.cipher = load_be16(cipher.pos)
    return not full or cur_take(c, 1) != NULL


cdef bint client_ciphers(TlsHello *hello, const AppBuffer *b, Cursor *c, Cursor *ciphers) noexcept nogil:
    cdef Cursor session, compressions
    if not list_take(c, 1, &session) or not list_take(c, 2, ciphers) or cur_left(ciphers) & 1:
        return False
    hello.ciphers = span_of(b, ciphers)
    hello.cipher_count = <uint16_t>(cur_left(ciphers) // 2)
    return list_take(c, 1, &compressions)


cdef bint extensions_find(TlsState *s, const AppBuffer *b, Cursor *c, Cursor *block) noexcept nogil:
    """Extensions are optional (RFC 5246, 7.4.1.2)."""
    if cur_left(c) < 2:
        block[0] = c[0]
        block.end = block.pos
        return True
    if not list_take(c, 2, block):
        s.events |= TLS_EVENT_HELLO_BROKEN
        return False
    s.hello.extensions = span_of(b, block)
    return True


cdef bint hello_read(TlsState *s, AppBuffer *b, uint32_t off, uint32_t n, bint server) noexcept nogil:
    """Read the n bytes at off, a hello's body without its head. False: no room for JA3."""
    cdef Cursor c, ciphers, block
    cdef const uint8_t *head
    cdef bint sound
    c.pos = b.data + off
    c.end = c.pos + n
    head = cur_take(&c, 34)
    if head == NULL:
        s.events |= TLS_EVENT_HELLO_BROKEN
        return True
    s.hello.version = load_be16(head)
    sound = server_cipher(&s.hello, &c, &ciphers) if server else client_ciphers(&s.hello, b, &c, &ciphers)
    if not sound:
        s.events |= TLS_EVENT_HELLO_BROKEN
        return True
    if not extensions_find(s, b, &c, &block) or extensions_read(s, b, &block, server) == WALK_BROKEN:
        return True
    if not lists_sound(block):
        s.events |= TLS_EVENT_HELLO_BROKEN
        return True
    return ja3_put(b, &s.hello, ciphers, block, server)
