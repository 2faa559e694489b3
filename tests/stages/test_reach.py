"""What rules answer when they are taken up: can any of them still match this connection?"""

import pytest
from packets import icmp, ipv4, ipv6, tcp, udp

from tigerfox.dataplane import reach
from tigerfox.dataplane.image import CompiledRules
from tigerfox.ruleset.check import read_rule_text
from tigerfox.ruleset.compile import compile_rules

HTTP = 'alert http any any -> any 80 (flow:established,to_server; http.uri; content:"/evil"; sid:{sid};)'
WEB, OTHER, MAIL = ipv4(6, tcp(40000, 80)), ipv4(6, tcp(40000, 81)), ipv4(6, tcp(25, 40000))

ROWS = [
    ("another port", HTTP, OTHER, "any", True),
    ("the port of the rule", HTTP, WEB, "any", False),
    ("the answer of what a rule can match", HTTP, ipv4(6, tcp(80, 40000)), "any", False),
    ("another protocol", HTTP, ipv4(17, udp(40000, 80)), "any", True),
    ("conditions are taken to hold", "alert tcp any any -> any 80 (flags:F; ttl:3; sid:{sid};)", WEB, "any", False),
    ("addresses of the rule", "alert tcp 10.0.0.1 any -> any any (sid:{sid};)", WEB, "any", False),
    ("other addresses", "alert tcp 10.9.0.1 any -> any any (sid:{sid};)", WEB, "any", True),
    ("either direction", "alert tcp any any <> any 25 (sid:{sid};)", MAIL, "any", False),
    ("IPv4 rules and IPv6", "alert tcp 10.0.0.0/8 any -> any any (sid:{sid};)", ipv6(6, tcp(1, 2)), "any", True),
    ("any IP", "alert ip any any -> any any (sid:{sid};)", ipv4(17, udp(1, 2)), "any", False),
    ("icmp", "alert icmp any any -> any any (sid:{sid};)", ipv4(1, icmp(8)), "any", False),
    ("messages, where there are none", HTTP, WEB, "failed", True),
    ("messages, behind encryption", 'alert tls any any -> any any (tls.sni; content:"evil"; sid:{sid};)', WEB, "tls", True),
    ("TLS, in SSH", 'alert tls any any -> any any (flow:to_server; sid:{sid};)', WEB, "ssh", True),
    ("version lines, when both were read", 'alert ssh any any -> any any (ssh.proto; content:"1"; sid:{sid};)', WEB, "ssh", True),
    ("a payload rule, in SSH", 'alert tcp any any -> any 80 (content:"evil"; sid:{sid};)', WEB, "ssh", False),
    ("a stream rule beyond the depth of SSH", 'alert tcp any any -> any 80 (flow:only_stream; content:"evil"; sid:{sid};)', WEB,
     "ssh_deep", True),
    ("SSH alone", "alert ssh any any -> any any (flow:to_server; sid:{sid};)", WEB, "ssh", False),
    ("a protocol alone, behind encryption", "alert tls any any -> any any (flow:to_server; sid:{sid};)", WEB, "tls", False),
    ("a payload rule, behind encryption", 'alert tcp any any -> any 80 (content:"evil"; sid:{sid};)', WEB, "tls", False),
    ("a payload rule, where no protocol is", 'alert tcp any any -> any 80 (content:"evil"; sid:{sid};)', WEB, "failed", False),
    ("a stream rule beyond the depth", 'alert tcp any any -> any 80 (flow:only_stream; content:"evil"; sid:{sid};)', WEB,
     "failed_deep", True),
    ("a packet rule beyond the depth", 'alert tcp any any -> any 80 (flow:no_stream; content:"evil"; sid:{sid};)', WEB,
     "failed_deep", False),
    ("a flow bit", "alert tcp any any -> any 80 (flowbits:isset,a; sid:{sid};)", WEB, "tls_deep", False),
    ("passed there, not back", "pass tcp any any -> any 80 (sid:{sid};)\nalert tcp any any -> any any (sid:99;)", WEB, "any", False),
    ("passed both ways", "pass tcp any any <> any 80 (sid:{sid};)\nalert tcp any any -> any any (sid:99;)", WEB, "any", True),
    ("passed on a condition", "pass tcp any any <> any 80 (flags:S; sid:{sid};)\nalert tcp any any -> any any (sid:99;)", WEB,
     "any", False),
]


def compiled(text):
    return CompiledRules.from_buffer(compile_rules([rule for line in text.split("\n") for rule in read_rule_text(line).rules]).image)


@pytest.mark.parametrize(("description", "text", "silent"), [
    ("a stream rule there", 'alert tcp any any -> any 80 (content:"evil"; sid:{sid};)', True),
    ("a stream rule back", 'alert tcp any 80 -> any any (content:"evil"; sid:{sid};)', False),
    ("a packet rule there", 'alert tcp any any -> any 80 (flow:no_stream; content:"evil"; sid:{sid};)', False),
    ("messages there", HTTP, True),
    ("messages back", 'alert http any 80 -> any any (http.stat_code; content:"500"; sid:{sid};)', False),
    ("a protocol alone, which the answer may yet tell", "alert tls any any -> any 80 (flow:to_server; sid:{sid};)", False),
    ("headers alone", "alert tcp any any -> any 80 (ttl:3; sid:{sid};)", False)])
def test_one_direction_beyond_the_depth(description, text, silent):
    assert reach.silent(compiled(text.format(sid=1)), WEB, "deep", "any") is silent


@pytest.mark.parametrize(("text", "packet", "state", "silent"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_answer(text, packet, state, silent):
    assert reach.silent(compiled(text.format(sid=1)), packet, state) is silent


BACK = ipv4(6, tcp(80, 40000))

REPLIES = [
    ("the buffers of a request", 'drop http any any -> any any (http.uri; content:"/evil"; sid:{sid};)', True),
    ("a request's side of a buffer of both", 'drop http any any -> any any (flow:to_server; http.header; content:"x"; sid:{sid};)', True),
    ("a buffer of both", 'drop http any any -> any any (http.header; content:"x"; sid:{sid};)', False),
    ("a buffer of responses", 'drop http any any -> any any (http.stat_code; content:"500"; sid:{sid};)', False),
    ("what the client sends", 'drop tcp any any -> any any (flow:to_server; content:"x"; sid:{sid};)', True),
    ("what the server sends", 'drop tcp any any -> any any (flow:to_client; content:"x"; sid:{sid};)', False),
    ("what either sends", 'drop tcp any any -> any any (content:"x"; sid:{sid};)', False),
    ("what goes to the server's port", 'drop tcp any any -> any 80 (content:"x"; sid:{sid};)', True),
    ("what goes either way", 'drop tcp any any <> any 80 (content:"x"; sid:{sid};)', False),
    ("what comes from the server's port", "alert tcp any 80 -> any any (flags:S; sid:{sid};)", False),
    ("headers alone", "alert tcp any any -> any any (ttl:3; sid:{sid};)", False),
    ("addresses alone", "alert ip any any -> any any (sid:{sid};)", False),
    ("headers, to the server", "alert tcp any any -> any any (flow:established,to_server; ttl:3; sid:{sid};)", True),
    ("a flow bit that a reply sets", "alert tcp any any -> any any (flow:to_client; flowbits:set,a; sid:{sid};)", False),
    ("a protocol alone", "alert http any any -> any any (sid:{sid};)", False),
    ("a hello", 'alert tls any any -> any any (tls.sni; content:"x"; sid:{sid};)', True),
    ("a certificate", 'alert tls any any -> any any (tls.cert_subject; content:"x"; sid:{sid};)', False),
    ("how much the client has sent", 'alert tcp any any -> any 80 (flow:to_server; stream_size:client,>,9; sid:{sid};)', True),
    ("how much the server has sent", 'alert tcp any any -> any 80 (flow:to_server; stream_size:server,>,9; sid:{sid};)', False),
    ("how much both have sent", 'alert tcp any any -> any 80 (flow:to_server; stream_size:either,>,9; sid:{sid};)', False),
    ("how much another server has sent", 'alert tcp any any -> any 81 (flow:to_server; stream_size:server,>,9; sid:{sid};)', True),
    ("replies that pass", "pass tcp any 80 -> any any (sid:{sid};)\nalert tcp any any -> any any (sid:99;)", True),
]


@pytest.mark.parametrize(("text", "silent"), [row[1:] for row in REPLIES], ids=[row[0] for row in REPLIES])
def test_replies(text, silent):
    """Whether replies can be left alone while requests are judged."""
    assert reach.silent(compiled(text.format(sid=1)), BACK, "replies", "alone") is silent


def test_rules_beyond_the_groups_are_never_forgotten():
    text = "\n".join(f"alert tcp any any -> any {1000 + n} (sid:{n + 1};)" for n in range(200))
    rules = compiled(text)
    for n in range(200):
        assert reach.silent(rules, ipv4(6, tcp(40000, 1000 + n))) is False
        assert reach.silent(rules, ipv4(6, tcp(1000 + n, 40000))) is False
    assert reach.silent(rules, ipv4(6, tcp(40000, 999))) is True


def test_of_rules_beyond_the_groups_every_field_is_remembered():
    """Rules that share a set with the one before and differ in another field."""
    lines = [f"alert tcp any any -> any {1000 + n} (sid:{n + 1};)" for n in range(70)]
    lines += ["alert tcp any 500 -> any 600 (sid:100;)", "alert tcp any 501 -> any 600 (sid:101;)",
              "alert udp any 500 -> any 601 (sid:102;)", "alert tcp any 501 -> any 602 (sid:103;)"]
    rules = compiled("\n".join(lines))
    for sport, dport in ((500, 600), (501, 600), (501, 602)):
        assert reach.silent(rules, ipv4(6, tcp(sport, dport))) is False
    assert reach.silent(rules, ipv4(17, udp(500, 601))) is False
    assert reach.silent(rules, ipv4(17, udp(500, 999))) is True
