"""``tigerfox dissect`` on the captures of the corpus, against what another dissector found in them."""

import io
import ipaddress
import json
import subprocess
import sys

import pytest

from tigerfox.errors import CaptureError
from tigerfox.offline.dissect import dissect

pytestmark = pytest.mark.corpus

KEYS = ["n", "v", "src", "dst", "proto", "sport", "dport", "tcp_flags", "ttl", "ip_len", "frag_off", "more_frags",
        "payload_len", "icmp_type", "icmp_code", "error"]


def rows_of(path):
    out, err = io.BytesIO(), io.StringIO()
    dissect(path, out, err)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def captures(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix in (".pcap", ".pcapng", ".cap"))


def expected(truth):
    """The keys of a row that the other dissector also gives."""
    row = {"v": truth["v"], "src": truth["src"], "dst": truth["dst"], "ttl": truth.get("ttl", truth.get("hlim"))}
    if truth["v"] == 4:
        row["proto"] = truth["proto"]
    if truth.get("frag_off") is not None:
        row["frag_off"] = truth["frag_off"]
    if truth.get("frag_off"):
        return row
    if truth.get("l4") in ("tcp", "udp", "sctp"):
        row |= {"sport": truth.get("sp"), "dport": truth.get("dp")}
    if truth.get("l4") == "tcp":
        row["tcp_flags"] = None if truth.get("flags") is None else int(str(truth["flags"]), 0)
    return {key: value for key, value in row.items() if value is not None}


def agrees(row, truth):
    want = expected(truth)
    have = {key: row[key] for key in want}
    for side in ("src", "dst"):
        if have[side] is not None:
            have[side] = str(ipaddress.ip_address(have[side]))
        want[side] = str(ipaddress.ip_address(want[side]))
    return have == want


def test_fields_against_the_truth(corpus):
    """Header fields of the first 300 packets of each capture: at least 99.5 of 100 packets agree in every field."""
    right = total = 0
    for truths in sorted((corpus / "robustness").glob("*.l34.jsonl")):
        rows = {row["n"]: row for row in rows_of(truths.with_name(truths.name.removesuffix(".l34.jsonl")))}
        for truth in map(json.loads, truths.read_text().splitlines()):
            if not truth.get("malformed"):
                total += 1
                right += truth["n"] in rows and agrees(rows[truth["n"]], truth)
    assert total > 10_000
    assert right / total >= 0.995, f"{right} of {total}"


@pytest.mark.parametrize("folder", ["robustness", "cases"])
def test_every_capture_is_read_or_refused(corpus, folder):
    read = refused = 0
    for path in captures(corpus / folder):
        try:
            rows = rows_of(path)
        except CaptureError:
            refused += 1
            continue
        read += 1
        assert [row["n"] for row in rows] == list(range(1, len(rows) + 1)), path
        assert all(list(row) == KEYS for row in rows), path
    assert read > 5 * refused


def test_the_command(corpus):
    path = corpus / "robustness" / "libpcap__filter__vrrp.pcap"
    done = subprocess.run([sys.executable, "-m", "tigerfox", "dissect", str(path), "--json"], capture_output=True,
                          check=True)
    assert done.stderr == b""
    assert [json.loads(line) for line in done.stdout.splitlines()] == rows_of(path)
