"""The version line of SSH: what it says, wherever its bytes are cut."""

import pytest

from tigerfox.dataplane.app.ssh import feed

MORE, COMPLETE, NOT_THIS = 0, 1, 2

ROWS = [
    ("plain", b"SSH-2.0-OpenSSH_9.6\r\n", COMPLETE, b"2.0", b"OpenSSH_9.6"),
    ("comments", b"SSH-2.0-OpenSSH_9.6 Debian-1\r\n", COMPLETE, b"2.0", b"OpenSSH_9.6"),
    ("LF alone", b"SSH-1.99-Old\n", COMPLETE, b"1.99", b"Old"),
    ("keys behind it", b"SSH-2.0-a-b\r\n\0\0\1\2", COMPLETE, b"2.0", b"a-b"),
    ("no software", b"SSH-2.0-\r\n", COMPLETE, b"2.0", b""),
    ("greeted before", b"Welcome.\r\nRead this\r\nSSH-2.0-x\r\n", COMPLETE, b"2.0", b"x"),
    ("not whole", b"SSH-2.0-x", MORE, b"", b""),
    ("one part", b"SSH-2.0\r\n", NOT_THIS, b"", b""),
    ("no version", b"SSH--x\r\n", NOT_THIS, b"", b""),
    ("greeted without end", b"a\r\n" * 64, NOT_THIS, b"", b""),
    ("greeted for long", b"a\r\n" * 63 + b"SSH-2.0-x\n", COMPLETE, b"2.0", b"x"),
    ("too long", b"SSH-2.0-" + b"x" * 600 + b"\r\n", COMPLETE, b"2.0", b"x" * 247),
    ("nothing", b"", MORE, b"", b""),
]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("description", "data", "answer", "proto", "software"), ROWS, ids=[row[0] for row in ROWS])
def test_rows(description, data, answer, proto, software, size):
    assert feed([data[at:at + size] for at in range(0, len(data), size)]) == (answer, proto, software)
