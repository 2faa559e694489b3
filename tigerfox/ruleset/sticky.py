"""Sticky buffers and transforms: where the tests behind them look.

What the buffers are stands in buffers.py; here are their parsers and what the keyword table says of each.
"""

import re

from tigerfox.ruleset.body import Pattern
from tigerfox.ruleset.buffers import BUFFERS, HEADERS, TRANSFORMS
from tigerfox.ruleset.contents import modifier
from tigerfox.ruleset.rule import MOST_TRANSFORMS, Refusal

VERSIONS = {"1.0": 0x0301, "1.1": 0x0302, "1.2": 0x0303, "1.3": 0x0304}
_RAW = re.compile(r"0[xX][0-9a-fA-F]{1,4}\Z")
SHARED = {"http.response_body": "file.data"}       # one buffer in Suricata, and so one chain
SAYS = {
    "payload": "The payload again, behind a sticky buffer",
    "http.method": "Method of a request",
    "http.uri.raw": "URI as it was sent",
    "http.uri": "URI, decoded and with its path made plain",
    "http.protocol": "Version in a request or status line",
    "http.request_line": "First line of a request",
    "http.response_line": "First line of a response",
    "http.stat_code": "Status code",
    "http.stat_msg": "Words behind the status code",
    "http.header.raw": "Headers as they were sent",
    "http.header": "Headers without cookies, blanks made plain",
    "http.header_names": "Names of the headers, in order",
    "http.start": "First line and headers",
    "http.host": "Host, in lower case and without its port",
    "http.host.raw": "Host as it was sent",
    "http.user_agent": "User-Agent",
    "http.cookie": "Cookie or Set-Cookie",
    "http.content_type": "Content-Type",
    "http.content_len": "Content-Length",
    "http.referer": "Referer",
    "http.accept": "Accept",
    "http.accept_lang": "Accept-Language",
    "http.accept_enc": "Accept-Encoding",
    "http.connection": "Connection",
    "http.server": "Server",
    "http.location": "Location",
    "http.request_body": "Body of a request",
    "http.response_body": "Body of a response, unpacked",
    "file.data": "Body of a response; with flow:to_server of a request",
    "dns.query": "A name that is asked for",
    "tls.sni": "Server name of a ClientHello",
    "tls.cert_subject": "Subject of the certificate",
    "tls.cert_issuer": "Issuer of the certificate",
    "tls.cert_serial": "Serial number of the certificate, as 0A:1B",
    "tls.cert_fingerprint": "SHA-1 of the certificate, as 0a:1b",
    "tls.certs": "Every certificate of the chain, as it was sent",
    "ja3.hash": "JA3 of the client, MD5",
    "ja3.string": "JA3 of the client, as text",
    "ja3s.hash": "JA3S of the server, MD5",
    "ja3s.string": "JA3S of the server, as text",
    "ipv4.hdr": "IPv4 header of the packet",
    "ipv6.hdr": "IPv6 header of the packet, with its extension headers",
    "tcp.hdr": "TCP header of the packet, with its options",
    "udp.hdr": "UDP header of the packet",
    "icmpv4.hdr": "ICMP header of the packet",
    "icmpv6.hdr": "ICMPv6 header of the packet",
    "ssh.proto": "Version of the protocol in the version line, either side's",
    "ssh.software": "Software in the version line, either side's",
    "http.request_header": "One header of a request, Name: value",
    "http.response_header": "One header of a response, Name: value",
}
CONTENTS = {
    "http.method": "POST", "http.uri": "/admin", "http.uri.raw": "%2e%2e", "http.protocol": "HTTP/1.0", "http.stat_code": "404",
    "http.stat_msg": "Not Found", "http.host": "example.org", "http.host.raw": "Example.org", "http.user_agent": "curl",
    "http.cookie": "id=", "http.header": "X-Id|3a| 7", "http.header.raw": "X-Id|3a| 7", "http.header_names": "|0d 0a|Host|0d 0a|",
    "http.content_len": "0", "dns.query": "example.org", "tls.sni": "example.org", "tls.cert_serial": "0A:1B",
    "ja3.hash": "e7d705a3286e19ea42f587b344ee6865", "ja3s.hash": "e7d705a3286e19ea42f587b344ee6865",
    "tls.cert_fingerprint": ":".join(["0a"] * 20), "http.request_line": "GET / HTTP/1.0", "http.response_line": "HTTP/1.0 404",
}
TRANSFORM_SAYS = {
    "dotprefix": "A dot before the buffer: .example.org ends in .example.org",
    "to_lowercase": "The buffer in lower case",
    "to_uppercase": "The buffer in upper case",
    "strip_whitespace": "The buffer without blanks",
    "compress_whitespace": "Every run of blanks in the buffer is one blank",
    "url_decode": "%41 and + in the buffer are decoded",
    "header_lowercase": "Names of headers in lower case",
    "strip_pseudo_headers": "The buffer without lines that begin with a colon",
}


def sticky(row, buffer):
    """Return the parser of a buffer's keyword; ``buffer``: the one that its tests go into."""
    def parse(draft, value):
        if row.name == "payload":
            draft.body.select(draft, None)
            return
        if row.name == "file.data":
            if draft.app not in (None, "http"):
                raise Refusal(f"a rule of {draft.app} has no files; write http, tcp or ip as the protocol")
        elif row.name in HEADERS:
            _check_header(draft, row.name)
        elif row.name.startswith("ja3"):
            if draft.app not in (None, "tls"):
                raise Refusal(f"a rule of {draft.app} has no JA3; write tls, tcp or ip as the protocol")
        else:
            draft.set_app(row.app)
        if row.name == "http.response_body":
            draft.body.answered = draft.option
        draft.body.select(draft, buffer)

    return parse


def _check_header(draft, name):
    """A header stands only in the packets of its protocol."""
    allowed = HEADERS[name]
    if allowed and draft.protocol not in (*allowed, "ip", "ipv4", "ipv6"):
        raise Refusal(f"{draft.protocol} packets have none; write {allowed[-1]} or ip as the protocol")


def decoded(draft, value):
    """base64_data: what the base64_decode before it makes."""
    draft.body.select_decoded(draft)


def tls_version(draft, value):
    """`1.0`, `1.1`, `1.2`, `1.3`, or the two bytes as 0x0303."""
    text = value.strip().strip('"').strip()
    number = VERSIONS.get(text) or (int(text, 16) if _RAW.match(text) else None)
    if number is None:
        raise Refusal(f"{value[:40]!r} is not a version of TLS; write one of {' '.join(VERSIONS)}, or two bytes like 0x0303")
    draft.set_app("tls")
    found = Pattern(number.to_bytes(2, "big"), draft.negated)
    found.startswith = True
    draft.body.add("content", found, draft.option, draft.body.chain_of("tls.version"))


def whole_value(buffer, whole):
    """Return the parser of a keyword that has the text itself as its value: in a buffer, or ``whole``: all of it."""
    def parse(draft, value):
        draft.set_app("tls")
        found = Pattern(value.encode("utf-8", "surrogateescape"), draft.negated)
        found.startswith = found.endswith = whole
        draft.body.add("content", found, draft.option, draft.body.chain_of(buffer))

    return parse


def transform(name):
    """Return the parser of a transform."""
    def parse(draft, value):
        body = draft.body
        if body.opened is None or body.chain is not None:
            raise Refusal(f"no sticky buffer stands directly before it; write e.g. dns.query; {name}; content:\"...\"")
        if len(body.transforms) == MOST_TRANSFORMS:
            raise Refusal(f"more than {MOST_TRANSFORMS} transforms of one buffer; take this away")
        body.transforms.append(name)

    return parse


def table(keyword):
    """Return the rows of all buffers, their old modifiers and the transforms; ``keyword`` makes one."""
    made = []
    for row in BUFFERS:
        if not row.keywords:
            continue
        name, *aliases = row.keywords
        content = f'content:"{CONTENTS.get(row.name, "text")}";'
        reference = f"{_page(row)}#{name.replace('.', '-').replace('_', '-')}"
        buffer = SHARED.get(row.name, row.name)
        made.append(keyword(name, sticky(row, buffer), SAYS[row.name], f"{name}; {content}", reference, aliases=tuple(aliases),
                            value=False, several=True, buffer=buffer))
        if row.modifier and row.modifier != "rawbytes":
            made.append(keyword(row.modifier, modifier(buffer, row.app), f"The content before it, in {name}",
                                f"{content} {row.modifier};", reference, value=False, several=True, buffer=buffer))
    for name in TRANSFORMS:
        text = ".EXAMPLE" if name == "to_uppercase" else ".example"
        made.append(keyword(name, transform(name), TRANSFORM_SAYS[name], f'dns.query; {name}; content:"{text}";',
                            "transforms.html#" + name.replace("_", "-"), value=False, several=True))
    return tuple(made)


def _page(row):
    if row.name in HEADERS:
        return "header-keywords.html"
    if row.name.startswith("ja3"):
        return "ja-keywords.html"
    return f"{row.app}-keywords.html" if row.app and row.name != "file.data" else "payload-keywords.html"
