"""The part of a certificate (RFC 5280) that rules name: serial number, issuer, validity, subject."""

# What it owns: nothing.
#
# Layout: Certificate { tbs { [0] version, serial, algorithm, issuer, validity { two times }, subject, .. }, .. }.
#     Text has the form Suricata 7 gives it: names in their order of encoding, "TYPE=value" joined by ", ", several
#     values in one relative name by " + ", a value as its bytes where its tag is a string type, else in hexadecimal;
#     a type without abbreviation as its registered name, or as "OID(1.2.3)".
#
# Invariants: an element's content is a Cursor inside its parent's, so no length is believed beyond it. Definite
#     lengths of at most four bytes, one-byte tags: DER in X.509 has no others. Nesting is fixed by the grammar; nothing
#     recurses. Work is linear in n.
#
# Who may write what: text and out, which are the caller's. `text` may be the buffer that holds `der`, in front of `used`.
#
# What happens when full or broken: the fault is the answer; what was read before it stays in `out`.

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memset
from tigerfox.dataplane.wire cimport Cursor, cur_left, cur_take
from tigerfox.dataplane.app.buffer cimport AppBuffer, AppSpan, buffer_byte, buffer_number, buffer_put, span_from

cdef enum:
    TAG_INTEGER = 0x02
    TAG_OID = 0x06
    TAG_UTC_TIME = 0x17
    TAG_GENERAL_TIME = 0x18
    TAG_SEQUENCE = 0x30
    TAG_SET = 0x31
    TAG_VERSION = 0xa0

cdef struct Element:
    uint8_t tag
    Cursor content


# Elements

cdef bint der_next(Cursor *c, Element *e) noexcept nogil:
    """Read one element's head and step over it; False where it does not fit into c."""
    cdef const uint8_t *head = cur_take(c, 2)
    cdef const uint8_t *more
    cdef uint32_t length, place
    if head == NULL or head[0] & 31 == 31:
        return False
    e.tag = head[0]
    length = head[1]
    if length & 0x80:
        length &= 0x7f
        more = cur_take(c, length) if 0 < length <= 4 else NULL
        if more == NULL:
            return False
        place = length
        length = 0
        while place:
            length = length << 8 | more[0]
            more += 1
            place -= 1
    e.content.pos = cur_take(c, length)
    if e.content.pos == NULL:
        return False
    e.content.end = c.pos
    return True


cdef X509Fault der_expect(Cursor *c, uint8_t tag, Element *e) noexcept nogil:
    if not der_next(c, e):
        return X509_LENGTH
    return X509_NONE if e.tag == tag else X509_TAG


# Names

cdef const char *attribute_name(uint32_t arc) noexcept nogil:
    """Of 2.5.4.arc: the abbreviation, or the registered name."""
    if arc == 3: return "CN"
    if arc == 4: return "surname"
    if arc == 5: return "serialNumber"
    if arc == 6: return "C"
    if arc == 7: return "L"
    if arc == 8: return "ST"
    if arc == 9: return "streetAddress"
    if arc == 10: return "O"
    if arc == 11: return "OU"
    if arc == 12: return "title"
    if arc == 13: return "description"
    if arc == 15: return "businessCategory"
    if arc == 16: return "postalAddress"
    if arc == 17: return "postalCode"
    if arc == 41: return "name"
    if arc == 42: return "givenName"
    if arc == 43: return "initials"
    if arc == 44: return "generationQualifier"
    if arc == 45: return "uniqueIdentifier"
    if arc == 46: return "dnQualifier"
    return NULL


cdef const char *type_name(const Cursor *oid) noexcept nogil:
    cdef uint32_t n = cur_left(oid)
    if n == 3 and oid.pos[0] == 0x55 and oid.pos[1] == 4:
        return attribute_name(oid.pos[2])
    if n == 9 and memcmp(oid.pos, <const char *>b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01", 9) == 0:
        return "Email"
    if n == 10 and memcmp(oid.pos, <const char *>b"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19", 10) == 0:
        return "DC"
    return NULL


cdef bint text_put(AppBuffer *b, const char *text) noexcept nogil:
    while text[0]:
        if not buffer_byte(b, <uint8_t>text[0]):
            return False
        text += 1
    return True


cdef bint oid_put(AppBuffer *b, Cursor oid) noexcept nogil:
    """As numbers; an arc beyond 32 bits loses its upper bits, which costs it its name and nothing else."""
    cdef uint32_t arc = 0
    cdef bint first = True, last
    if not text_put(b, "OID("):
        return False
    while oid.pos < oid.end:
        last = oid.pos[0] < 0x80
        arc = arc << 7 | oid.pos[0] & 0x7f
        oid.pos += 1
        if not last:
            continue
        if first:
            first = False
            if not buffer_number(b, 2 if arc >= 80 else arc // 40):
                return False
            arc = arc - 80 if arc >= 80 else arc % 40
        if not (buffer_byte(b, 46) and buffer_number(b, arc)):
            return False
        arc = 0
    return buffer_byte(b, 41)


cdef bint hex_pairs_put(AppBuffer *b, Cursor bytes, bint colons) noexcept nogil:
    """Upper-case hexadecimal, as serial numbers have it."""
    cdef uint8_t pair[3]
    cdef int place
    pair[2] = 58
    while bytes.pos < bytes.end:
        pair[0] = bytes.pos[0] >> 4
        pair[1] = bytes.pos[0] & 15
        for place in range(2):
            pair[place] += 48 if pair[place] < 10 else 55
        bytes.pos += 1
        if not buffer_put(b, pair, 3 if colons and bytes.pos < bytes.end else 2):
            return False
    return True


cdef inline bint is_string(uint8_t tag) noexcept nogil:
    """UTF8, ObjectDescriptor, Numeric, Printable, T61, Videotex, IA5, Graphic, Visible, General, BMP."""
    return tag == 7 or tag == 12 or 18 <= tag <= 22 or 25 <= tag <= 27 or tag == 30


cdef X509Fault attribute_put(AppBuffer *b, Cursor pair) noexcept nogil:
    cdef Element kind, value
    cdef X509Fault fault = der_expect(&pair, TAG_OID, &kind)
    cdef const char *name
    cdef bint fits
    if fault:
        return fault
    if not der_next(&pair, &value):
        return X509_LENGTH
    name = type_name(&kind.content)
    fits = oid_put(b, kind.content) if name == NULL else text_put(b, name)
    if not (fits and buffer_byte(b, 61)):
        return X509_ROOM
    if is_string(value.tag):
        fits = buffer_put(b, value.content.pos, cur_left(&value.content))
    else:
        fits = hex_pairs_put(b, value.content, False)
    return X509_NONE if fits else X509_ROOM


cdef X509Fault relative_put(AppBuffer *b, Cursor values) noexcept nogil:
    """One relative distinguished name: a set of pairs."""
    cdef Element pair
    cdef X509Fault fault
    cdef bint first = True
    while values.pos < values.end:
        fault = der_expect(&values, TAG_SEQUENCE, &pair)
        if fault:
            return fault
        if not first and not text_put(b, " + "):
            return X509_ROOM
        first = False
        fault = attribute_put(b, pair.content)
        if fault:
            return fault
    return X509_NONE


cdef X509Fault name_put(AppBuffer *b, Cursor names, AppSpan *out) noexcept nogil:
    cdef Element one
    cdef uint32_t start = b.used
    cdef X509Fault fault
    while names.pos < names.end:
        fault = der_expect(&names, TAG_SET, &one)
        if fault:
            return fault
        if b.used > start and not text_put(b, ", "):
            return X509_ROOM
        fault = relative_put(b, one.content)
        if fault:
            return fault
    out[0] = span_from(b, start)
    return X509_NONE


# Dates

cdef int64_t days_before(int64_t year, int64_t month) noexcept nogil:
    """Days from 1970-01-01 to the first of this month; the year is taken to begin in March, so February ends it."""
    cdef int64_t y = year - 1 if month <= 2 else year
    cdef int64_t m = month + 9 if month <= 2 else month - 3
    return 365 * y + y // 4 - y // 100 + y // 400 + (153 * m + 2) // 5 - 719468


cdef bint digits_read(Cursor *c, uint32_t n, int64_t *value) noexcept nogil:
    cdef const uint8_t *digit = cur_take(c, n)
    value[0] = 0
    if digit == NULL:
        return False
    while n:
        if not 48 <= digit[0] <= 57:
            return False
        value[0] = value[0] * 10 + digit[0] - 48
        digit += 1
        n -= 1
    return True


cdef X509Fault date_read(Cursor *c, int64_t *seconds) noexcept nogil:
    """RFC 5280, 4.1.2.5: YYMMDDHHMMSSZ up to 2049, YYYYMMDDHHMMSSZ from 2050 on."""
    cdef Element e
    cdef int64_t year, month, day, hour, minute, second
    if not der_next(c, &e):
        return X509_LENGTH
    if e.tag != TAG_UTC_TIME and e.tag != TAG_GENERAL_TIME:
        return X509_TAG
    if not digits_read(&e.content, 2 if e.tag == TAG_UTC_TIME else 4, &year):
        return X509_DATE
    if e.tag == TAG_UTC_TIME:
        year += 2000 if year < 50 else 1900
    if not (digits_read(&e.content, 2, &month) and digits_read(&e.content, 2, &day)
            and digits_read(&e.content, 2, &hour) and digits_read(&e.content, 2, &minute)
            and digits_read(&e.content, 2, &second)):
        return X509_DATE
    if cur_left(&e.content) != 1 or e.content.pos[0] != 90 or not 1 <= month <= 12 or not 1 <= day <= 31:
        return X509_DATE
    if hour > 23 or minute > 59 or second > 59:
        return X509_DATE
    seconds[0] = ((days_before(year, month) + day - 1) * 24 + hour) * 3600 + minute * 60 + second
    return X509_NONE


cdef X509Fault validity_read(Cursor *c, X509Text *out) noexcept nogil:
    cdef Element both
    cdef X509Fault fault = der_expect(c, TAG_SEQUENCE, &both)
    if fault:
        return fault
    fault = date_read(&both.content, &out.not_before)
    return fault if fault else date_read(&both.content, &out.not_after)


# The certificate

cdef X509Fault serial_put(Cursor *c, AppBuffer *text, AppSpan *out) noexcept nogil:
    cdef Element e
    cdef uint32_t start = text.used
    cdef X509Fault fault
    if c.pos < c.end and c.pos[0] == TAG_VERSION and not der_next(c, &e):
        return X509_LENGTH
    fault = der_expect(c, TAG_INTEGER, &e)
    if fault:
        return fault
    if not hex_pairs_put(text, e.content, True):
        return X509_ROOM
    out[0] = span_from(text, start)
    return X509_NONE


cdef X509Fault name_read(Cursor *c, AppBuffer *text, AppSpan *out) noexcept nogil:
    cdef Element name
    cdef X509Fault fault = der_expect(c, TAG_SEQUENCE, &name)
    return fault if fault else name_put(text, name.content, out)


cdef X509Fault x509_read(const uint8_t *der, uint32_t n, AppBuffer *text, X509Text *out) noexcept nogil:
    cdef Cursor c
    cdef Element whole, tbs, skipped
    cdef X509Fault fault
    memset(out, 0, sizeof(X509Text))
    c.pos = der
    c.end = der + n
    fault = der_expect(&c, TAG_SEQUENCE, &whole)
    if not fault:
        fault = der_expect(&whole.content, TAG_SEQUENCE, &tbs)
    if not fault:
        fault = serial_put(&tbs.content, text, &out.serial)
    if not fault:
        fault = der_expect(&tbs.content, TAG_SEQUENCE, &skipped)
    if not fault:
        fault = name_read(&tbs.content, text, &out.issuer)
    if not fault:
        fault = validity_read(&tbs.content, out)
    return fault if fault else name_read(&tbs.content, text, &out.subject)


# Public API

X509_FAULTS = ("none", "length", "tag", "date", "room")


def certificate_text(der, int room=4096):
    """What rules see of a certificate in DER: a dict of ``subject``, ``issuer``, ``serial`` (bytes), ``not_before``,
    ``not_after`` (Unix time in seconds) and ``fault`` (a name of ``X509_FAULTS``). ``room``: bytes for the text."""
    cdef const uint8_t[::1] view = memoryview(der).cast("B")
    cdef const uint8_t *first = &view[0] if view.shape[0] else <const uint8_t *>b""
    cdef bytearray store = bytearray(max(room, 1))
    cdef X509Text out
    cdef AppBuffer text
    text.data = <uint8_t *>store
    text.size = room
    text.used = 0
    fault = X509_FAULTS[<int>x509_read(first, <uint32_t>view.shape[0], &text, &out)]
    spans = {name: bytes(store[off:off + n]) for name, off, n in (
        ("subject", out.subject.off, out.subject.len), ("issuer", out.issuer.off, out.issuer.len),
        ("serial", out.serial.off, out.serial.len))}
    return spans | dict(not_before=out.not_before, not_after=out.not_after, fault=fault)
