"""The buffers that rules look into: one table for the language, the compiler and the data plane (image.pxd, enum BufferId)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Buffer:
    """One row; its place in the table is its number in the data plane.

    ``app``: the protocol that has it, "" for none. ``side``: "request", "response" or "both". ``progress``: when it is whole:
    "line", "head" or "body" of an HTTP message, else "message". ``keywords``: the sticky buffers that select it.
    ``modifier``: the legacy keyword behind a content that does, None where there is none.
    """

    name: str
    app: str
    side: str
    progress: str
    keywords: tuple[str, ...] = ()
    modifier: str | None = None


def _http(name, side, progress, modifier=None, *more):
    return Buffer(name, "http", side, progress, (name, *more), modifier)


BUFFERS = (
    Buffer("payload", "", "both", "message", ("pkt_data",), "rawbytes"),
    _http("http.method", "request", "line", "http_method"),
    _http("http.uri.raw", "request", "line", "http_raw_uri"),
    _http("http.uri", "request", "line", "http_uri"),
    _http("http.protocol", "both", "line", None, "http_protocol"),
    _http("http.request_line", "request", "line", None, "http_request_line"),
    _http("http.response_line", "response", "line", None, "http_response_line"),
    _http("http.stat_code", "response", "line", "http_stat_code"),
    _http("http.stat_msg", "response", "line", "http_stat_msg"),
    _http("http.header.raw", "both", "head", "http_raw_header"),
    _http("http.header", "both", "head", "http_header"),
    _http("http.header_names", "both", "head", None, "http_header_names"),
    _http("http.start", "both", "head", None, "http_start"),
    _http("http.host", "request", "head", "http_host"),
    _http("http.host.raw", "request", "head", "http_raw_host"),
    _http("http.user_agent", "request", "head", "http_user_agent"),
    _http("http.cookie", "both", "head", "http_cookie"),
    _http("http.content_type", "both", "head", None, "http_content_type"),
    _http("http.content_len", "both", "head", None, "http_content_len"),
    _http("http.referer", "request", "head", None, "http_referer"),
    _http("http.accept", "request", "head", None, "http_accept"),
    _http("http.accept_lang", "request", "head", None, "http_accept_lang"),
    _http("http.accept_enc", "request", "head", None, "http_accept_enc"),
    _http("http.connection", "both", "head", None, "http_connection"),
    _http("http.server", "response", "head"),
    _http("http.location", "response", "head"),
    _http("http.request_body", "request", "body", "http_client_body"),
    _http("http.response_body", "response", "body", "http_server_body"),
    Buffer("file.data", "http", "both", "body", ("file.data", "file_data")),
    Buffer("dns.query", "dns", "request", "message", ("dns.query", "dns_query")),
    Buffer("tls.sni", "tls", "request", "message", ("tls.sni", "tls_sni")),
    Buffer("tls.cert_subject", "tls", "response", "message", ("tls.cert_subject", "tls_cert_subject")),
    Buffer("tls.cert_issuer", "tls", "response", "message", ("tls.cert_issuer", "tls_cert_issuer")),
    Buffer("tls.cert_serial", "tls", "response", "message", ("tls.cert_serial", "tls_cert_serial")),
    Buffer("tls.cert_fingerprint", "tls", "response", "message", ("tls.cert_fingerprint", "tls_cert_fingerprint")),
    Buffer("tls.certs", "tls", "response", "message", ("tls.certs",)),
    Buffer("ja3.hash", "tls", "request", "message", ("ja3.hash", "ja3_hash")),
    Buffer("ja3.string", "tls", "request", "message", ("ja3.string", "ja3_string")),
    Buffer("ja3s.hash", "tls", "response", "message", ("ja3s.hash",)),
    Buffer("ja3s.string", "tls", "response", "message", ("ja3s.string",)),
    Buffer("tls.version", "tls", "both", "message"),
    Buffer("ipv4.hdr", "", "both", "message", ("ipv4.hdr",)),
    Buffer("ipv6.hdr", "", "both", "message", ("ipv6.hdr",)),
    Buffer("tcp.hdr", "", "both", "message", ("tcp.hdr",)),
    Buffer("udp.hdr", "", "both", "message", ("udp.hdr",)),
    Buffer("icmpv4.hdr", "", "both", "message", ("icmpv4.hdr",)),
    Buffer("icmpv6.hdr", "", "both", "message", ("icmpv6.hdr",)),
    Buffer("ssh.proto", "ssh", "both", "message", ("ssh.proto", "ssh_proto")),
    Buffer("ssh.software", "ssh", "both", "message", ("ssh.software", "ssh_software")),
    _http("http.request_header", "request", "head"),
    _http("http.response_header", "response", "head"),
)

BY_NAME = {row.name: number for number, row in enumerate(BUFFERS)}
TRANSFORMS = ("dotprefix", "to_lowercase", "to_uppercase", "strip_whitespace", "compress_whitespace", "url_decode",
              "header_lowercase", "strip_pseudo_headers")
# Of one packet, and the protocols that have it, None for all.
HEADERS = {"ipv4.hdr": None, "ipv6.hdr": None, "tcp.hdr": ("tcp",), "udp.hdr": ("udp",), "icmpv4.hdr": ("icmp", "icmpv4"),
           "icmpv6.hdr": ("icmp", "icmpv6")}
# Several instances: each mention of the keyword is a part of its own.
MULTIPLE = frozenset(("dns.query", "tls.certs", "http.request_header", "http.response_header"))
