"""Compiled rules on disk: found again, made anew when anything has changed, and never taken from somebody else."""

import os

import pytest

from tigerfox.control import rulefiles
from tigerfox.control.rulefiles import compile_files
from tigerfox.ruleset import cache
from tigerfox.ruleset.cache import Cache, folder_of, key_of

RULE = 'drop tcp any any -> $BAD any (msg:"one"; content:"evil"; sid:1;)\n'


@pytest.fixture(autouse=True)
def keep_all(monkeypatch):
    monkeypatch.setattr(cache, "WORTH_KEEPING", 0)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Rule file, address list, cache folder; and a count of real compilations."""
    (tmp_path / "one.rules").write_text(RULE)
    (tmp_path / "bad.txt").write_text("192.0.2.7\n")
    compiled = []
    real = rulefiles._compile
    monkeypatch.setattr(rulefiles, "_compile", lambda *given: (compiled.append(given), real(*given))[1])

    def make(lenient=False, seconds=600):
        return compile_files([str(tmp_path / "one.rules")], {"BAD": f"@{tmp_path / 'bad.txt'}"}, lenient, seconds, str(tmp_path / "kept"))

    make.compiled = compiled
    make.folder = tmp_path
    return make


def test_the_second_load_compiles_nothing_and_is_the_same(world):
    first = world()
    assert world() == first
    assert len(world.compiled) == 1
    assert (world.folder / "kept").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("change", [
    lambda world: (world.folder / "one.rules").write_text(RULE.replace("evil", "bad")),
    lambda world: (world.folder / "bad.txt").write_text("192.0.2.8\n"),
], ids=["rules", "address list"])
def test_other_content_is_compiled(world, change):
    first = world()
    change(world)
    assert world().image != first.image
    assert len(world.compiled) == 2


def test_other_settings_are_compiled(world):
    world(), world(lenient=True), world(seconds=5)
    assert len(world.compiled) == 3


def test_a_damaged_file_is_removed_and_compiled_again(world):
    first = world()
    [path] = (world.folder / "kept").iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert world() == first
    assert len(world.compiled) == 2
    assert world() == first and len(world.compiled) == 2


@pytest.mark.parametrize("cut", [0, 5, 40, 60])
def test_a_file_cut_short_is_damaged(tmp_path, cut):
    kept = Cache(tmp_path / "kept")
    kept.put("k", {"a": 1}, b"image")
    path = tmp_path / "kept" / "k.rules"
    path.write_bytes(path.read_bytes()[:cut])
    assert kept.get("k") is None
    assert not path.exists()


def test_a_file_that_others_may_write_is_left_alone(world):
    world()
    [path] = (world.folder / "kept").iterdir()
    path.chmod(0o666)
    world()
    assert len(world.compiled) == 2


def test_a_folder_that_others_may_write_is_left_alone(world):
    (world.folder / "kept").mkdir()
    (world.folder / "kept").chmod(0o777)
    world(), world()
    assert len(world.compiled) == 2
    assert not list((world.folder / "kept").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("whose", ["file", "folder"])
def test_what_belongs_to_somebody_else_is_left_alone(world, whose):
    world()
    [path] = (world.folder / "kept").iterdir()
    os.chown(path if whose == "file" else path.parent, 65534, 65534)
    world()
    assert len(world.compiled) == 2


def test_a_link_is_not_followed(world):
    world()
    [path] = (world.folder / "kept").iterdir()
    path.rename(world.folder / "elsewhere")
    path.symlink_to(world.folder / "elsewhere")
    world()
    assert len(world.compiled) == 2


def test_the_files_used_longest_ago_go(tmp_path):
    kept = Cache(tmp_path / "kept", most=2500)
    for number, name in enumerate("abc"):
        kept.put(name, {}, bytes(900))
        os.utime(tmp_path / "kept" / f"{name}.rules", (number, number))
    assert kept.get("a") is None
    assert kept.get("b")[1] == bytes(900)
    kept.put("d", {}, bytes(900))
    assert kept.get("c") is None, "b was asked for since"
    assert kept.get("b") and kept.get("d")
    assert not kept.put("e", {}, bytes(3000)), "larger than the folder may be"


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert not Cache(tmp_path / "file" / "kept").put("a", {}, b"")
    assert Cache(tmp_path / "file" / "kept").get("a") is None


def test_no_key_without_the_files(tmp_path):
    assert key_of([tmp_path / "none.rules"], {}, "") is None
    assert key_of([], {"BAD": f"@{tmp_path / 'none.txt'}"}, "") is None


def test_names_and_values_do_not_run_into_each_other():
    assert key_of([], {"A": "bc"}, "") != key_of([], {"Ab": "c"}, "")


def test_quick_compilations_are_not_kept(world, monkeypatch):
    monkeypatch.setattr(cache, "WORTH_KEEPING", 3600)
    world()
    assert not (world.folder / "kept").exists()


def test_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder_of("none") is None
    assert folder_of("auto") == tmp_path / "tigerfox"
    assert str(folder_of("/x/y")) == "/x/y"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert str(folder_of("auto")) == "/var/cache/tigerfox"
