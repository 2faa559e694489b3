"""Keywords beyond the common ones, each in an exchange that it stops and one that it lets pass."""

import pytest
from exchanges import Capture

REQUEST = b"GET /?q={} HTTP/1.1\r\nHost: a\r\nX-Key: one\r\nX-Other: two\r\n{}\r\n"
BANNERS = [(False, b"SSH-2.0-{}_9.6 Debian\r\n"), (True, b"SSH-1.99-putty\r\n")]


def web(query=b"a", more=b""):
    return "tcp", 8080, False, [(True, REQUEST.replace(b"{}", query, 1).replace(b"{}", more)), (False, b"HTTP/1.1 204 No\r\n\r\n")]


def shell(software):
    return "tcp", 2222, False, [(side, text.replace(b"{}", software)) for side, text in BANNERS]


def datagram(data):
    return "udp", 700, False, [(True, data)]


# Options of a rule, its protocol, an exchange that it stops, one that it does not.
CASES = [
    ('ssh.software; content:"OpenSSH"; startswith;', "ssh", shell(b"OpenSSH"), shell(b"dropbear")),
    ('ssh_proto; content:"1.99"; flow:to_server;', "tcp", shell(b"a"), web()),
    ("flow:to_client;", "ssh", shell(b"a"), web()),
    ('http.request_header; content:"X-Other: two"; bsize:12;', "http", web(), shell(b"a")),
    ('http.request_header; content:"X-Key"; content:"two";', "http", web(more=b"X-Key: two\r\n"), web()),
    ('http.request_header; content:"Cookie: id=7";', "http", web(more=b"Cookie: id=7\r\n"), web()),
    ('http.response_header; content:"X-Key";', "http",
     ("tcp", 80, False, [web()[3][0], (False, b"HTTP/1.1 200 OK\r\nX-Key: 1\r\nContent-Length: 0\r\n\r\n")]), web()),
    ('http.header; header_lowercase; content:"x-key: one";', "http", web(), shell(b"a")),
    ('http.uri; content:"q="; base64_decode:relative; base64_data; content:"evil"; startswith;', "http", web(b"ZXZpbCE"),
     web(b"Z29vZA==")),
    ('udp.hdr; content:"|02 bc 00 0c|"; offset:2; bsize:8;', "udp", datagram(b"abcd"), datagram(b"abc")),
    ('tcp.hdr; content:"|1f 90|"; offset:2; depth:2;', "tcp", web(), shell(b"a")),
    ('ipv4.hdr; content:"|3c 11|"; offset:8; depth:2; byte_test:2,=,32,2;', "ip", datagram(b"abcd"), datagram(b"abc")),
]


@pytest.mark.parametrize(("options", "protocol", "stopped", "passed"), CASES, ids=[row[0] for row in CASES])
def test_stops_and_lets_pass(tmp_path, options, protocol, stopped, passed):
    (tmp_path / "made.rules").write_text(f'drop {protocol} any any -> any any (msg:"m"; {options} sid:7;)\n')
    capture = Capture()
    first, second = capture.add(stopped), capture.add(passed)
    found = capture.replay(tmp_path, "--rules", tmp_path / "made.rules", "--no-cache")
    assert {event["alert"]["signature_id"] for event in found[first] if event["event_type"] == "alert"} == {7}
    assert second not in found
