"""The full check of a candidate rule, and what its match does besides.

What it owns
    Nothing.

Layout
    header ─▶ flow ─▶ application ─▶ flowbits ─▶ stream sizes ─▶ parts (inspect.pyx), the cheapest first. Buffers are
    fetched from where they are: the packet, its stream, the HTTP message, the TLS state, the DNS message.

Invariants
    A check changes nothing; candidate_fire does, once all of the rule holds (Suricata: flowbits are set "post match").
    Spans that stand in shared memory are compared with their memory before they are read.

Who may write what
    matches of the packet (through match_add), flowbits of its flow.

What happens when full or broken
    A buffer that is not there has no instance, and a part on it does not hold, also when its tests are negated (Suricata 7: a
    buffer that never comes does not match).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memset

from tigerfox.dataplane.app.buffer cimport AppBuffer, AppSpan, span_inside
from tigerfox.dataplane.app.httpbuffer cimport http_buffer
from tigerfox.dataplane.app.httpfields cimport cookie_name, field_find
from tigerfox.dataplane.app.httpmessage cimport *
from tigerfox.dataplane.app.tlsstate cimport TLS_CERTS, TLS_SEEN_CERTIFICATE, TLS_SEEN_CLIENT_HELLO, TLS_SEEN_SERVER_HELLO, TlsState
from tigerfox.dataplane.candidates cimport candidates_add
from tigerfox.dataplane.flow cimport (
    TO_CLIENT, TO_SERVER, Flow, flow_bit_clear, flow_bit_has, flow_bit_set, flow_established)
from tigerfox.dataplane.image cimport *
from tigerfox.dataplane.inspect cimport inspect_parts, part_reach
from tigerfox.dataplane.match cimport match_add, rule_holds, rule_misfit
from tigerfox.dataplane.packet cimport PACKET_LATER_FRAGMENT, PACKET_PORTS, PACKET_REASSEMBLED, Packet
from tigerfox.dataplane.tcp cimport PROTO_TCP

cdef enum:
    PROTO_ICMP = 1
    PROTO_UDP = 17
    PROTO_ICMPV6 = 58
    NO_BUFFER = 255
    REQUESTS = 1                 # of BufferPlace.sides
    RESPONSES = 2
    BUFFERS = BUF_COUNT

cdef struct BufferPlace:         # where an HTTP buffer is
    uint8_t which                # HttpBuffer
    uint8_t sides

cdef BufferPlace[BUFFERS] http_places


cdef void places_fill() noexcept:
    """BUF_HTTP_* to HttpBuffer: what the two tables call the same thing."""
    cdef int[28] which = [
        HTTP_BUF_METHOD, HTTP_BUF_URI_RAW, HTTP_BUF_URI, HTTP_BUF_PROTOCOL, HTTP_BUF_LINE, HTTP_BUF_LINE, HTTP_BUF_STAT_CODE,
        HTTP_BUF_STAT_MSG, HTTP_BUF_HEADER_RAW, HTTP_BUF_HEADER, HTTP_BUF_HEADER_NAMES, HTTP_BUF_START, HTTP_BUF_HOST,
        HTTP_BUF_HOST_RAW, HTTP_BUF_USER_AGENT, HTTP_BUF_COOKIE, HTTP_BUF_CONTENT_TYPE, HTTP_BUF_CONTENT_LEN, HTTP_BUF_REFERER,
        HTTP_BUF_ACCEPT, HTTP_BUF_ACCEPT_LANG, HTTP_BUF_ACCEPT_ENC, HTTP_BUF_CONNECTION, HTTP_BUF_SERVER, HTTP_BUF_LOCATION,
        HTTP_BUF_BODY, HTTP_BUF_BODY, HTTP_BUF_BODY]
    cdef int[28] sides = [
        REQUESTS, REQUESTS, REQUESTS, 3, REQUESTS, RESPONSES, RESPONSES, RESPONSES, 3, 3, 3, 3, REQUESTS, REQUESTS, REQUESTS, 3,
        3, 3, REQUESTS, REQUESTS, REQUESTS, REQUESTS, 3, RESPONSES, RESPONSES, REQUESTS, RESPONSES, 3]
    cdef int i
    for i in range(BUFFERS):
        http_places[i].which = NO_BUFFER
    for i in range(28):
        http_places[<int>BUF_HTTP_METHOD + i].which = <uint8_t>which[i]
        http_places[<int>BUF_HTTP_METHOD + i].sides = <uint8_t>sides[i]


places_fill()

# Buffers


cdef bint http_fetch(Scene *s, uint8_t buffer, Bytes *out) noexcept nogil:
    cdef HttpBuffer which = <HttpBuffer>http_places[buffer].which
    cdef const AppBuffer *memory = &s.memory.body if which == HTTP_BUF_BODY else &s.memory.head
    cdef HttpSpan span
    if not (http_places[buffer].sides >> s.http.direction) & 1 or not http_buffer(s.http, &s.memory, which, &span):
        return False
    if span.off > memory.size or span.len > memory.size - span.off:
        return False
    out.data, out.n = memory.data + span.off, span.len
    return True


cdef inline bint text_fetch(const AppBuffer *text, AppSpan span, Bytes *out) noexcept nogil:
    if not span_inside(text, span.off, span.len):
        return False
    out.data, out.n = text.data + span.off, span.len
    return True


cdef bint hello_fetch(Scene *s, uint8_t buffer, Bytes *out) noexcept nogil:
    cdef const TlsState *t = s.tls
    cdef bint client = s.side == TO_SERVER
    cdef AppSpan span
    if not t.seen & (TLS_SEEN_CLIENT_HELLO if client else TLS_SEEN_SERVER_HELLO):
        return False
    if buffer == BUF_TLS_SNI and client:
        span = t.hello.sni
    elif buffer == (BUF_JA3_HASH if client else BUF_JA3S_HASH):
        span = t.hello.ja3_hash
    elif buffer == (BUF_JA3_STRING if client else BUF_JA3S_STRING):
        span = t.hello.ja3
    else:
        return False
    return span.len != 0 and text_fetch(&s.text, span, out)


cdef bint cert_fetch(Scene *s, uint8_t buffer, Bytes *out) noexcept nogil:
    cdef const TlsState *t = s.tls
    cdef AppSpan span
    if not t.seen & TLS_SEEN_CERTIFICATE or s.side != TO_CLIENT:
        return False
    if buffer == BUF_TLS_CERT_SUBJECT:
        span = t.cert.subject
    elif buffer == BUF_TLS_CERT_ISSUER:
        span = t.cert.issuer
    elif buffer == BUF_TLS_CERT_SERIAL:
        span = t.cert.serial
    else:
        span = t.fingerprint
    return span.len != 0 and text_fetch(&s.text, span, out)


cdef bint tls_fetch(Scene *s, uint8_t buffer, uint32_t index, Bytes *out) noexcept nogil:
    if buffer == BUF_TLS_CERTS:
        if index >= TLS_CERTS or index >= s.tls.cert_count or s.side != TO_CLIENT:
            return False
        return s.tls.certs[index].len != 0 and text_fetch(&s.text, s.tls.certs[index], out)
    if index:
        return False
    if buffer == BUF_TLS_VERSION:
        return version_fetch(s, out)
    if BUF_TLS_CERT_SUBJECT <= buffer <= BUF_TLS_CERT_FINGERPRINT:
        return cert_fetch(s, buffer, out)
    return hello_fetch(s, buffer, out)


cdef inline bint version_fetch(Scene *s, Bytes *out) noexcept nogil:
    """The version that a hello settles on, two bytes as on the wire."""
    cdef const TlsState *t = s.tls
    cdef uint16_t version = t.hello.chosen if t.hello.chosen else t.hello.version
    if not t.seen & (TLS_SEEN_CLIENT_HELLO if s.side == TO_SERVER else TLS_SEEN_SERVER_HELLO):
        return False
    s.version[0], s.version[1] = <uint8_t>(version >> 8), <uint8_t>version
    out.data, out.n = s.version, 2
    return True


cdef bint ssh_fetch(Scene *s, uint8_t buffer, Bytes *out) noexcept nogil:
    cdef AppSpan span = s.ssh.proto if buffer == BUF_SSH_PROTO else s.ssh.software
    return s.ssh.whole and span.len != 0 and text_fetch(&s.text, span, out)


cdef bint field_fetch(Scene *s, uint8_t buffer, uint32_t index, Bytes *out) noexcept nogil:
    """One field of a head, "Name: value": a line of http.header, and behind the last one the cookie."""
    cdef const uint8_t *end
    cdef const uint8_t *line
    cdef Bytes all_of_them
    if (buffer == BUF_HTTP_REQUEST_FIELD) != (s.http.direction == HTTP_REQUEST):
        return False
    if not http_fetch(s, BUF_HTTP_HEADER, &all_of_them):
        all_of_them.n = 0
    line = all_of_them.data
    while all_of_them.n:
        end = <const uint8_t *>memchr(line, 13, all_of_them.n)
        if end == NULL:
            break
        if index == 0:
            out.data, out.n = line, <uint32_t>(end - line)
            return True
        index -= 1
        all_of_them.n -= min(all_of_them.n, <uint32_t>(end - line) + 2)
        line = end + 2
    return index == 0 and cookie_fetch(s, out)


cdef inline bint cookie_fetch(Scene *s, Bytes *out) noexcept nogil:
    cdef const uint8_t *head = s.memory.head.data
    cdef const HttpField *field = field_find(s.http, head, cookie_name(s.http))
    if field == NULL or field.value_off + <uint32_t>field.value_len > s.memory.head.size or field.name_off > field.value_off:
        return False
    out.data, out.n = head + field.name_off, field.value_off + field.value_len - field.name_off
    return True


cdef uint32_t icmp_size(const Packet *p) noexcept nogil:
    """Bytes of an ICMP message that belong to its header, as Suricata counts them (RFC 792, 950, 1256)."""
    cdef const uint8_t *head = p.data + p.l4_off
    if p.icmp_type == 9:
        return 8 + 4 * <uint32_t>head[4] * head[5]
    if p.icmp_type == 13 or p.icmp_type == 14:
        return 20
    return 12 if p.icmp_type == 17 or p.icmp_type == 18 else 8


cdef bint header_fetch(Scene *s, uint8_t buffer, Bytes *out) noexcept nogil:
    """A header as it stands in the packet."""
    cdef const Packet *p = s.p
    cdef uint32_t first = p.l4_off, n = 8
    if buffer == BUF_IPV4_HEADER or buffer == BUF_IPV6_HEADER:
        if p.flow.version != (4 if buffer == BUF_IPV4_HEADER else 6) or p.caplen < 20:
            return False
        first, n = 0, <uint32_t>(p.data[0] & 15) * 4 if p.flow.version == 4 else max(<uint32_t>p.l4_off, <uint32_t>40)
    elif p.flags & PACKET_LATER_FRAGMENT or p.caplen < first + n:
        return False
    elif buffer == BUF_TCP_HEADER:
        if p.flow.proto != PROTO_TCP or not p.flags & PACKET_PORTS or p.payload_off < first:
            return False
        n = p.payload_off - first
    elif buffer == BUF_UDP_HEADER:
        if p.flow.proto != PROTO_UDP:
            return False
    elif p.flow.proto != (PROTO_ICMP if buffer == BUF_ICMPV4_HEADER else PROTO_ICMPV6):
        return False
    elif p.flow.proto == PROTO_ICMP:
        n = icmp_size(p)
    out.data, out.n = p.data + first, n
    return first + n <= p.caplen


cdef bint rare_fetch(Scene *s, uint8_t buffer, uint32_t index, Bytes *out) noexcept nogil:
    """What is no buffer of an HTTP message."""
    if buffer == BUF_PAYLOAD:
        out[0] = s.payload
        return index == 0 and s.payload.n != 0
    if buffer == BUF_DNS_QUERY:
        return s.dns != NULL and index < s.dns.question_count and text_fetch(&s.text, s.dns.questions[index].name, out)
    if BUF_IPV4_HEADER <= buffer <= BUF_ICMPV6_HEADER:
        return index == 0 and header_fetch(s, buffer, out)
    if buffer == BUF_SSH_PROTO or buffer == BUF_SSH_SOFTWARE:
        return s.ssh != NULL and index == 0 and ssh_fetch(s, buffer, out)
    if buffer == BUF_HTTP_REQUEST_FIELD or buffer == BUF_HTTP_RESPONSE_FIELD:
        return s.http != NULL and field_fetch(s, buffer, index, out)
    return s.tls != NULL and tls_fetch(s, buffer, index, out)


cdef bint scene_fetch(void *who, uint8_t buffer, uint32_t index, Bytes *out) noexcept nogil:
    cdef Scene *s = <Scene *>who
    if s.http != NULL and buffer < BUFFERS and http_places[buffer].which != NO_BUFFER:
        return index == 0 and http_fetch(s, buffer, out)
    return rare_fetch(s, buffer, index, out)

# The flow


cdef inline bint flow_wanted(const Scene *s, uint16_t want) noexcept nogil:
    """The `flow` keyword; a packet without a flow is stateless."""
    cdef bint rebuilt = s.p.flags & PACKET_REASSEMBLED != 0
    if want & WANT_NO_FRAG and rebuilt or want & WANT_ONLY_FRAG and not rebuilt:
        return False
    if s.flow == NULL:
        return not want & (WANT_TO_SERVER | WANT_TO_CLIENT | WANT_ESTABLISHED)
    if want & WANT_TO_SERVER and s.side != TO_SERVER or want & WANT_TO_CLIENT and s.side != TO_CLIENT:
        return False
    if want & (WANT_ESTABLISHED | WANT_NOT_ESTABLISHED):
        return flow_established(s.flow) == (want & WANT_ESTABLISHED != 0)
    return True


cdef inline bint app_wanted(const Scene *s, const Inspection *i) noexcept nogil:
    cdef uint16_t app = <uint16_t>(1 << (s.flow.app & 15)) if s.flow != NULL else 1
    return (i.apps == 0 or i.apps & app != 0) and not i.apps_not & app


cdef bint bits_hold(const Scene *s, const Inspection *i) noexcept nogil:
    """isset and isnotset; of the names of one keyword any is enough."""
    cdef const BitStep *step
    cdef bint had, holds = False
    cdef uint32_t n
    for n in range(i.bit_count):
        step = &s.d.rules.bit_steps[i.first_bit + n]
        if step.op >= BIT_SET:
            continue
        had = s.flow != NULL and flow_bit_has(s.flow, step.name)
        holds = holds or had == (step.op == BIT_ISSET)
        if step.more:
            continue
        if not holds:
            return False
        holds = False
    return True


cdef inline bint size_compare(uint8_t op, uint32_t value, uint32_t size) noexcept nogil:
    if op == 0:
        return value < size
    if op == 1:
        return value > size
    if op == 2:
        return value == size
    if op == 3:
        return value != size
    return value <= size if op == 4 else value >= size


cdef bint sizes_hold(const Scene *s, const Inspection *i) noexcept nogil:
    """stream_size: bytes that a side has sent, by its sequence numbers."""
    cdef const SizeStep *step
    cdef bint client, server
    cdef uint32_t n
    if i.size_count and (s.flow == NULL or s.p.flow.proto != PROTO_TCP):
        return False
    for n in range(i.size_count):
        step = &s.d.rules.size_steps[i.first_size + n]
        client = size_compare(step.op, s.flow.tcp[0].next_seq - s.flow.tcp[0].isn, step.size)
        server = size_compare(step.op, s.flow.tcp[1].next_seq - s.flow.tcp[1].isn, step.size)
        if step.side == 0 and not client or step.side == 1 and not server:
            return False
        if step.side == 2 and not (client and server) or step.side == 3 and not (client or server):
            return False
    return True

# A candidate


cdef void pending_join(Detect *d, InspectUnit unit) noexcept nogil:
    cdef uint32_t i
    for i in range(d.pending.count):
        if rule_inspection(d.rules, d.pending.rules[i]).unit == unit:
            candidates_add(&d.found, d.pending.rules[i])


cdef bint candidate_holds(Scene *s, uint32_t number) noexcept nogil:
    cdef const RuleSet *rs = s.d.rules
    cdef const Inspection *i = rule_inspection(rs, number)
    s.d.counts.candidates += 1
    if s.d.watch != NULL:
        s.d.watch(s.d.watcher, s, number)
    if not rule_holds(rs, number, s.p, s.key):
        return False
    if i.flow and not flow_wanted(s, i.flow):
        return False
    if (i.apps or i.apps_not) and not app_wanted(s, i):
        return False
    if i.bit_count and not bits_hold(s, i) or i.size_count and not sizes_hold(s, i):
        return False
    return i.part_count == 0 or inspect_parts(s.d.inspector, rs, i, scene_fetch, s)


cdef Fault steps_fault(const Scene *s, const Inspection *i) noexcept nogil:
    """The first flowbits or stream_size keyword that does not hold with those before it."""
    cdef Inspection some = i[0]
    cdef Fault fault
    cdef uint8_t n
    fault.kind, fault.number, fault.test = FAULT_NONE, 0, 0
    for n in range(i.bit_count):
        some.bit_count = n + 1
        if not bits_hold(s, &some):
            fault.kind, fault.number = FAULT_BITS, n
            return fault
    for n in range(i.size_count):
        some.size_count = n + 1
        if not sizes_hold(s, &some):
            fault.kind, fault.number = FAULT_SIZES, n
            return fault
    return fault


cdef Fault parts_fault(Scene *s, const Inspection *i) noexcept nogil:
    cdef const RuleSet *rs = s.d.rules
    cdef uint32_t n, instances
    cdef Fault fault
    memset(s.d.inspector.values, 0, sizeof(s.d.inspector.values))
    for n in range(i.part_count):
        fault.number = n
        fault.test = part_reach(s.d.inspector, rs, &rs.parts[i.first_part + n], scene_fetch, s, &instances)
        fault.kind = FAULT_TEST if instances else FAULT_BUFFER
        if instances == 0 or fault.test < rs.parts[i.first_part + n].test_count:
            return fault
    fault.kind = FAULT_NONE
    return fault


cdef Fault candidate_fault(Scene *s, uint32_t number) noexcept nogil:
    cdef const RuleSet *rs = s.d.rules
    cdef const Inspection *i = rule_inspection(rs, number)
    cdef Fault fault
    fault.kind, fault.number, fault.test = FAULT_HEADER, rule_misfit(rs, number, s.p, s.key), 0
    if fault.number:
        return fault
    fault.kind = FAULT_NONE
    if i == NULL:
        return fault
    if i.flow and not flow_wanted(s, i.flow):
        fault.kind = FAULT_FLOW
    elif (i.apps or i.apps_not) and not app_wanted(s, i):
        fault.kind = FAULT_APP
    else:
        fault = steps_fault(s, i)
    return parts_fault(s, i) if fault.kind == FAULT_NONE else fault


cdef inline void bit_do(Scene *s, const BitStep *step) noexcept nogil:
    cdef bint had = flow_bit_has(s.flow, step.name)
    if step.op == BIT_SET or step.op == BIT_TOGGLE and not had:
        if not had:
            flow_bit_set(s.d.flows, s.flow, step.name)
    elif step.op == BIT_UNSET or step.op == BIT_TOGGLE:
        flow_bit_clear(s.flow, step.name)


cdef void candidate_fire(Scene *s, uint32_t number) noexcept nogil:
    cdef const RuleSet *rs = s.d.rules
    cdef const Inspection *i = rule_inspection(rs, number)
    cdef uint32_t n
    s.p.match_cut += match_add(rs, s.p, number)
    if s.flow == NULL:
        return
    for n in range(i.bit_count):
        if rs.bit_steps[i.first_bit + n].op >= BIT_SET:
            bit_do(s, &rs.bit_steps[i.first_bit + n])
