"""Mapped files: modes, headers, messages."""

import os
import stat

import pytest

from tigerfox.dataplane.shared import Region
from tigerfox.errors import SharedMemoryError

KIND, LAYOUT = 1, 7


def test_a_new_file_is_private_and_of_its_size(tmp_path):
    path = tmp_path / "f"
    region = Region.create(str(path), KIND, LAYOUT, 4096)
    assert (region.size, region.writable, region.path) == (4096, True, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size == 4096
    again = Region.open(str(path), KIND, LAYOUT)
    assert (again.size, again.writable, again.generation) == (4096, False, 0)


def test_keys_differ_from_file_to_file(tmp_path):
    contents = []
    for name in "ab":
        Region.create(str(tmp_path / name), KIND, LAYOUT, 4096)
        contents.append((tmp_path / name).read_bytes()[40:88])
    assert contents[0] != contents[1]
    assert bytes(48) not in contents


def test_memory_without_a_file_is_shared_with_children():
    from tigerfox.dataplane.blocks import Blocks

    blocks = Blocks.create(None, 100)
    pid = os.fork()
    if not pid:
        blocks.insert("source", "192.0.2.1", sid=5)
        os._exit(0)
    os.waitpid(pid, 0)
    assert blocks.lookup("192.0.2.1", "192.0.2.2") == ("source", 5)


def test_what_is_there_is_not_overwritten(tmp_path):
    Region.create(str(tmp_path / "f"), KIND, LAYOUT, 4096)
    with pytest.raises(SharedMemoryError, match="File exists"):
        Region.create(str(tmp_path / "f"), KIND, LAYOUT, 4096)


def test_no_room_is_said_and_leaves_no_file(tmp_path):
    with pytest.raises(SharedMemoryError, match="Enlarge"):
        Region.create(str(tmp_path / "f"), KIND, LAYOUT, 1 << 56)
    assert not (tmp_path / "f").exists()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SharedMemoryError, match="No such file.*tigerfox status"):
        Region.open(str(tmp_path / "f"), KIND, LAYOUT)


def test_a_symbolic_link_is_not_followed(tmp_path):
    Region.create(str(tmp_path / "f"), KIND, LAYOUT, 4096)
    (tmp_path / "link").symlink_to(tmp_path / "f")
    with pytest.raises(SharedMemoryError):
        Region.open(str(tmp_path / "link"), KIND, LAYOUT)


@pytest.mark.parametrize("kind, layout, message", [(2, LAYOUT, "kind 2"), (KIND, 8, "layout 7, this program has 8")])
def test_another_kind_or_layout_is_refused(tmp_path, kind, layout, message):
    Region.create(str(tmp_path / "f"), KIND, LAYOUT, 4096)
    with pytest.raises(SharedMemoryError, match=message):
        Region.open(str(tmp_path / "f"), kind, layout)
