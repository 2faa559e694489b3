"""``tigerfox doctor``: what stands in the way of TigerFox on this machine, and the command that mends it.

Nothing is changed: kernel features are tried in a throw-away namespace (probe.py), a running instance is only read.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from tigerfox.config import Blocks
from tigerfox.control import probe, privileges
from tigerfox.control.instance import Instance
from tigerfox.errors import TigerFoxError

OK, WARN, FAIL = "ok", "warn", "fail"
SKEW_LIMIT = 1.3                     # busiest queue ÷ mean of the queues
SKEW_PACKETS = 1000                  # fewer say nothing about the skew
BYTES_PER_BLOCK = 128                # of shared memory, a generous estimate with all tables
_SKEWS = {                           # how packets are dealt to the queues -> why that is uneven, and what mends it
    "balance": ("--queue-balance deals by addresses only, so one client to one server stays on one queue",
                "Deal by connection, in turn: tigerfox start --fanout flow"),
    "cpu": ("packets stay with the CPU that took them in", "Spread the interface's interrupts (ethtool -L, -X), or deal by "
            "connection: tigerfox start --fanout flow"),
    "hash": ("a hash of addresses and ports is uneven where connections are few",
             'Deal in turn: [netfilter] mark_mask = "0x00ff0000", or other bits of the connection mark that are free'),
    "flow": ("as many connections on each, but some carry far more than others", "More queues part them further; a single "
             "connection stays on one queue"),
}
_SYMBOLS = {OK: "ok  ", WARN: "warn", FAIL: "FAIL"}


@dataclass(frozen=True)
class Finding:
    """One line of the report: ``state`` is ok, warn or fail; ``essential``: when it fails, nothing runs at all."""

    group: str
    name: str
    state: str
    detail: str
    mend: str = ""
    essential: bool = False


def examine(run_dir=None):
    """Return all findings about this machine, and about the instance in ``run_dir`` when one runs there."""
    return [*_privileges(), *_kernel(), *_tools(), *_limits(run_dir), *_processors(), *_running(run_dir)]


def exit_code(findings):
    """Return 0, 1 when something fails, or 3 when TigerFox cannot run here at all."""
    failed = [item for item in findings if item.state == FAIL]
    if any(item.essential for item in failed):
        return 3
    return 1 if failed else 0


def render(findings, as_json=False):
    """Return the report as text, or as JSON: a list of objects with the fields of Finding."""
    if as_json:
        return json.dumps([asdict(item) for item in findings], indent=2)
    lines, group = [], None
    width = max(len(item.name) for item in findings)
    for item in findings:
        if item.group != group:
            group = item.group
            lines.append(f"{group}:")
        lines.append(f"  {_SYMBOLS[item.state]}  {item.name:{width}}  {item.detail}")
        if item.mend and item.state != OK:
            lines.append(f"        → {item.mend}")
    counts = [sum(item.state == state for item in findings) for state in (OK, WARN, FAIL)]
    lines.append("{} ok, {} to look at, {} in the way.".format(*counts))
    return "\n".join(lines)


# The groups

def _privileges():
    wanted = (("CAP_NET_ADMIN", privileges.CAP_NET_ADMIN, FAIL, "queues cannot be bound", True),
              ("CAP_NET_RAW", privileges.CAP_NET_RAW, WARN, "`reject` rules drop without an answer", False))
    for name, number, state, without, essential in wanted:
        if privileges.has_capability(number):
            yield Finding("Privileges", name, OK, "held")
        else:
            yield Finding("Privileges", name, state, f"missing: {without}",
                          f"Run with sudo, or in a unit with AmbientCapabilities={name}.", essential)


def _kernel():
    results = probe.probe()
    for feature in probe.FEATURES:
        problem = results[feature.name]
        if not problem:
            yield Finding("Kernel", feature.name, OK, "works")
        elif problem.startswith(probe.UNTRIED):
            yield Finding("Kernel", feature.name, WARN, problem, "Try it with root: sudo tigerfox doctor")
        else:
            state = FAIL if feature.needed else WARN
            yield Finding("Kernel", feature.name, state, f"{problem} (Linux has it since {feature.min_kernel})",
                          feature.mend, feature.needed)


def _tools():
    for name, package, use in (("iptables", "iptables", "--iptables and scripts/iptables"),
                               ("ip6tables", "iptables", "--iptables and scripts/iptables"),
                               ("ip", "iproute2", "tigerfox demo")):
        path = shutil.which(name)
        if path:
            yield Finding("Tools", name, OK, path)
        else:
            yield Finding("Tools", name, WARN, f"not installed; needed for {use}", f"apt-get install {package}")


def _limits(run_dir):
    yield _receive_buffer()
    folder = _existing(Instance(run_dir).run_dir)
    if os.access(folder, os.W_OK | os.X_OK):
        yield Finding("Limits", "run directory", OK, f"{folder} can be written")
    else:
        yield Finding("Limits", "run directory", FAIL, f"{folder} cannot be written",
                      "Use sudo, or give a directory of your own with --run-dir.")
    status = os.statvfs(folder)
    free, needed = status.f_bavail * status.f_frsize, Blocks().capacity * BYTES_PER_BLOCK
    state = OK if free >= needed else FAIL
    yield Finding("Limits", "shared memory", state,
                  f"{free >> 20} MiB free in {folder}, the default tables take up to {needed >> 20}",
                  f"Enlarge it: mount -o remount,size={(needed >> 20) * 2}M {folder}; or set [blocks] capacity lower.")


def _existing(folder):
    while not folder.exists():
        folder = folder.parent
    return folder


def _receive_buffer():
    largest = int(_read("/proc/sys/net/core/rmem_max") or 0)
    if privileges.has_capability(privileges.CAP_NET_ADMIN):
        return Finding("Limits", "receive buffer", OK, f"net.core.rmem_max is {largest}; CAP_NET_ADMIN goes beyond it")
    state = OK if largest >= probe.BUFFER_TRIED else WARN
    return Finding("Limits", "receive buffer", state, f"net.core.rmem_max is {largest}", "sysctl -w net.core.rmem_max=67108864")


def _processors():
    usable = sorted(os.sched_getaffinity(0))
    yield Finding("Processors", "usable", OK,
                  f"{len(usable)} of {os.cpu_count()}: --queues 0:{len(usable) - 1} gives each one worker")
    found = {_read(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor") for cpu in usable} - {None}
    if not found:
        yield Finding("Processors", "governor", OK, "no frequency scaling seen from here")
    elif found == {"performance"}:
        yield Finding("Processors", "governor", OK, "performance")
    else:
        yield Finding("Processors", "governor", WARN, f"{', '.join(sorted(found))}: the clock follows the load late",
                      "cpupower frequency-set -g performance")


def _running(run_dir):
    from tigerfox.telemetry.status import status

    instance = Instance(run_dir)
    try:
        pid = instance.running()
        if pid is None:
            yield Finding("Instance", "running", OK, f"none in {instance.run_dir}")
            return
        found = status(run_dir)
    except TigerFoxError as error:
        yield Finding("Instance", "running", WARN, str(error), "sudo tigerfox doctor")
        return
    yield Finding("Instance", "running", OK, f"pid {pid}")
    yield from judge_status(found)


def judge_status(found):
    """Return the findings about the workers, the losses and the skew of the queues in a status (see telemetry/status.py)."""
    packets = [worker["packets"] for worker in found["workers"]]
    return [_workers(found["workers"]), _losses(found["losses"]), _skew(packets, found.get("fanout"))]


def _workers(workers):
    idle = [f"queue {worker['queue']}: {worker['state']}" for worker in workers if worker["state"] != "running"]
    if not idle:
        return Finding("Instance", "workers", OK, f"{len(workers)} running")
    return Finding("Instance", "workers", FAIL, ", ".join(idle),
                   "See its log; if it does not come back: tigerfox stop, tigerfox start")


def _losses(losses):
    lost = {name: count for name, count in losses.items() if count}
    if not lost:
        return Finding("Instance", "losses", OK, "none")
    mend = "[queues] length higher, or more queues" if "queue_dropped" in lost else "[queues] receive_buffer higher, or more queues"
    return Finding("Instance", "losses", WARN, ", ".join(f"{name} {count}" for name, count in lost.items()),
                   f"`tigerfox status` says of which queue. {mend}.")


def _skew(packets, fanout):
    total = sum(packets)
    if len(packets) < 2 or total < SKEW_PACKETS:
        return Finding("Instance", "queue skew", OK, f"{total} packets on {len(packets)} queues: too few to judge")
    skew = max(packets) * len(packets) / total
    if skew <= SKEW_LIMIT:
        return Finding("Instance", "queue skew", OK, f"the busiest queue has {skew:.2f} times the mean")
    why, mend = _SKEWS[fanout or "balance"]
    return Finding("Instance", "queue skew", WARN, f"the busiest queue has {skew:.2f} times the mean: {why}", mend)


def _read(path):
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None
