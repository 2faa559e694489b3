"""What the ``blocks`` verbs do: on the live table of a running instance, on the saved table of a stopped one.

The live table is the file ``blocks`` in the run directory: what is changed there holds from the next packet on. The saved
table is ``blocks.saved`` in the state directory; ``tigerfox start`` loads it.
"""

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import sys
import time
from pathlib import Path

from tigerfox.control.instance import Instance
from tigerfox.dataplane.blockbulk import copy_blocks, read_blocks
from tigerfox.dataplane.blocks import DEFAULT_CAPACITY, NEVER, SCOPES, Blocks
from tigerfox.errors import TigerFoxError, UsageError, from_errno

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
COLUMNS = ("scope", "who", "expires in", "sid", "hits")
SLICE = 4 << 20                  # bytes of an import between two reports of progress
MEND_STATE = "Use sudo, or give a --state-dir of your own."


# Durations and words

def parse_duration(text):
    """Return the seconds of "90", "10m", "1h30m" or "7d"; None for "never". Raises UsageError."""
    if text == "never":
        return None
    if re.fullmatch(r"\d+", text):
        text += "s"
    if not re.fullmatch(r"(\d+[smhdw])+", text):
        raise UsageError(f"{text!r} is not a duration; write 90s, 10m, 1h30m, 7d or never.")
    seconds = sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([smhdw])", text))
    if not 0 < seconds < 1 << 31:
        raise UsageError(f"{text!r} is not a usable duration; write 1s to 24000d, or never.")
    return seconds


def expiry(duration, now=None):
    """Return the Unix second at which a block for ``duration`` ends, NEVER for "never"."""
    seconds = parse_duration(duration)
    return NEVER if seconds is None else min(int(time.time() if now is None else now) + seconds, NEVER - 1)


def duration_text(seconds):
    """Return seconds as the two largest units: 3700 is "1h1m"."""
    parts = []
    for unit, size in reversed(UNITS.items()):
        count, seconds = divmod(seconds, size)
        if count and len(parts) < 2:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_who(words):
    """Return the keywords of Blocks.insert for the words of one entry, as on a line of an import file. Raises UsageError."""
    scope, rest = (words[0], words[1:]) if words and words[0] in SCOPES else ("source", words)
    wanted = {"source": 1, "destination": 1, "pair": 2, "connection": 5}[scope]
    if len(rest) != wanted:
        raise UsageError(f"{' '.join(words) or 'nothing'}: write [source] ADDRESS, destination ADDRESS, pair ADDRESS ADDRESS, or "
                         "connection PROTOCOL ADDRESS PORT ADDRESS PORT.")
    if scope == "connection":
        return _connection(*rest)
    ends = [_address(text) for text in rest]
    return {"scope": scope, "src": ends[0], "dst": ends[-1] if scope != "source" else ""}


def _connection(protocol, src, sport, dst, dport):
    number = PROTOCOLS.get(protocol) or (int(protocol) if protocol.isdecimal() else 256)
    if number > 255:
        raise UsageError(f"{protocol!r} is not a protocol; write tcp, udp, sctp or a number up to 255.")
    for port in (sport, dport):
        if not port.isdecimal() or int(port) > 65535:
            raise UsageError(f"{port!r} is not a port; write a number from 0 to 65535.")
    return {"scope": "connection", "src": _address(src), "dst": _address(dst), "sport": int(sport), "dport": int(dport),
            "proto": number}


def _address(text):
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        mend = "the block table holds single addresses; put prefixes into a rule's address list (@FILE)" if "/" in text else \
            "write an address such as 192.0.2.7 or 2001:db8::7"
        raise UsageError(f"{text!r} is not an IP address; {mend}.") from None


# Tables in files

def save_table(blocks, path):
    """Put the live entries of a table into the file ``path``, replaced in one step; without entries there is no file after."""
    path = Path(path)
    new = Path(f"{path}.new")
    new.unlink(missing_ok=True)
    if not any(True for _ in blocks.entries()):
        path.unlink(missing_ok=True)
        return
    copy_blocks(blocks, Blocks.create(str(new), max(len(blocks) * 5 // 4, 1024)))
    descriptor = os.open(new, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    os.replace(new, path)


def load_table(path, into):
    """Insert what the file ``path`` saved into a table; returns (entries loaded, entries without room).

    Raises SharedMemoryError when the file is not a block table, OSError when it cannot be read.
    """
    return copy_blocks(Blocks.open(str(path)), into)


@contextlib.contextmanager
def table(run_dir=None, state_dir=None, change=False):
    """The block table of an instance: the live one while it runs, else the saved one, saved again after a change."""
    instance = Instance(run_dir or os.environ.get("TIGERFOX_RUN_DIR"), state_dir or os.environ.get("TIGERFOX_STATE_DIR"))
    if instance.running():
        yield Blocks.open(str(instance.blocks), change)
        return
    with _locked(instance, change):
        blocks = _load_saved(instance.saved_blocks)
        yield blocks
        if change:
            save_table(blocks, instance.saved_blocks)


@contextlib.contextmanager
def _locked(instance, change):
    """Let one command at a time change the saved table."""
    if not change:
        yield
        return
    try:
        instance.make_state_dir()
        lock = os.open(instance.state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_errno(error.errno, str(instance.state_dir), MEND_STATE) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _load_saved(path):
    if not _exists(path):
        return Blocks.create(None, DEFAULT_CAPACITY)
    saved = Blocks.open(str(path))
    blocks = Blocks.create(None, max(DEFAULT_CAPACITY, 2 * saved.capacity))
    copy_blocks(saved, blocks)
    return blocks


def _exists(path):
    try:
        return path.is_file()
    except PermissionError as error:
        raise from_errno(error.errno, str(path), MEND_STATE) from error


# The verbs

def add(words, duration, sid=0, **where):
    """Block what ``words`` say for ``duration``. Returns one line of text."""
    who = parse_who(words)
    with table(change=True, **where) as blocks:
        done = blocks.insert(**who, expires=expiry(duration), sid=sid)
    if not done:
        raise TigerFoxError("the block table has no room: all entries near this one are there for ever. "
                            "Remove some (tigerfox blocks remove), or set [blocks] capacity higher.")
    return f"{'blocked' if done == 1 else 'was blocked, holds at least that long'}: {who_text(who)}, {duration}"


def remove(words, **where):
    """Take one entry out. Returns one line of text; raises TigerFoxError when it is not there."""
    who = parse_who(words)
    with table(change=True, **where) as blocks:
        if not blocks.remove(**who):
            raise TigerFoxError(f"{who_text(who)} is not blocked. `tigerfox blocks list` shows what is.")
    return f"removed: {who_text(who)}"


def flush(**where):
    """Take every entry out. Returns one line of text."""
    with table(change=True, **where) as blocks:
        return f"removed: {blocks.flush()} entries"


def export(path, **where):
    """Write every entry as a line of text into the file ``path``, "-" for standard output. Returns how many."""
    count = 0
    with table(**where) as blocks, _writer(path) as stream, _progress("exported", len(blocks)) as progress:
        for record in blocks.entries():
            stream.write(record_line(record))
            count += 1
            progress(count)
    return count


@contextlib.contextmanager
def _writer(path):
    if path == "-":
        yield sys.stdout
        return
    try:
        stream = open(path, "w", encoding="utf-8")
    except OSError as error:
        raise from_errno(error.errno, str(path), "Choose another file.") from error
    with stream:
        yield stream


def record_line(record):
    """Return an entry as a line that an import reads."""
    words = [record.scope, record.src, record.dst]
    if record.scope == "connection":
        words = [record.scope, PROTOCOL_NAMES.get(record.proto, str(record.proto)), record.src, str(record.sport), record.dst,
                 str(record.dport)]
    expires = "never" if record.expires == NEVER else record.expires
    who = " ".join(word for word in words if word)
    return f"{who} expires={expires} sid={record.sid} since={record.since} hits={record.hits}\n"


def import_(paths, duration="never", sid=0, lenient=False, **where):
    """Insert the entries of text files, "-" for standard input; all of them or, when a line is bad, none.

    ``lenient`` leaves bad lines out instead. Returns the sums by name, ``problems`` with them; raises TigerFoxError.
    """
    texts = [(str(path), _read(path)) for path in paths]
    problems = [problem for name, text in texts for problem in _check(name, text)]
    if problems and not lenient:
        raise TigerFoxError("\n".join([*problems, "nothing was imported. Mend the lines, or leave them out with --lenient."]))
    sums = dict.fromkeys(("lines", "entries", "inserted", "prolonged", "refused", "expired", "bad"), 0)
    with table(change=True, **where) as blocks, _progress("imported", sum(len(text) for _, text in texts)) as progress:
        for _, text in texts:
            _import_text(blocks, text, expiry(duration), sid, sums, progress)
    return sums | {"problems": problems}


def _read(path):
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TigerFoxError(f"{path}: {error.strerror}. Name a file that can be read, or - for standard input.") from error


def _check(name, text):
    """Return what is wrong with a text, as file:line: what, and what to write."""
    result = read_blocks(text)
    problems = [f"{name}:{line}: {what}" for line, what in result.errors]
    if result.bad > len(problems):
        problems.append(f"{name}: {result.bad - len(problems)} more lines are bad")
    return problems


def _import_text(blocks, text, expires, sid, sums, progress):
    """Import one text in slices that end with a line."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", min(start + SLICE, len(text))) + 1 or len(text)
        result = read_blocks(text[start:end], blocks, expires, sid)
        for name in sums:
            sums[name] += getattr(result, name)
        progress(end)
        start = end


@contextlib.contextmanager
def _progress(what, total):
    """Yield a function that shows how far long work is, on a terminal only."""
    if not sys.stderr.isatty() or total < 50_000:
        yield lambda done: None
        return
    shown = [0.0]

    def show(done):
        if time.monotonic() - shown[0] > 0.1:
            shown[0] = time.monotonic()
            sys.stderr.write(f"\r{what} {100 * done // total:3d} %")
            sys.stderr.flush()

    yield show
    sys.stderr.write("\r\033[K")


def render_import(result, as_json=False):
    """Return what an import did, as a line or as JSON; problems of a lenient import before it."""
    if as_json:
        return json.dumps(result)
    told = [f"left out: {problem}" for problem in result["problems"]]
    told.append(f"{result['inserted']} inserted, {result['prolonged']} were there already, {result['expired']} expired, "
                f"{result['refused']} without room, {result['bad']} bad lines")
    return "\n".join(told)


# Showing

def who_text(entry):
    """Return scope and ends as words, from keywords of Blocks.insert."""
    if entry["scope"] == "connection":
        protocol = PROTOCOL_NAMES.get(entry["proto"], entry["proto"])
        return f"connection {protocol} {entry['src']} {entry['sport']} {entry['dst']} {entry['dport']}"
    ends = [entry["src"], entry["dst"]] if entry["scope"] == "pair" else [entry["src"] or entry["dst"]]
    return " ".join([entry["scope"], *ends])


def entries(scope=None, address=None, **where):
    """Return the live entries as BlockRecords, by scope and address; only those of ``scope`` and with ``address`` at either end."""
    if scope and scope not in SCOPES:
        raise UsageError(f"{scope!r} is not a scope; write one of {', '.join(SCOPES)}.")
    wanted = _address(address) if address else None
    with table(**where) as blocks:
        found = [record for record in blocks.entries()
                 if (not scope or record.scope == scope) and (not wanted or wanted in (record.src, record.dst))]
    return sorted(found)


def render(records, as_json=False, now=None):
    """Return entries as a table or as JSON."""
    now = int(time.time() if now is None else now)
    if as_json:
        rows = [record._asdict() | {"expires": None if record.expires == NEVER else record.expires} for record in records]
        return json.dumps(rows)
    rows = [COLUMNS] + [(record.scope, who_text(record._asdict()).split(" ", 1)[1],
                         "never" if record.expires == NEVER else duration_text(max(record.expires - now, 0)),
                         str(record.sid or "-"), str(record.hits)) for record in records]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) if records else "nobody is blocked"
