"""Captures with fragments that header rules judge: the same packets fire as in the reference run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.corpus

ROOT = Path(__file__).resolve().parents[2]
CASES = ["defrag__bug-6887-defrag-ipv4-tcp-syn", "defrag__bug-6887-defrag-ppp-ipv6-tcp", "ipv6-evasion__ipv6-malformed-fragments-35"]


@pytest.mark.parametrize("case", CASES)
def test_alerts_come_with_the_packets_that_complete(corpus, case):
    folder = corpus / "cases" / case
    expected = json.loads((folder / "expected.json").read_text())
    done = subprocess.run([sys.executable, "-m", "tigerfox", "replay", folder / "input.pcap", "--rules", folder / "test.rules", "--json"],
                          cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found = {}
    for line in done.stdout.splitlines():
        event = json.loads(line)
        if event["event_type"] == "alert":
            found.setdefault(str(event["alert"]["signature_id"]), []).append(event["pcap_cnt"])
    assert found == expected["packets_per_sid"]
