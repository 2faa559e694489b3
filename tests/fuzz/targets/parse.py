"""One packet: the first two bytes say how much longer it was on the wire than what was copied."""

from test_fuzz_parse import SEEDS, parse_guarded

WORDS = [b"\x45", b"\x60", b"\x46", b"\x2c", b"\x3c", b"\x2b", b"\x87", b"\x33", b"\x29", b"\x04", b"\x2f", b"\x84",
         b"\x11", b"\x3a", b"\x65\x58", b"\x08\0", b"\x86\xdd"]


def seeds():
    return [b"\0\0" + one for one in SEEDS] + [b"\0\x40" + one[:len(one) // 2] for one in SEEDS]


def check(data):
    if len(data) < 2:
        return
    whole = bytes(data[2:4098])
    missing = int.from_bytes(data[:2], "big")
    found = parse_guarded(whole, len(whole) + missing)
    if not missing and found["reason"] == "none":
        part = parse_guarded(whole[:len(whole) // 2], len(whole))
        assert part["reason"] in ("none", "header_truncated"), part
