"""Sticky buffers, their old modifiers and transforms: how tests are grouped, in which direction, in packets or the stream."""

import pytest
from reading import parts, read, rule

from tigerfox.ruleset.buffers import BUFFERS, TRANSFORMS
from tigerfox.ruleset.rule import AppProtocol, Base64, Content, Flow, Pcre, Size
from tigerfox.ruleset.sticky import CONTENTS, SAYS, SHARED

A, B, C, D = (Content(text) for text in (b"a", b"b", b"c", b"d"))
ROWS = [row for row in BUFFERS if row.name != "payload"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_keyword_of_a_buffer_selects_it(row):
    text = CONTENTS.get(row.name, "text")
    wanted = SHARED.get(row.name, row.name)
    for word in row.keywords:
        found = rule(f'{word}; content:"{text}";', "ip")
        assert [part.buffer for part in found.parts] == [wanted]
        side = "both" if wanted.startswith("tls.cert") else row.side
        direction = {"request": "to_server", "response": "to_client"}.get(side)
        assert found.flow == (Flow(direction) if direction else None)
        implied = () if row.name.startswith(("ja3", "file.data")) or not row.app else (AppProtocol(row.app),)
        assert found.apps == implied
    if row.modifier:
        assert [part.buffer for part in rule(f'content:"{text}"; {row.modifier};').parts] == [wanted]


def test_every_buffer_is_described():
    assert {row.name for row in BUFFERS if row.keywords} == set(SAYS)


GROUPED = [
    ('content:"a"; http.uri; content:"b"; content:"c"; pkt_data; content:"d";', [("payload", (A, D)), ("http.uri", (B, C))]),
    ('http.uri; content:"a"; http.host; content:"b"; http.uri; content:"c";', [("http.uri", (A, C)), ("http.host", (B,))]),
    ('content:"a"; http_uri; content:"b"; http_host; content:"c"; http_uri; content:"d";',
     [("http.uri", (A, C)), ("http.host", (B,)), ("payload", (D,))]),
    ('uricontent:"a"; content:"b"; http_uri; content:"c"; pcre:"/d/U";', [("http.uri", (A, B, Pcre(b"d"))), ("payload", (C,))]),
    ('dns.query; content:"a"; dns.query; content:"b"; content:"c";', [("dns.query", (A,)), ("dns.query", (B, C))]),
    ('tls.certs; content:"a"; tls.certs; content:"b";', [("tls.certs", (A,)), ("tls.certs", (B,))]),
    ('dns.query; content:"a"; dns.query; dotprefix; content:"b";', [("dns.query", (A,)), ("dns.query dotprefix", (B,))]),
    ('http.host; content:"a"; http.host; dotprefix; content:"b"; http.host; content:"c";',
     [("http.host", (A, C)), ("http.host dotprefix", (B,))]),
    ('http.uri; url_decode; to_lowercase; content:"a"; content:"b";', [("http.uri url_decode to_lowercase", (A, B))]),
    ('http.response_body; content:"a"; file.data; content:"b"; pcre:"/c/Q";', [("file.data", (A, B, Pcre(b"c")))]),
    ('content:"a"; http_server_body; file_data; content:"b";', [("file.data", (A, B))]),
    ('http.uri; bsize:5; content:"a";', [("http.uri", (Size(5, 5), A))]),
    ('http.uri; content:"a"; base64_decode:bytes 8, offset 1, relative; base64_data; content:"b"; pkt_data; content:"c";',
     [("http.uri", (A, Base64(8, 1, True), B)), ("payload", (C,))]),
    ('content:"a"; http_uri; base64_decode; base64_data; content:"b"; content:"c";', [("http.uri", (A, Base64(0, 0), B, C))]),
    ('tls.version:1.2; tls.version:!0x0301;',
     [("tls.version", (Content(b"\3\3", depth=2), Content(b"\3\1", depth=2, negated=True)))]),
    ('ipv4.hdr; content:"a"; tcp.hdr; content:"b";', [("ipv4.hdr", (A,)), ("tcp.hdr", (B,))]),
    ('content:"a"; http_uri; content:"b"; distance:0; http_uri;',
     [("http.uri", (A, Content(b"b", relative=True)))]),
]


@pytest.mark.parametrize(("options", "expected"), GROUPED, ids=[options for options, _ in GROUPED])
def test_tests_of_one_buffer_are_one_part_in_the_order_of_the_text(options, expected):
    assert parts(options, "ip") == expected


def test_values_in_their_buffer_s_case():
    digest = "E7D705A3286E19EA42F587B344EE6865"
    assert parts(f'ja3.hash; content:"{digest}";')[0][1] == (Content(digest.lower().encode()),)
    assert parts('tls.cert_serial; content:"0a:1b"; nocase;')[0][1] == (Content(b"0A:1B"),)
    assert parts('tls.cert_serial; content:"5f";')[0][1] == (Content(b"5F"),)
    digits = ":".join(["AB"] * 20)
    assert parts(f'tls.cert_fingerprint; content:"{digits}";')[0][1] == (Content(digits.lower().encode()),)


def test_the_old_words_for_certificates():
    digits = ":".join(["aB"] * 20)
    assert parts(f'tls.fingerprint:!"{digits}"; tls.subject:"CN=a"; tls.issuerdn:!"CN=b";') == [
        ("tls.cert_fingerprint", (Content(digits.encode(), negated=True, depth=59, endswith=True),)),
        ("tls.cert_subject", (Content(b"CN=a"),)), ("tls.cert_issuer", (Content(b"CN=b", negated=True),))]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_is_named_in_the_part(name):
    text = "A" if name == "to_uppercase" else "a"
    assert rule(f'http.uri; {name}; content:"{text}";').parts[0].transforms == (name,)


PROTOCOLS = [
    ("ssh", "tcp", ("ssh",)),
    ("http", "tcp", ("http",)), ("http1", "tcp", ("http",)), ("tls", "tcp", ("tls",)), ("dns", "ip", ("dns",)), ("tcp", "tcp", ()),
    ("tcp-pkt", "tcp", ()), ("tcp-stream", "tcp", ()),
]


@pytest.mark.parametrize(("word", "protocol", "apps"), PROTOCOLS)
def test_protocols_of_a_head(word, protocol, apps):
    found = rule('content:"a";', word)
    assert (found.protocol, tuple(app.name for app in found.apps)) == (protocol, apps)


@pytest.mark.parametrize(("options", "protocol"), [('http.uri; content:"a";', "tcp"), ('tls.sni; content:"a";', "tcp"),
                                                   ('dns.query; content:"a";', "ip")])
def test_an_ip_rule_becomes_one_of_the_protocol_that_carries_its_keywords(options, protocol):
    assert rule(options, "ip").protocol == protocol


def test_a_certificate_of_the_client_is_a_warning():
    found = read('flow:to_server; tls.cert_subject; content:"a";')
    assert found.rules
    assert "certificates of clients are not read yet" in str(found.warnings[0])
    assert not read('flow:to_client; tls.certs; content:"a";').warnings


def test_a_rule_whose_packets_carry_no_such_protocol_is_a_warning():
    found = read('http.uri; content:"a";', "udp")
    assert found.rules
    assert "udp packets carry no http" in str(found.warnings[0])


KINDS = [
    ('content:"a";', "tcp", "any"), ('content:"a"; nocase;', "tcp", "any"), ('content:"a"; depth:3;', "tcp", "both"),
    ('content:"a"; offset:3;', "tcp", "both"), ('content:"a"; startswith;', "tcp", "both"),
    ('content:"a"; within:3;', "tcp", "any"),
    ('http.uri; content:"a"; depth:3;', "tcp", "any"),
    ('content:"a"; dsize:>5;', "tcp", "packet"),
    ('content:"a"; flags:A;', "tcp", "packet"), ('content:"a";', "tcp-pkt", "packet"), ('content:"a";', "tcp-stream", "stream"),
    ('content:"a"; depth:3;', "tcp-stream", "stream"), ('flow:only_stream; content:"a"; depth:3;', "tcp", "stream"),
    ('flow:no_stream; content:"a";', "tcp", "packet"), ('content:"a"; stream_size:server,<,9;', "tcp", "both"),
    ('tcp.hdr; content:"a";', "tcp", "packet"), ("ttl:5;", "tcp", "packet"), ("flow:established;", "tcp", "any"),
]


@pytest.mark.parametrize(("options", "protocol", "kind"), KINDS)
def test_what_the_payload_is(options, protocol, kind):
    assert rule(options, protocol).payload == kind
