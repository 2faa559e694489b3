"""TLS to names on a list that changes while it runs.

The names that clients ask for in their hello (SNI) are looked up in a file of names, one a line: such a name and all below it. The
file is looked at again every ``every`` seconds and read when it has changed; a list is taken whole or not at all. One that cannot
be read, has a line that is no name, or ends without a line break (somebody is still writing) is said in the log, and the old list
holds.

A hello may come in several packets: the first 8 KiB of 1,024 connections are put together, each for 30 s; a longer hello is
dropped. Rules: rules/inspectors/tls-watch.rules. Options: ``file``, ``every``, ``block`` (seconds, of the connection).
"""

import logging
import os
import re
import time
from pathlib import Path

from tigerfox.inspectors.answer import DROP, Answer, block
from tigerfox.inspectors.flowstates import States
from tigerfox.inspectors.names import is_within
from tigerfox.inspectors.packet import TCP, Packet
from tigerfox.inspectors.segments import Segments

HELLO = 8192                         # bytes, records and all; of a browser it has 2,000
CONNECTIONS = 1024
NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_log = logging.getLogger("tigerfox.inspectors")


class NameList:
    """The names of a file. Raises OSError or ValueError when the first reading fails."""

    def __init__(self, path: str, every: float = 1.0) -> None:
        self.path = Path(path)
        self.every = every
        self.names, self._state = read_names(self.path)
        self._looked = time.monotonic()

    def __contains__(self, name: str) -> bool:
        return is_within(name.lower().rstrip("."), self.names)

    def refresh(self) -> None:
        """Read the file again where it has changed; what is wrong with it is said once a change."""
        now = time.monotonic()
        if now - self._looked < self.every:
            return
        self._looked = now
        state = state_of(self.path)
        if state == self._state:
            return
        try:
            self.names, self._state = read_names(self.path)
            _log.info("%s: %d names, read again", self.path, len(self.names))
        except (OSError, ValueError) as error:
            self._state = state
            _log.error("%s: %s; the %d names of before hold. Mend the file, or put a whole one in its place with mv.", self.path,
                       getattr(error, "strerror", None) or error, len(self.names))


def state_of(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None where there is no file to be seen."""
    try:
        seen = os.stat(path)
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def read_names(path: Path) -> tuple[frozenset[str], tuple[int, ...] | None]:
    """Return the names of a file and its state. Raises OSError, or ValueError for a file that is not a whole list."""
    state = state_of(path)
    text = path.read_text(encoding="ascii")
    if state_of(path) != state:
        raise ValueError("it changed while it was read")
    if not text.endswith("\n"):
        raise ValueError("its last line has no end")
    names = set()
    for number, line in enumerate(text.splitlines(), 1):
        name = line.partition("#")[0].strip().lower().removeprefix("*.").strip(".")
        if name and not NAME.fullmatch(name):
            raise ValueError(f"line {number} is no name: {name[:40]!r}")
        names.add(name)
    names.discard("")
    if not names:
        raise ValueError("there is no name in it")
    return frozenset(names), state


class TlsWatch:
    """The inspector."""

    def __init__(self, file: str, every: str = "1", block: str = "600") -> None:
        self.list = NameList(file, float(every))
        self.block = int(block)
        self.connections = States(CONNECTIONS, 30.0, lambda: Segments(HELLO))

    def __call__(self, packet: Packet) -> Answer | None:
        self.list.refresh()
        if packet.proto != TCP or packet.flow.get("told"):
            return None
        segments = self.connections.get(packet.flow_id, packet.time)
        names = hello_names(segments.add(packet))
        if names is None:
            return DROP if segments.full else None
        packet.flow["told"] = bool(names)        # none: what came first may not be the beginning
        return block("connection", self.block) if any(name in self.list for name in names) else None


def hello_names(data: bytes) -> list[str] | None:
    """Return the server names of a client's hello, from its first record on; None while more is to come."""
    message, at = bytearray(), 0
    while not message or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        size = int.from_bytes(data[at + 3:at + 5], "big")
        if data[at:at + 1] not in (b"\x16", b"") or message[:1] not in (b"\x01", b""):
            return []                # no hello
        if len(data) < at + 5 or len(data) < at + 5 + size:
            return None
        if not size:
            return []
        message += data[at + 5:at + 5 + size]
        at += 5 + size
    return _names_in(bytes(message[4:4 + int.from_bytes(message[1:4], "big")])) if message[0] == 1 else []


def _names_in(hello: bytes) -> list[str]:
    """The host names in the extension server_name of a hello's body; what runs over the end is left out."""
    at = 34
    for width in (1, 2, 1):          # session, ciphers, compressions
        at += width + int.from_bytes(hello[at:at + width], "big")
    at += 2
    names = []
    while at + 4 <= len(hello):
        kind, size = int.from_bytes(hello[at:at + 2], "big"), int.from_bytes(hello[at + 2:at + 4], "big")
        if kind == 0:
            names += _host_names(hello[at + 6:at + 4 + size])
        at += 4 + size
    return names


def _host_names(entries: bytes) -> list[str]:
    names, at = [], 0
    while at + 3 <= len(entries):
        size = int.from_bytes(entries[at + 1:at + 3], "big")
        if entries[at] == 0:
            names.append(entries[at + 3:at + 3 + size].decode("latin-1"))
        at += 3 + size
    return names
