"""The command as a whole: version, exit codes, what it says of files it cannot use, and how it ends early."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from typer.testing import CliRunner

from tigerfox.cli import app
from tigerfox.errors import CaptureError

COMMAND = [sys.executable, "-m", "tigerfox"]
NOBODY = 65534
RULE = 'alert tcp any any -> any any (msg:"seen"; sid:1;)\n'


def tigerfox(*words, **options):
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A capture whose rows and events fill any pipe many times, and a rule that all of it meets."""
    folder = tmp_path_factory.mktemp("big")
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    packet = head + struct.pack(">HHIIBBHHH", 1024, 80, 1, 0, 0x50, 2, 1000, 0, 0)
    record = struct.pack("<IIII", 1700000000, 0, len(packet), len(packet)) + packet
    (folder / "big.pcap").write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + record * 400_000)
    (folder / "all.rules").write_text(RULE)
    return folder


def printing(big, verb, env=None):
    words = {"dissect": ["dissect", big / "big.pcap"],
             "replay": ["replay", big / "big.pcap", "--rules", big / "all.rules", "--json"]}[verb]
    return subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                            env=env)


def test_version_is_a_verb_and_an_option():
    from tigerfox._version import __version__

    for word in ("version", "--version"):
        done = tigerfox(word)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize("words", [["start"], ["blocks", "add"]], ids=" ".join)
def test_help_says_what_locks_out(words):
    assert re.search(r"lock\s+you(rself)?\s+out", tigerfox(*words, "--help").stdout)


@pytest.mark.parametrize("words", [[], ["start"], ["replay"], ["rules", "check"], ["blocks"], ["blocks", "import"]], ids=" ".join)
def test_help_says_the_exit_codes(words):
    done = tigerfox(*words, "--help")
    assert done.returncode == 0 and "Exit codes: 0 done, 1 the work failed, 2 usage, 3" in done.stdout


@pytest.mark.parametrize("words", [["--bogus"], ["frob"], ["dissect"], ["start", "--bogus"], ["blocks", "add"]], ids=" ".join)
def test_wrong_usage_ends_with_2(words):
    done = tigerfox(*words)
    assert done.returncode == 2 and done.stdout == "" and "Usage: " in done.stderr


@pytest.mark.parametrize("verb", [["dissect"], ["replay", "--rules"]], ids=lambda words: words[0])
@pytest.mark.parametrize("name, says", [("missing.pcap", "No such file"), ("folder", "Is a directory"),
                                        ("text.pcap", "not a capture")])
def test_file_that_is_no_capture_ends_with_1_and_the_mend(tmp_path, verb, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.pcap").write_text("no capture, and long enough to have a header")
    (tmp_path / "all.rules").write_text(RULE)
    done = tigerfox(*verb, *([name] if verb == ["dissect"] else ["all.rules", name]), cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("tigerfox: ") and says in done.stderr and "Name a pcap or pcapng file" in done.stderr


def test_capture_that_may_not_be_read_is_an_error_of_ours(tmp_path):
    secret = tmp_path / "secret.pcap"
    secret.touch(0)
    CliRunner().invoke(app, ["dissect", str(tmp_path)])      # imports what it needs
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        error = CliRunner().invoke(app, ["dissect", str(secret)]).exception
    finally:
        os.seteuid(before)
    assert isinstance(error, CaptureError) and error.exit_code == 1 and "Permission denied" in str(error)


@pytest.mark.parametrize("verb", ["status", "stop", "reload"])
def test_no_instance_ends_with_1(tmp_path, verb):
    done = tigerfox(verb, "--run-dir", tmp_path / "none")
    assert (done.returncode, done.stdout) == (1, "") and "no instance runs in" in done.stderr


@pytest.mark.parametrize("verb", ["dissect", "replay"])
def test_reader_that_goes_away_is_no_fault(big, verb):
    process = printing(big, verb)
    first = process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1
    process.stderr.close()
    json.loads(first)


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("verb", ["dissect", "replay"])
def test_interrupted_while_it_writes_it_ends_with_130_and_whole_lines(big, verb, unbuffered):
    process = printing(big, verb, os.environ | {"PYTHONUNBUFFERED": unbuffered})
    first = b""
    while len(first) < 100_000:      # makes room in the pipe for a part of what is written at once
        first += process.stdout.read(1000)
    wait_until_full(process.stdout)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)                  # so that the signal ends the write, and not the room that reading makes
    rest, complaint = process.communicate(timeout=60)
    assert process.returncode == 130 and complaint == b""
    lines = (first + rest).split(b"\n")
    assert lines.pop() == b""
    assert all(json.loads(line) for line in lines)


def wait_until_full(pipe):
    """Return when nothing more is put into a pipe that nobody reads."""
    before = -1
    while before != (now := struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]) or now < 4096:
        before = now
        time.sleep(0.2)


@pytest.mark.parametrize("words", [["rules", "keywords"], ["--help"], ["doctor"]], ids=" ".join)
def test_output_that_is_no_terminal_has_no_escape_codes(words):
    done = tigerfox(*words, env=os.environ | {"TERM": "xterm-256color"})
    assert done.stdout and "\x1b" not in done.stdout + done.stderr


def test_shell_completes_verbs_and_options():
    def offered(*words):
        env = os.environ | {"_TIGERFOX_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(["tigerfox", *words]),
                            "COMP_CWORD": str(len(words))}
        code = "import sys; sys.argv[0] = 'tigerfox'; from tigerfox.cli import main; main()"
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False).stdout.split()

    assert offered("bl") == ["blocks"]
    assert "--rules" in offered("start", "--ru")
