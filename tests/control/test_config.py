"""Settings: defaults, the file, the command line over it, and what is refused with which words."""

import json
from pathlib import Path

import pytest

from tigerfox import config
from tigerfox.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "tigerfox.toml"


def write(tmp_path, text):
    path = tmp_path / "tigerfox.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("text", "words"), [
    ("[queus]\n", ["unknown section 'queus'", "Did you mean 'queues'"]),
    ("[queues]\nlenght = 3", ["[queues]: unknown key 'lenght'", "Did you mean 'length'"]),
    ("[queues]\nlength = 3", ["[queues] length: 3", "64 to 1048576"]),
    ("[queues]\nlength = true", ["[queues] length", "whole number"]),
    ("[queues]\nnumbers = \"7:0\"", ["[queues] numbers", '"0:7"']),
    ("[queues]\nnumbers = \"0,0\"", ["no number twice"]),
    ("[queues]\nnumbers = \"0:9999\"", ["at most 256"]),
    ("[queues]\ncopy_range = \"all\"", ["[queues] copy_range", "64 to 65531"]),
    ("queues = 3", ["queues: it is a section", "[queues]"]),
    ("[failure]\nunparsed = \"opn\"", ["[failure] unparsed", "did you mean 'open'"]),
    ("[eve]\nring_slots = 100", ["[eve] ring_slots", "64 or 128"]),
    ("[rules]\nfiles = 3", ["[rules] files", "list of file names"]),
    ("[rules.variables]\nX = 3", ["[rules] variables", "HOME_NET"]),
    ("[netfilter]\nhook = \"postrouting\"", ["[netfilter] hook", "'forward'"]),
    ("[queues\n", ["--show-config"]),
])
def test_refused(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_missing_file_names_it(tmp_path):
    with pytest.raises(ConfigError, match="absent.toml"):
        config.load(tmp_path / "absent.toml")


def test_file_then_options(tmp_path):
    path = write(tmp_path, '[queues]\nnumbers = "0:3"\nlength = 512\n[rules.variables]\nA = "1.2.3.4"\nB = "@list"\n')
    loaded = config.load(path, {"queues.numbers": "4", "cpu.pin": None, "rules.variables": {"A": "5.6.7.8"}})
    assert loaded.queues.numbers == "4"
    assert loaded.queues.length == 512
    assert loaded.cpu.pin == "auto"
    assert loaded.rules.variables == {"A": "5.6.7.8", "B": f"@{tmp_path}/list"}


def test_files_are_taken_from_where_the_file_is(tmp_path):
    path = write(tmp_path, '[rules]\nfiles = ["a.rules", "/etc/b.rules"]')
    assert config.load(path).rules.files == (f"{tmp_path}/a.rules", "/etc/b.rules")


@pytest.mark.parametrize("word", ["open", "closed"])
def test_fail_sets_every_policy(word):
    assert set(config.as_dict(config.load(options={"failure": word}))["failure"].values()) == {word}


def test_wrong_option_is_refused():
    with pytest.raises(ConfigError, match="command line: \\[failure\\]"):
        config.load(options={"failure": "ajar"})
    with pytest.raises(ConfigError, match="CPUs as"):
        config.load(options={"cpu.pin": "two"})


def test_render_is_read_back_to_the_same(tmp_path):
    changed = config.load(options={"failure": "open", "rules.files": ("/x/ä.rules",),
                                   "rules.variables": {"N": "[1.2.3.4,!5.6.7.8]"}})
    for settings in (config.Config(), changed):
        assert config.load(write(tmp_path, config.render(settings))) == settings
        assert config.from_dict(json.loads(json.dumps(config.as_dict(settings)))) == settings


def test_example_is_the_defaults():
    assert EXAMPLE.read_text(encoding="utf-8") == config.render(config.Config())


@pytest.mark.parametrize(("text", "numbers"), [
    ("0:7", tuple(range(8))), ("3", (3,)), ("0:1,8", (0, 1, 8)), (" 4 , 2 ", (4, 2)),
])
def test_queue_numbers(text, numbers):
    assert config.queue_numbers(text) == numbers


def test_assignments():
    assert config.assignments(["A=1", "$B = [1.2.3.4]", "C==x"]) == {"A": "1", "B": "[1.2.3.4]", "C": "=x"}
    for wrong in ("A", "=1", "A="):
        with pytest.raises(ConfigError, match="NAME=VALUE"):
            config.assignments([wrong])
