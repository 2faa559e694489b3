"""The HTTP parser on real captures: what Suricata 7's rules found in a buffer is in ours, what must not fire is not."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from httpcases import case_result, seen, streams  # noqa: E402

from tigerfox.dataplane.app.httpparser import HttpParser  # noqa: E402

pytestmark = pytest.mark.corpus

# What is not HTTP/1 in these cases, or not a question of the parser.
ELSEWHERE = {
    "exception-policy-midstream-04": "Suricata does not pick the flow up in its middle",
    "mime__smtp-mime-encap-8649-baseline": "SMTP", "smtp-file-data-01": "SMTP",
    "transform-header-lowercase": "HTTP/2",
}


@pytest.fixture(scope="module")
def results(corpus):
    return {case.name: case_result(case, HttpParser)[0] for case in sorted((corpus / "cases").iterdir())
            if (case / "input.pcap").exists() and (case / "test.rules").exists()}


def test_evader_bodies_are_all_visible(results):
    evader = {name: rows for name, rows in results.items() if name.startswith("http-evader__")}
    assert len(evader) > 200
    assert not [name for name, rows in evader.items() if not rows or not all(hit for _, _, _, hit, _ in rows)]


def test_contents_of_fired_rules_are_in_their_buffers(results):
    missed = {(name, buffer, sid) for name, rows in results.items() for buffer, sid, must, hit, _ in rows if must and not hit}
    assert not {one for one in missed if one[0] not in ELSEWHERE}
    checked = Counter(buffer for rows in results.values() for buffer, _, must, _, _ in rows if must)
    assert len(checked) >= 15 and sum(checked.values()) > 600


def test_contents_of_rules_that_never_fire_are_not(results):
    wrong = {(name, sid) for name, rows in results.items() for _, sid, must, hit, _ in rows if not must and hit}
    assert not {one for one in wrong if one[0] not in ELSEWHERE}


def test_one_byte_at_a_time_shows_the_same(corpus):
    """The last state of every buffer, and every event, of each evader capture, whole and in single bytes."""
    for case in sorted((corpus / "cases").glob("http-evader__*")):
        for flow in streams(case / "input.pcap"):
            whole, events = seen(flow, HttpParser)
            single, single_events = seen(flow, HttpParser, cut=1)
            assert events == single_events, case.name
            assert {name: values - single[name] for name, values in whole.items() if values - single[name]} == {}, case.name
