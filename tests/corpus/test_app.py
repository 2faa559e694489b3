"""DNS and TLS parsers on real captures: what a rule fired on is in the buffer that the rule looks at."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
from captures import datagrams, streams  # noqa: E402

from tigerfox.dataplane.app.dns import DnsParser, probe_dns  # noqa: E402
from tigerfox.dataplane.app.tls import TlsParser, probe_tls  # noqa: E402

pytestmark = pytest.mark.corpus

BUFFERS = {
    "dns.query": "query", "dns_query": "query", "tls.sni": "sni", "tls_sni": "sni", "ja3.hash": "ja3_hash",
    "ja3_hash": "ja3_hash", "ja3.string": "ja3", "tls.cert_serial": "serial", "tls.fingerprint": "fingerprint",
    "tls.cert_fingerprint": "fingerprint", "tls.cert_subject": "subject", "tls.cert_issuer": "issuer", "tls.certs": "certs"}
NOT_FROM_THE_START = {"et-zeek-http__connect-with-header"}       # TLS behind an HTTP CONNECT: the HTTP parser's to hand on


def found(capture):
    """{buffer: set of texts} that the parsers find in a capture, with what they answered of TLS."""
    texts = {name: set() for name in BUFFERS.values()}
    for _, _, data in datagrams(capture):
        if probe_dns(data) == "yes":
            texts["query"] |= {name for name, _, _ in DnsParser().datagram(data)["questions"]}
    for data in streams(capture).values():
        if probe_tls(data) == "yes":
            parser = TlsParser()
            parser.feed(data)
            fields = parser.fields()
            texts["certs"] |= set(fields["certs"])
            for name in set(texts) & set(fields) - {"certs"}:
                texts[name] |= {fields[name]} - {b""}
        elif probe_dns(data, stream=True) == "yes":
            texts["query"] |= {name for one in DnsParser().feed(data) for name, _, _ in one["questions"]}
    return texts


def literal(text):
    """A content's bytes: |41 42| is hexadecimal."""
    return b"".join(bytes.fromhex(part) if place % 2 else part.encode()
                    for place, part in enumerate(text.replace("\\", "").split("|")))


def conditions(rule):
    """(buffer, literal, negated) of every content of a rule that stands in one of BUFFERS."""
    options = [one.strip() for one in re.findall(r'((?:[^;"]|"(?:\\.|[^"])*")+);', rule[rule.index("(") + 1:])]
    where, rows = None, []
    for option in options:
        key, _, value = option.partition(":")
        if key == "content" and where:
            negated = value.strip().startswith("!")
            rows.append((where, literal(value.strip().lstrip("!").strip('" ')), negated))
        elif key == "tls.fingerprint" and value:
            rows.append(("fingerprint", value.strip('" ').lower().encode(), False))
        elif key in BUFFERS:
            where = BUFFERS[key]
        elif re.match(r"(http|file|pkt|raw)[._]", key):
            where = None
    return rows


def fired(corpus):
    for file in sorted((corpus / "cases").glob("*/expected.json")):
        expected = json.loads(file.read_text())
        for rule in (file.parent / "test.rules").read_text(errors="replace").splitlines():
            sid = re.search(r"\bsid:\s*(\d+)", rule)
            if sid and sid[1] in expected["sids"] and not rule.lstrip().startswith("#") and conditions(rule):
                yield file.parent, sid[1], conditions(rule)


def test_what_fired_is_in_its_buffer(corpus):
    seen, rows, missing = {}, 0, []
    for case, sid, wanted in fired(corpus):
        if case.name in NOT_FROM_THE_START:
            continue
        if case not in seen:
            seen[case] = found(case / "input.pcap")
        texts = seen[case]
        for buffer, text, negated in wanted:
            rows += 1
            if not negated and not any(text.lower() in one.lower() for one in texts[buffer]):
                missing.append((case.name, sid, buffer, text))
    assert not missing
    assert rows >= 25 and len(seen) >= 15


def test_no_capture_upsets_a_parser(corpus):
    """Every datagram and stream of every case: the answer does not depend on the segments, and none takes a bound."""
    counted = {"dns": 0, "tls": 0}
    for capture in sorted((corpus / "cases").glob("*/input.pcap")):
        if capture.stat().st_size > 2_000_000:
            continue
        for _, _, data in datagrams(capture):
            if probe_dns(data) == "yes":
                counted["dns"] += 1
                assert DnsParser().datagram(data)["answer"] in ("complete", "broken"), capture
        for data in streams(capture).values():
            if probe_tls(data) != "yes":
                continue
            counted["tls"] += 1
            whole, bytewise = TlsParser(), TlsParser()
            answer = whole.feed(data)
            for at in range(len(data[:20_000])):
                last = bytewise.feed(data[at:at + 1])
            assert answer in ("need_more", "complete", "broken"), capture
            if len(data) <= 20_000:
                assert (last, bytewise.fields()) == (answer, whole.fields()), capture
    assert counted["dns"] > 500 and counted["tls"] > 100, counted


def test_fingerprints_of_rules_that_stayed_quiet_are_not_found(corpus):
    """JA3 hashes are compared whole: a rule that did not fire names one that no hello of its capture has."""
    checked = 0
    for file in sorted((corpus / "cases").glob("*/expected.json")):
        fired_here, texts = json.loads(file.read_text())["sids"], None
        for rule in (file.parent / "test.rules").read_text(errors="replace").splitlines():
            sid = re.search(r"\bsid:\s*(\d+)", rule)
            hashes = [text for buffer, text, _ in conditions(rule) if buffer == "ja3_hash"] if sid else []
            if not hashes or sid[1] in fired_here or rule.lstrip().startswith("#"):
                continue
            texts = texts or found(file.parent / "input.pcap")
            checked += bool(texts["ja3_hash"])
            assert not set(hashes) <= texts["ja3_hash"], (file.parent.name, sid[1])
    assert checked >= 50
