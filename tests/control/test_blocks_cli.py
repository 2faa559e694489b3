"""`tigerfox blocks` on a running and on a stopped instance."""

import json
import os
import signal
import time

import pytest
from typer.testing import CliRunner

from tigerfox.cli import app
from tigerfox.control.blocklist import duration_text, load_table, parse_duration, save_table
from tigerfox.control.instance import Instance
from tigerfox.dataplane.blocks import Blocks
from tigerfox.errors import TigerFoxError, UsageError


class Command:
    """Runs verbs on one instance; `run` returns standard output, errors are raised as the program would show them."""

    def __init__(self, folder):
        self.instance = Instance(folder / "run", folder / "state")
        self.where = ["--run-dir", str(folder / "run"), "--state-dir", str(folder / "state")]

    def run(self, *words, text=None):
        result = CliRunner().invoke(app, ["blocks", *words, *self.where], input=text)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output


@pytest.fixture
def stopped(tmp_path):
    return Command(tmp_path)


@pytest.fixture
def running(tmp_path):
    """An instance as the supervisor keeps it: a child holds the claim, the live table lies in the run directory."""
    command = Command(tmp_path)
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        command.instance.claim()
        Blocks.create(str(command.instance.blocks), 200_000)
        os.write(told, b"x")
        time.sleep(120)
        os._exit(0)
    os.close(told)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    try:
        yield command
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture(params=["running", "stopped"])
def instance(request):
    return request.getfixturevalue(request.param)


def test_add_list_remove(instance):
    assert instance.run("list") == "nobody is blocked\n"
    instance.run("add", "192.0.2.7", "--for", "10m", "--sid", "99")
    instance.run("add", "destination", "2001:db8::7", "--for", "never")
    instance.run("add", "pair", "192.0.2.9", "192.0.2.8")
    instance.run("add", "connection", "tcp", "192.0.2.1", "1000", "192.0.2.2", "80")
    rows = {row["scope"]: row for row in json.loads(instance.run("list", "--json"))}
    assert (rows["source"]["src"], rows["source"]["sid"]) == ("192.0.2.7", 99)
    assert 590 <= rows["source"]["expires"] - time.time() <= 600
    assert (rows["destination"]["src"], rows["destination"]["expires"]) == ("2001:db8::7", None)
    assert (rows["pair"]["src"], rows["pair"]["dst"]) == ("192.0.2.8", "192.0.2.9")
    assert (rows["connection"]["sport"], rows["connection"]["dport"], rows["connection"]["proto"]) == (1000, 80, 6)
    table = instance.run("list").splitlines()
    assert table[0].split() == ["scope", "who", "expires", "in", "sid", "hits"]
    assert len(table) == 5
    assert [row["scope"] for row in json.loads(instance.run("list", "--scope", "pair", "--json"))] == ["pair"]
    assert [row["scope"] for row in json.loads(instance.run("list", "--address", "192.0.2.9", "--json"))] == ["pair"]
    instance.run("remove", "connection", "tcp", "192.0.2.2", "80", "192.0.2.1", "1000")
    assert "connection" not in instance.run("list")
    assert instance.run("flush") == "removed: 3 entries\n"
    assert json.loads(instance.run("list", "--json")) == []


def test_a_running_instance_sees_the_change_at_once(running):
    live = Blocks.open(str(running.instance.blocks))
    running.run("add", "192.0.2.7")
    assert live.lookup("192.0.2.7", "192.0.2.1") == ("source", 0)
    running.run("remove", "192.0.2.7")
    assert live.lookup("192.0.2.7", "192.0.2.1") is None
    assert not running.instance.saved_blocks.exists()


def test_a_stopped_instance_keeps_no_file_without_entries(stopped):
    stopped.run("add", "192.0.2.7")
    assert stopped.instance.saved_blocks.exists()
    stopped.run("remove", "192.0.2.7")
    assert not stopped.instance.saved_blocks.exists()


def test_a_hundred_thousand_entries_in_one_go(instance, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}\n" for n in range(100_000)))
    done = json.loads(instance.run("import", str(listed), "--for", "7d", "--json"))
    assert (done["inserted"], done["refused"], done["bad"]) == (100_000, 0, 0)
    assert len(instance.run("export").splitlines()) == 100_000
    again = json.loads(instance.run("import", str(listed), "--for", "1h", "--json"))
    assert (again["inserted"], again["prolonged"]) == (0, 100_000)


def test_export_and_import_are_inverse(instance, tmp_path):
    for words in (["192.0.2.7", "--sid", "5"], ["destination", "2001:db8::1", "--for", "never"], ["pair", "192.0.2.1", "192.0.2.2"],
                  ["connection", "udp", "192.0.2.1", "53", "192.0.2.2", "5353"],
                  ["connection", "47", "192.0.2.1", "0", "192.0.2.2", "0"]):
        instance.run("add", *words)
    file = str(tmp_path / "out.txt")
    instance.run("export", file)
    before = json.loads(instance.run("list", "--json"))
    instance.run("flush")
    instance.run("import", file)
    assert json.loads(instance.run("list", "--json")) == before
    assert len(before) == 5


def test_standard_input(instance):
    instance.run("import", "-", text="192.0.2.1\n192.0.2.2\n")
    assert len(json.loads(instance.run("list", "--json"))) == 2


def test_one_bad_line_refuses_all_unless_lenient(instance, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("192.0.2.1\nnonsense\n192.0.2.0/24\n192.0.2.2\n")
    with pytest.raises(TigerFoxError, match=r"list.txt:2: not an IP address.*\n.*list.txt:3: a prefix.*\n.*--lenient") as raised:
        instance.run("import", str(listed))
    assert raised.value.exit_code == 1
    assert instance.run("list") == "nobody is blocked\n"
    assert "2 inserted" in instance.run("import", "--lenient", str(listed))
    assert len(json.loads(instance.run("list", "--json"))) == 2


WRONG = [
    (["add", "nonsense"], 2, "not an IP address"),
    (["add", "192.0.2.0/24"], 2, "@FILE"),
    (["add", "192.0.2.1", "--for", "soon"], 2, "write 90s, 10m"),
    (["add", "pair", "192.0.2.1"], 2, "pair ADDRESS ADDRESS"),
    (["add", "connection", "icmp", "192.0.2.1", "1", "192.0.2.2", "2"], 2, "not a protocol"),
    (["add", "connection", "tcp", "192.0.2.1", "x", "192.0.2.2", "2"], 2, "not a port"),
    (["remove", "192.0.2.1"], 1, "is not blocked"),
    (["list", "--scope", "everything"], 2, "not a scope"),
    (["import", "/does/not/exist"], 1, "No such file"),
]


@pytest.mark.parametrize("words, code, message", WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_words(stopped, words, code, message):
    with pytest.raises(TigerFoxError, match=message) as raised:
        stopped.run(*words)
    assert raised.value.exit_code == code


@pytest.mark.parametrize("text, seconds", [("90", 90), ("10m", 600), ("1h30m", 5400), ("7d", 604800), ("2w", 1209600),
                                           ("never", None)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10x", "-5m", "1.5h", "0", "99999999999d"])
def test_durations_that_are_none(text):
    with pytest.raises(UsageError):
        parse_duration(text)


def test_durations_are_shown_short():
    assert [duration_text(seconds) for seconds in (0, 59, 3700, 90061, 604800)] == ["0s", "59s", "1h1m", "1d1h", "1w"]


def test_a_saved_table_comes_back_whole(tmp_path):
    blocks, path = Blocks.create(None, 50_000), tmp_path / "blocks.saved"
    for number in range(5000):
        blocks.insert("source", f"10.0.{number >> 8}.{number & 255}", sid=number, expires=int(time.time()) + 1000 + number)
    blocks.insert("source", "192.0.2.1", expires=int(time.time()) + 100, now=time.time())
    save_table(blocks, path)
    other = Blocks.create(None, 20_000)
    assert load_table(path, other) == (5001, 0)
    assert sorted(other.entries()) == sorted(blocks.entries())
    blocks.flush()
    save_table(blocks, path)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_table_that_is_damaged_is_refused_and_kept(stopped):
    stopped.run("add", "192.0.2.1")
    with open(stopped.instance.saved_blocks, "r+b") as stream:
        stream.write(b"GARBAGE!")
    with pytest.raises(TigerFoxError, match="not a TigerFox file"):
        stopped.run("add", "192.0.2.2")
    assert stopped.instance.saved_blocks.read_bytes()[:8] == b"GARBAGE!"
