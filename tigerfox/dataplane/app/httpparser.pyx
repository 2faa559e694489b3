"""One HTTP/1.x connection for Python: tests, `explain`, fuzzing. Not used on the packet path."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from tigerfox.dataplane.app.http cimport HttpProbe, http_close, http_feed, http_flow_init, http_probe, http_release
from tigerfox.dataplane.app.httpbuffer cimport http_buffer
from tigerfox.dataplane.app.httpinflate cimport InflatePool, inflate_pool_free, inflate_pool_new
from tigerfox.dataplane.app.httpmessage cimport *

ANSWERS = ("more", "head", "interim", "complete", "tunnel", "broken")
PROGRESS = ("none", "line", "head", "body", "complete")
EVENTS = (
    "leading_junk", "line_odd", "old_protocol", "protocol_missing", "line_end_odd", "head_full", "derived_full",
    "fields_full", "field_no_colon", "field_name_odd", "field_nul", "folding_odd", "field_repeated", "length_invalid",
    "length_ambiguous", "coding_odd", "chunk_odd", "chunk_broken", "body_full", "body_unexpected", "body_cut",
    "encoding_unknown", "encoding_lzma", "encoding_deep", "encoding_false", "encoding_broken", "encoding_trailing", "bomb",
    "decoder_none", "decoder_lost", "pipeline_full", "response_unasked", "uri_encoding_odd", "host_odd", "upgrade")
assert len(EVENTS) == HTTP_EV_COUNT
BUFFERS = (
    (("http.method",), ()), (("http.uri.raw",), ()), (("http.uri",), ()), (("http.protocol",), ("http.protocol",)),
    (("http.request_line",), ("http.response_line",)), ((), ("http.stat_code",)), ((), ("http.stat_msg",)),
    (("http.header.raw",), ("http.header.raw",)), (("http.header",), ("http.header",)),
    (("http.header_names",), ("http.header_names",)), (("http.start",), ("http.start",)), (("http.host",), ()),
    (("http.host.raw",), ()), (("http.user_agent",), ()), (("http.cookie",), ("http.cookie",)),
    (("http.content_type",), ("http.content_type",)), (("http.content_len",), ("http.content_len",)),
    (("http.referer",), ()), (("http.accept",), ()), (("http.accept_lang",), ()), (("http.accept_enc",), ()),
    (("http.connection",), ("http.connection",)), ((), ("http.server",)), ((), ("http.location",)),
    (("http.request_body", "file.data"), ("http.response_body", "file.data")))
assert len(BUFFERS) == HTTP_BUF_COUNT


# Public API

def probe(bytes data, bint response=False):
    """
    Do the first bytes of a direction read as HTTP/1.x?

    :param data: the first bytes, as many as there are
    :param response: those of the server
    :return: "more", "yes" or "no"
    """
    return ("more", "yes", "no")[http_probe(HTTP_RESPONSE if response else HTTP_REQUEST, data, <uint32_t>len(data))]


cdef class HttpParser:
    """
    One connection.

    :param head_size: bytes for the head of a message and what is made of it, at most 65535
    :param body_size: bytes of a body that are kept (Suricata: request-body-limit, response-body-limit)
    :param decoders: size of the decoder pool, 0 for none
    :raises MemoryError: when there is no memory for it
    """
    cdef HttpFlow *flow
    cdef HttpMemory memory[2]
    cdef InflatePool *pool

    def __cinit__(self, uint32_t head_size=16384, uint32_t body_size=102400, uint32_t decoders=2):
        self.flow = <HttpFlow *>calloc(1, sizeof(HttpFlow))
        self.pool = inflate_pool_new(decoders, 1)
        for i in range(2):
            self.memory[i].head.data = <uint8_t *>calloc(1, head_size + 1)
            self.memory[i].head.size = head_size
            self.memory[i].body.data = <uint8_t *>calloc(1, body_size + 1)
            self.memory[i].body.size = body_size
        if not self.flow or not self.pool or not all(
                [self.memory[i].head.data != NULL and self.memory[i].body.data != NULL for i in range(2)]):
            raise MemoryError("no memory for an HTTP parser; choose smaller sizes")
        http_flow_init(self.flow, head_size, head_size)

    def __dealloc__(self):
        if self.flow != NULL and self.pool != NULL:
            http_release(self.flow, self.pool)
        inflate_pool_free(self.pool)
        free(self.flow)
        for i in range(2):
            free(self.memory[i].head.data)
            free(self.memory[i].body.data)

    def feed(self, bint response, const uint8_t[::1] data not None):
        """
        Give in-order bytes up to the first answer.

        :param response: bytes of the server
        :return: (answer of ANSWERS, bytes taken)
        """
        cdef uint32_t taken = 0
        cdef uint8_t nothing = 0
        cdef const uint8_t *bytes_ = &data[0] if len(data) else &nothing
        answer = http_feed(self.flow, <HttpDirection><int>response, &self.memory[response], self.pool, bytes_,
                           <uint32_t>len(data), &taken)
        return ANSWERS[answer], taken

    def feed_all(self, bint response, const uint8_t[::1] data not None):
        """Give all bytes, answers or not; the number of messages completed. For benches."""
        cdef uint32_t taken = 0, at = 0, n = <uint32_t>len(data), done = 0
        cdef int answer
        while at < n:
            answer = http_feed(self.flow, <HttpDirection><int>response, &self.memory[response], self.pool, &data[at],
                               n - at, &taken)
            at += taken
            done += answer == HTTP_COMPLETE
            if answer == HTTP_TUNNEL or answer == HTTP_BROKEN:
                break
        return done

    def close(self, bint response):
        """The direction ends: the answer."""
        return ANSWERS[http_close(self.flow, <HttpDirection><int>response, &self.memory[response], self.pool)]

    def lose_decoders(self):
        """Another process goes on: its pool has another epoch."""
        self.pool.epoch += 1

    def decoders_used(self):
        """Decoders taken from the pool."""
        return self.pool.used

    def buffers(self, bint response):
        """
        What rules can look at now, by its name in Suricata.

        :return: dict of name to bytes; buffers that the message does not have are left out
        """
        cdef HttpSide *s = &self.flow.side[response]
        cdef HttpMemory *memory = &self.memory[response]
        cdef HttpSpan span
        cdef uint8_t *data
        found = {}
        for which in range(HTTP_BUF_COUNT):
            names = BUFFERS[which][response]
            if names and http_buffer(s, memory, <HttpBuffer><int>which, &span):
                data = memory.body.data if which == HTTP_BUF_BODY else memory.head.data
                for name in names:
                    found[name] = data[span.off:span.off + span.len]
        return found

    def state(self, bint response):
        """transaction, progress, status, body_total and the set of event names of a direction."""
        cdef HttpSide *s = &self.flow.side[response]
        events = {name for bit, name in enumerate(EVENTS) if (s.events >> bit) & 1}
        return {"transaction": s.transaction, "progress": PROGRESS[s.progress], "status": s.status,
                "body_total": s.body_total, "events": events}

    @property
    def state_size(self):
        """Bytes of a connection's state, without the memory for heads and bodies."""
        return sizeof(HttpFlow)
