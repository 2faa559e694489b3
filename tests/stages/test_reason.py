"""The table of reason names against the enum it names."""

import re
from pathlib import Path

from tigerfox.dataplane.reason import REASONS, reason_number

PXD = Path(__file__).resolve().parents[2] / "tigerfox" / "dataplane" / "reason.pxd"


def enum_members():
    block = PXD.read_text().split("cdef enum Reason:")[1].split("cdef enum")[0]
    return [name for name in re.findall(r"^ +(R_\w+)", block, re.M) if name != "R_COUNT"]


def test_one_row_per_member():
    assert len(REASONS) == len(enum_members())


def test_names_follow_the_members():
    """A row that was put in the wrong place has a name that shares no word with its member."""
    abbreviated = {"hlen": "header", "ext": "extension", "frag": "fragment"}
    for member, (name, _, _) in zip(enum_members(), REASONS):
        words = [abbreviated.get(word, word) for word in member[2:].lower().split("_")]
        assert name.startswith(words[0]) and all(word in name for word in words), (member, name)


def test_names_are_unique_words():
    names = [name for name, _, _ in REASONS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)


def test_classes():
    classes = {name: group for name, group, _ in REASONS}
    assert classes["none"] == classes["pass_rule"] == "pass"
    assert classes["drop_rule"] == classes["blocked_pair"] == "stop"
    assert classes["ip_short"] == classes["tunnel_inner"] == "malformed"
    assert classes["ipv6_extension_limit"] == classes["fragment_tiny"] == classes["tunnel_depth"] == "unparsed"
    assert classes["no_verdict"] == "failure"


def test_explanations_are_sentences_for_people():
    assert all(len(text) > 10 and not text.endswith(".") for _, _, text in REASONS)


def test_number_by_name():
    assert reason_number("none") == 0
    assert REASONS[reason_number("udp_length")][0] == "udp_length"
