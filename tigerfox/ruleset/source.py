"""Rule files: from bytes to one text per rule, with the place of every character.

A line that ends in a backslash goes on in the next one. Lines that begin with `#` or `;` are comments. Bytes that are
not UTF-8 are kept as surrogates (PEP 383), so that a content means the bytes of the file; `readable` makes text of them. A
name ending in `.gz` is unpacked; of a folder every `*.rules` is read, in the order of names.
"""

import gc
import gzip
import zlib
from bisect import bisect_right
from contextlib import contextmanager
from pathlib import Path

from tigerfox.errors import RuleError
from tigerfox.ruleset.rule import Place, Problem


@contextmanager
def resting_collector():
    """Let the garbage collector rest while many small objects are made that all stay: a quarter of the time of a
    load."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def readable(text):
    """Return text that can be written out: bytes that were not UTF-8 become U+FFFD."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class RuleText:
    """One rule as it stands in its file; continued lines are joined."""

    __slots__ = ("file", "text", "starts", "first_line")

    def __init__(self, file, text, starts, first_line):
        self.file = file
        self.text = text
        self.starts = starts
        self.first_line = first_line

    def place(self, offset):
        """Return the Place of a character of ``text``."""
        row = bisect_right(self.starts, offset) - 1
        return Place(self.file, self.first_line + row, offset - self.starts[row] + 1)


def find_files(paths):
    """Return the rule files that paths (files and folders) name; raises RuleError for one that is not there."""
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted([*path.glob("*.rules"), *path.glob("*.rules.gz")])
            if not inside:
                raise _unreadable(path, "no *.rules in this folder; name the rule files themselves")
            files += inside
        else:
            files.append(path)
    return files


def read_rules(path):
    """Yield the RuleTexts of a file; raises RuleError when it cannot be read."""
    lines = _read(path).split("\n")
    file, number = str(path), 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if not line or line.isspace() or line[0] in "#;":
            continue
        if not line.endswith(("\\", "\\\r")):
            if line.lstrip()[0] != "#":
                yield RuleText(file, line.rstrip("\r"), (0,), number)
            continue
        first, parts, starts = number, [], [0]
        while line.endswith(("\\", "\\\r")) and number < len(lines):
            parts.append(line.rstrip("\r")[:-1])
            starts.append(starts[-1] + len(parts[-1]))
            line = lines[number]
            number += 1
        parts.append(line.rstrip("\r").removesuffix("\\"))
        yield RuleText(file, "".join(parts), tuple(starts), first)


def _read(path):
    try:
        opener = gzip.open if str(path).endswith(".gz") else open
        with opener(path, "rb") as stream:
            return stream.read().decode("utf-8", "surrogateescape")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unreadable(path, f"cannot be read ({reason}); check the name and the permissions") from None


def _unreadable(path, message):
    return RuleError([Problem(Place(str(path), 1, 1), message, "file")])
