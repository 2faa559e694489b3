"""The iptables side of an instance, through scripts/iptables: what is hooked, what the counters say.

The scripts can do everything alone; this module only calls them, so that an operator can repeat by hand what
``tigerfox start --iptables`` did. Their exit codes (0 done, 1 failed, 2 usage, 3 missing) become the errors of errors.py.
"""

import json
import subprocess
from dataclasses import dataclass, replace

from tigerfox import shipped
from tigerfox.config import queue_numbers
from tigerfox.errors import MissingError, TigerFoxError, UsageError

_TIMEOUT = 60                        # seconds; the scripts wait up to 10 for the xtables lock, once a family
_ERRORS = {2: UsageError, 3: MissingError}


@dataclass(frozen=True)
class ChainSettings:
    """What up.sh is asked for; see ``scripts/iptables/up.sh --help`` for the meaning of each.

    ``first`` and ``last`` are queue numbers; ``mark_mask``, ``bypass_mark`` and ``skip_mark`` are texts as up.sh takes
    them, "" for none.
    Every function of this module takes one of these, or a Config.
    """

    first: int = 0
    last: int = 0
    hooks: tuple = ("forward",)
    fanout: str = "balance"
    fail: str = "closed"
    mark_mask: str = ""
    bypass_mark: str = ""
    skip_mark: str = ""
    allow: tuple = ()
    loopback: bool = False
    name: str = "TIGERFOX"
    family: str = "both"
    frontend: str = "auto"
    offload: int = 0


def chain_settings(config):
    """Return the ChainSettings of a Config; a ChainSettings comes back as it is.

    Raises UsageError when the queue numbers have gaps: ``--queue-balance`` takes one range.
    """
    if isinstance(config, ChainSettings):
        return config
    numbers = queue_numbers(config.queues.numbers)
    if numbers != tuple(range(numbers[0], numbers[-1] + 1)):
        raise UsageError(f"--queues {config.queues.numbers}: --iptables needs one range without gaps, such as "
                         f"{numbers[0]}:{numbers[0] + len(numbers) - 1}.")
    part = config.netfilter
    return ChainSettings(numbers[0], numbers[-1], (part.hook,), part.fanout, config.failure.worker_dead, part.mark_mask,
                         part.bypass_mark if part.bypass == "on" else "", part.skip_mark, part.allow, part.loopback, part.chain,
                         part.family, part.frontend, 0 if part.offload == "off" else part.offload_entries)


def scripts_dir():
    """Return the folder with up.sh, down.sh and status.sh: of a checkout, or of an installed package."""
    return shipped.folder("iptables", "up.sh")


def up(settings, dry_run=False):
    """Hook the queues in, or change what is hooked; returns what the script printed (with ``dry_run`` its plan).

    Raises UsageError, MissingError (with the mend) or TigerFoxError when iptables refuses; nothing is hooked then.
    """
    settings = chain_settings(settings)
    arguments = ["--queues", f"{settings.first}:{settings.last}", "--fanout", settings.fanout, "--fail", settings.fail]
    for hook in settings.hooks:
        arguments += ["--hook", hook]
    for address in settings.allow:
        arguments += ["--allow", address]
    if settings.mark_mask:
        arguments += ["--mark-mask", settings.mark_mask]
    if settings.bypass_mark:
        arguments += ["--bypass-mark", settings.bypass_mark]
    if settings.skip_mark:
        arguments += ["--skip-mark", settings.skip_mark]
    if settings.offload:
        arguments += ["--offload", str(settings.offload)]
    if settings.loopback:
        arguments.append("--loopback")
    if dry_run:
        arguments.append("--dry-run")
    return _run("up.sh", settings, arguments)


def up_with_offload(config, log):
    """Hook the queues in, with the sets of the block offload where they are wanted; return whether they are there.

    With ``offload = "auto"`` a system that cannot have them is hooked without, and the log says why. Raises as ``up``.
    """
    settings = chain_settings(config)
    if settings.offload and config.netfilter.offload == "auto":
        try:
            up(settings)
            return True
        except TigerFoxError as error:
            reason = error
        up(replace(settings, offload=0))
        log.warning("blocks are enforced in user space alone: %s", reason)
        return False
    up(settings)
    return settings.offload > 0


def down(settings):
    """Take away what ``up`` added and nothing else; nothing to do is fine. Raises as ``up`` does."""
    return _run("down.sh", settings, [])


def counters(settings):
    """Return what status.sh --json says: hooks and rule counters by family, and the queues of this namespace.

    A chain that is not there shows no rules. Raises MissingError and UsageError.
    """
    return json.loads(_run("status.sh", settings, ["--json"], accepted=(0, 1)))


def packets_offered(settings):
    """Return how many packets the chain sent to its queues since it was hooked in, both families together.

    Offered less seen by the workers are the packets that the kernel accepted (fail-open, --queue-bypass) or dropped
    without asking. A packet sent through the hook again (NF_REPEAT) counts again.
    """
    found = counters(settings)
    return sum(rule["packets"] for family in ("ipv4", "ipv6") for rule in found[family]["rules"] if rule["queues"])


def packets_left(settings):
    """Return what the chain accepted of connections left to the kernel: {"packets": ..., "bytes": ...}."""
    found = counters(settings)
    name = chain_settings(settings).name
    rules = [rule for family in ("ipv4", "ipv6") for rule in found[family]["rules"]
             if rule["chain"] in (name, f"{name}-K") and rule["rule"].endswith("-j ACCEPT")]
    return {what: sum(rule[what] for rule in rules) for what in ("packets", "bytes")}


def _run(script, settings, arguments, accepted=(0,)):
    settings = chain_settings(settings)
    command = ["sh", str(scripts_dir() / script), "--name", settings.name, "--family", settings.family,
               "--frontend", settings.frontend, *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT,
                              check=False)
    except subprocess.TimeoutExpired as error:
        raise TigerFoxError(f"{script} did not end in {_TIMEOUT} s: another program holds the xtables lock. "
                            "Find it with: fuser /run/xtables.lock") from error
    if done.returncode not in accepted:
        raise _ERRORS.get(done.returncode, TigerFoxError)(done.stderr.strip() or f"{script}: exit code {done.returncode}")
    return done.stdout
