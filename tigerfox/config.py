"""Every setting of TigerFox: its default, its bounds and its meaning, in one place.

A TOML file and the command line's options change what stands here; ``render`` writes the effective settings back as a
commented TOML file. Settings are checked when they are read: an unknown key, a wrong type or a value out of range is a
``ConfigError`` that names the file, the key and what to write instead.
"""

import difflib
import json
import math
import os
import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from tigerfox.errors import ConfigError

MAX_QUEUES = 256
MAX_COPY_RANGE = 65531               # linux/netfilter/nfnetlink_queue.h: 0xffff less the attribute header
CONFIG_FILE = "/etc/tigerfox/tigerfox.toml"


# Checks: each takes a value and gives it back, perhaps in another type, or raises ValueError saying what to write.

def integer(low, high):
    """Return a check for whole numbers from ``low`` to ``high``."""
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"write a whole number from {low} to {high}")
        return value
    return check


def number(low, high):
    """Return a check for numbers from ``low`` to ``high``."""
    def check(value):
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"write a number from {low} to {high}")
        return float(value)
    return check


def power_of_two(low, high):
    """Return a check for powers of two from ``low`` to ``high``."""
    def check(value):
        integer(low, high)(value)
        if value & (value - 1):
            raise ValueError(f"write a power of two, {1 << int(math.log2(value))} or {2 << int(math.log2(value))}")
        return value
    return check


def choice(*allowed):
    """Return a check for one of the words ``allowed``."""
    def check(value):
        if value not in allowed:
            near = difflib.get_close_matches(str(value), allowed, 1)
            mend = f"write {' or '.join(map(repr, allowed))}"
            raise ValueError(mend + (f"; did you mean {near[0]!r}?" if near else ""))
        return value
    return check


def flag(value):
    """Check for true or false."""
    if not isinstance(value, bool):
        raise ValueError("write true or false")
    return value


def text(value):
    """Check for a string without line breaks."""
    if not isinstance(value, str) or "\n" in value or "\0" in value:
        raise ValueError("write one line of text in quotes")
    return value


def paths(value):
    """Check for a list of file names; a single one may stand without brackets."""
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
        raise ValueError('write a list of file names, as ["one.rules", "two.rules"]')
    return tuple(value)


def words(value):
    """Check for a list of texts without blanks; a single one may stand without brackets."""
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one.split() == [one] for one in value):
        raise ValueError('write a list of texts, as ["192.0.2.7:22"]')
    return tuple(value)


def variables(value):
    """Check for a table of rule variables, NAME = "VALUE"."""
    if not isinstance(value, dict) or not all(isinstance(item, str) and item for item in value.values()):
        raise ValueError('write a table of texts, as HOME_NET = "[10.0.0.0/8]"')
    return dict(value)


def mark(value):
    """Check for a packet mark VALUE/MASK, or nothing."""
    if value and mark_value(value) is None:
        raise ValueError('write a mark as "0x100000/0x100000", or ""')
    return str(value)


def mark_value(value):
    """Return the number before the slash of VALUE/MASK; None where it is not that, 0 for the empty text."""
    if value == "":
        return 0
    found = re.fullmatch(r"(0x[0-9a-fA-F]{1,8}|[0-9]{1,10})/(0x[0-9a-fA-F]{1,8}|[0-9]{1,10})", str(value))
    return int(found[1], 0) if found and int(found[1], 0) < 1 << 32 else None


def two_bits(value):
    """Check for a mask of two bits."""
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,8}", str(value)) or int(value, 16).bit_count() != 2:
        raise ValueError('write a mask of two bits as "0x3000000"')
    return str(value)


def copy_range(value):
    """Check for "auto" or a number of bytes."""
    return value if value == "auto" else integer(64, MAX_COPY_RANGE)(value)


def queue_text(value):
    """Check for queue numbers, as ``queue_numbers`` reads them."""
    queue_numbers(value)
    return str(value)


def first_queue(value):
    """Check for a queue number, also written as "100:"."""
    text = str(value).removesuffix(":")
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError('write a queue number up to 65535, as "100:"')
    return int(text)


def cpu_text(value):
    """Check for "auto", "none" or a CPU list."""
    if value not in ("auto", "none"):
        cpu_list(value)
    return str(value)


def queue_numbers(value):
    """Return the queue numbers of ``"0:7"``, ``"3"``, ``"0:3,8"`` or ``"auto"`` (one for each usable CPU), in order.

    Raises ValueError: not a list of ranges, a number over 65535, one twice, or more than 256 of them.
    """
    if value == "auto":
        return tuple(range(min(len(os.sched_getaffinity(0)), MAX_QUEUES)))
    return _ranges(value, ":", 65535, MAX_QUEUES, 'write "auto", a queue as "3", or a range as "0:7"')


def cpu_list(value):
    """Return the CPU numbers of ``"2-5,7"``, in order; raises ValueError."""
    return _ranges(value, "-", 4095, 4096, 'write "auto", "none", or CPUs as "2-5,7"')


def _ranges(value, mark, highest, most, mend):
    numbers = []
    for part in str(value).split(","):
        first, found, last = part.strip().partition(mark)
        if not first.isdecimal() or (found and not last.isdecimal()):
            raise ValueError(mend)
        low, high = int(first), int(last) if found else int(first)
        if low > high or high > highest or high - low >= most:
            raise ValueError(f"{mend}; up to {highest}, at most {most} in all")
        numbers += range(low, high + 1)
    if len(set(numbers)) != len(numbers) or len(numbers) > most:
        raise ValueError(f"{mend}; no number twice, at most {most} in all")
    return tuple(numbers)


def setting(default, check, meaning):
    """Return a dataclass field with its check and its explanation."""
    metadata = {"check": check, "meaning": meaning}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Queues:
    """The NFQUEUE numbers, one worker each."""

    numbers: str = setting("auto", queue_text, 'queue numbers as "0:7" or "0:3,8"; "auto": one for each usable CPU')
    length: int = setting(8192, integer(64, 1 << 20), "packets that may wait in one kernel queue")
    copy_range: object = setting("auto", copy_range, 'bytes copied of each packet; "auto": what rules need')
    gso: bool = setting(True, flag, "take segmentation-offload packets whole")
    receive_buffer: int = setting(0, integer(0, 1 << 30), "bytes of a queue's socket buffer; 0: by its length")


@dataclass(frozen=True)
class Cpu:
    """Which CPU runs what."""

    pin: str = setting("auto", cpu_text, '"auto": one CPU for each worker, "none", or CPUs as "2-5,7"')


POLICY = choice("open", "closed")


@dataclass(frozen=True)
class Failure:
    """What happens to packets that cannot be judged: open lets them pass, closed drops them."""

    queue_full: str = setting("closed", POLICY, "the kernel queue is full")
    worker_dead: str = setting("closed", POLICY, "nobody listens on a queue that our iptables rules feed")
    worker_stuck: str = setting("closed", POLICY, "what a stuck worker had taken: closed judges it again")
    malformed: str = setting("open", POLICY, "the end host discards such a packet as well")
    unparsed: str = setting("closed", POLICY, "an end host might accept it, its headers cannot be judged")
    no_verdict: str = setting("closed", POLICY, "a stage left the packet without a verdict")


@dataclass(frozen=True)
class Rules:
    """Where the rules come from."""

    files: tuple = setting((), paths, "rule files or folders of *.rules; relative to this file")
    lenient: bool = setting(False, flag, "leave out rules that are refused, instead of refusing all")
    cache: str = setting("auto", text, 'where compiled rules are kept: a folder, "auto" (/var/cache/tigerfox) or "none"')
    variables: dict = setting({}, variables, 'rule variables, HOME_NET = "[10.0.0.0/8]"; "@FILE" reads a list')


@dataclass(frozen=True)
class Blocks:
    """The shared table of blocked connections and addresses."""

    capacity: int = setting(1_000_000, integer(1024, 1 << 26), "entries")
    seconds: int = setting(600, integer(1, 10 * 365 * 86400), "how long a drop blocks when its rule does not say")
    persist: bool = setting(True, flag, "save the table at stop and load it at start")


@dataclass(frozen=True)
class Rates:
    """Counters of threshold and detection_filter."""

    capacity: int = setting(262_144, integer(1024, 1 << 24), "entries")


@dataclass(frozen=True)
class Flows:
    """Connections that rules on content look into; every queue has its own."""

    capacity: int = setting(262_144, integer(1024, 1 << 24), "flows of a queue, about 350 bytes each")
    sessions: int = setting(8_192, integer(16, 1 << 20), "TCP connections of a queue whose stream is followed at a time")
    depth: int = setting(1 << 20, integer(0, 1 << 31), "bytes of each direction that are inspected; 0: all")
    midstream: bool = setting(False, flag, "follow TCP connections whose beginning was not seen")


@dataclass(frozen=True)
class Inspectors:
    """Python inspectors, to which rules hand packets over with `inspect: NAME;`."""

    first_queue: int = setting(100, first_queue, 'number of their first queue, or as "100:"; one queue for each process')
    length: int = setting(1024, integer(1, 1 << 20), "packets that may wait for one process; beyond it the policy answers")
    policy: str = setting("open", POLICY, "for a full queue, a dead or raising inspector, where its entry does not say")
    run: dict = setting({}, variables, 'NAME = "package.module:function[,open|closed][,processes=2][,OPTION=VALUE]"')


@dataclass(frozen=True)
class Eve:
    """Alerts and drops as JSON lines."""

    file: str = setting("", text, "where the events go; empty: nowhere")
    ring_slots: int = setting(16384, power_of_two(64, 1 << 22), "events that may wait for each worker")
    flush_seconds: float = setting(0.2, number(0.01, 60), "the longest that a line waits")


@dataclass(frozen=True)
class Netfilter:
    """The iptables chain that feeds the queues."""

    install: bool = setting(False, flag, "add the chain at start, remove it at stop")
    hook: str = setting("forward", choice("forward", "input", "output"), "which traffic is judged")
    fanout: str = setting("balance", choice("balance", "flow", "cpu"), "how packets are dealt to the queues")
    mark_mask: str = setting("", text, 'fanout "flow": bits of the connection mark, "": 0x00ff0000; "none": a hash of ports')
    bypass: str = setting("on", choice("on", "off"), "leave to the kernel what no rule can match any more")
    bypass_mark: str = setting("0x3000000", two_bits, "two bits, of the connection mark and of the packet mark")
    skip_mark: str = setting("0x100000/0x100000", mark, 'mark of our replies, which are not queued')
    allow: tuple = setting((), words, 'TCP from and to these is never queued: "192.0.2.7:22", "[2001:db8::/32]:22"')
    loopback: bool = setting(False, flag, "hooks input and output: judge the interface lo as well")
    chain: str = setting("TIGERFOX", text, "name of the chain, one for each instance")
    family: str = setting("both", choice("both", "4", "6"), "IPv4, IPv6 or both")
    frontend: str = setting("auto", choice("auto", "nft", "legacy"), "which iptables is used")
    offload: str = setting("auto", choice("auto", "on", "off"), 'drop what is blocked in the kernel; "auto": where it can be')
    offload_entries: int = setting(262_144, integer(16, 1 << 24), "entries of a scope and family that go into the kernel")


@dataclass(frozen=True)
class Watchdog:
    """When a worker is replaced."""

    stuck_seconds: float = setting(5.0, number(0.2, 3600), "packets wait, the worker stands still: it is killed")
    backoff_seconds: float = setting(10.0, number(0.1, 3600), "the longest pause before a dying worker is forked again")
    compile_seconds: float = setting(300.0, number(1, 86400), "a rule set that is not compiled by then is given up")


@dataclass(frozen=True)
class Privileges:
    """What workers may do: they keep CAP_NET_ADMIN alone."""

    user: str = setting("nobody", text, "whom workers run as; empty: the caller")


@dataclass(frozen=True)
class Paths:
    """Where the instance keeps its files."""

    run_dir: str = setting("/run/tigerfox", text, "sockets and shared memory, gone after stop")
    state_dir: str = setting("/var/lib/tigerfox", text, "what outlives a stop: the block table")
    log: str = setting("", text, 'messages of a daemon: a file, or "" for syslog')


@dataclass(frozen=True)
class Config:
    """All settings of one instance."""

    queues: Queues = field(default_factory=Queues)
    cpu: Cpu = field(default_factory=Cpu)
    failure: Failure = field(default_factory=Failure)
    rules: Rules = field(default_factory=Rules)
    blocks: Blocks = field(default_factory=Blocks)
    rates: Rates = field(default_factory=Rates)
    flows: Flows = field(default_factory=Flows)
    inspectors: Inspectors = field(default_factory=Inspectors)
    eve: Eve = field(default_factory=Eve)
    netfilter: Netfilter = field(default_factory=Netfilter)
    watchdog: Watchdog = field(default_factory=Watchdog)
    privileges: Privileges = field(default_factory=Privileges)
    paths: Paths = field(default_factory=Paths)


# Reading

def load(path=None, options=()):
    """Return the Config of a TOML file (``None``: the defaults) with ``options`` laid over it.

    ``options`` is a mapping of ``"section.key"`` to values; None values are left out. ``"failure"`` sets every key of
    that section. Raises ConfigError.
    """
    config = Config() if path is None else _from_table(_parse(path), str(path))
    for name, value in dict(options).items():
        if value is not None:
            config = _override(config, name, value)
    return config


def _parse(path):
    try:
        with open(path, "rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}. Name a file that can be read with --config.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}. `tigerfox start --show-config` prints a file to begin with.") from error


def _from_table(table, source):
    config = Config()
    for section, values in table.items():
        _known(section, [item.name for item in fields(Config)], source, "section")
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: {section}: it is a section. Write [{section}] and its keys below.")
        config = _with_section(config, section, values, source)
    return _relative(config, source)


def _with_section(config, section, values, source):
    part = getattr(config, section)
    checked = {}
    for key, value in values.items():
        _known(key, [item.name for item in fields(part)], f"{source}: [{section}]", "key")
        checked[key] = _check(part, key, value, f"{source}: [{section}] {key}")
    return replace(config, **{section: replace(part, **checked)})


def _known(name, names, where, what):
    if name in names:
        return
    near = difflib.get_close_matches(name, names, 1)
    mend = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names)}."
    raise ConfigError(f"{where}: unknown {what} {name!r}. {mend}")


def _check(part, key, value, where):
    check = next(item.metadata["check"] for item in fields(part) if item.name == key)
    try:
        return check(value)
    except ValueError as error:
        mend = str(error)
        raise ConfigError(f"{where}: {value!r} will not do: {mend}.") from error


def _relative(config, source):
    """Take file names in the file from where the file is."""
    folder = Path(source).resolve().parent
    files = tuple(str(folder / name) for name in config.rules.files)
    lists = {name: f"@{folder / value[1:]}" if value.startswith("@") else value
             for name, value in config.rules.variables.items()}
    return replace(config, rules=replace(config.rules, files=files, variables=lists))


def _override(config, name, value):
    section, _, key = name.partition(".")
    if not key:
        values = {item.name: value for item in fields(getattr(config, section))}
        return _with_section(config, section, values, "command line")
    if name in ("rules.variables", "inspectors.run"):
        value = {**getattr(getattr(config, section), key), **value}
    return _with_section(config, section, {key: value}, "command line")


def assignments(items):
    """Return the mapping of ``["NAME=VALUE", …]``; raises ConfigError."""
    found = {}
    for item in items or ():
        name, mark, value = item.partition("=")
        name = name.strip().removeprefix("$")
        if not mark or not name or not value.strip():
            raise ConfigError(f"--var {item}: write NAME=VALUE, as --var 'HOME_NET=[10.0.0.0/8]'.")
        found[name] = value.strip()
    return found


# Writing

def as_dict(config):
    """Return the settings as nested dictionaries, for JSON."""
    return {part.name: {item.name: getattr(getattr(config, part.name), item.name)
                        for item in fields(getattr(config, part.name))} for part in fields(config)}


def from_dict(table):
    """Return the Config that ``as_dict`` had made; raises ConfigError."""
    config = Config()
    for section, values in table.items():
        config = _with_section(config, section, values, "settings")
    return config


def render(config):
    """Return the settings as a commented TOML file."""
    lines = ["# Settings of TigerFox. What stands here is in force; every line may be left out."]
    for part in fields(config):
        section = getattr(config, part.name)
        lines += ["", f"# {type(section).__doc__}", f"[{part.name}]"]
        tables = [item for item in fields(section) if isinstance(getattr(section, item.name), dict)]
        for item in fields(section):
            if item not in tables:
                lines += [f"# {item.metadata['meaning']}", f"{item.name} = {_toml(getattr(section, item.name))}"]
        for item in tables:
            lines += ["", f"# {item.metadata['meaning']}", f"[{part.name}.{item.name}]"]
            table = getattr(section, item.name)
            lines += [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in table.items()]
    return "\n".join(lines) + "\n"


def _toml(value):
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
