"""What the command line asks of a running instance."""

import json
import os
import select
import signal
import time

from tigerfox import errors
from tigerfox.control.instance import Instance
from tigerfox.control.rulefiles import summary
from tigerfox.control.service import ask

RELOAD_SECONDS = 900.0
STATUS_SECONDS = 3.0


def reload(run_dir=None, timeout=RELOAD_SECONDS):
    """Have the instance compile its rules again and take them up; return its report, a dict.

    Raises RuleError (the old rules stay in force), InstanceError or PrivilegeError.
    """
    instance = Instance(run_dir)
    instance.require()
    report = _checked(ask(str(instance.socket), {"do": "reload"}, timeout))
    if report["behind"]:
        queues = ", ".join(map(str, report["behind"]))
        raise errors.TigerFoxError(f"generation {report['generation']} is in force, but the workers of queues {queues} "
                                   "have not taken it up yet. See `tigerfox status`.")
    return report


def _checked(answer):
    if "error" not in answer:
        return answer
    if answer.get("problems"):
        raise errors.RuleError(answer["problems"])
    kinds = {2: errors.UsageError, 3: errors.MissingError}
    raise kinds.get(answer.get("code"), errors.TigerFoxError)(answer["error"])


def stop(run_dir=None, timeout=10.0):
    """Stop the instance and wait until it is gone, ``timeout`` seconds at most; return what was done, a dict.

    Where no instance lives, what a dead one left is removed. Raises InstanceError.
    """
    instance = Instance(run_dir)
    pid = instance.running()
    if pid is None:
        return _clear(instance)
    try:
        gone = os.pidfd_open(pid)
    except ProcessLookupError:
        return {"stopped": pid}
    try:
        _ask_to_stop(instance, pid)
        _wait_gone(instance, pid, gone, time.monotonic() + timeout, timeout)
    finally:
        os.close(gone)
    return {"stopped": pid}


def _ask_to_stop(instance, pid):
    try:
        ask(str(instance.socket), {"do": "stop"}, STATUS_SECONDS)
    except errors.InstanceError:
        os.kill(pid, signal.SIGTERM)


def _wait_gone(instance, pid, gone, deadline, timeout):
    poll = select.poll()
    poll.register(gone, select.POLLIN)
    if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        raise errors.InstanceError(f"pid {pid} has not stopped within {timeout:g} s. Give it a longer --timeout; if it "
                                   f"hangs: kill -9 {pid}, then `tigerfox stop` removes what it left.")


def _clear(instance):
    import logging

    from tigerfox.control.start import clear_remains

    if not instance.pid_file.exists():
        instance.require()
    hooked = clear_remains(instance, logging.getLogger("tigerfox"))
    instance.claim()
    instance.release()
    return {"stopped": None, "cleared": str(instance.run_dir), "unhooked": hooked}


def render_stop(done, as_json):
    """Return what ``stop`` did, as text or JSON."""
    if as_json:
        return json.dumps(done)
    if done["stopped"]:
        return f"stopped (pid {done['stopped']})"
    return f"no instance ran; what a dead one had left in {done['cleared']} is removed" + (
        ", its iptables rules too" if done["unhooked"] else "")


def render_reload(report, as_json):
    """Return a reload's report, as text or JSON."""
    if as_json:
        return json.dumps(report)
    head = (f"generation {report['generation']}: {report['rules']} rules in force on all workers "
            f"after {report['seconds']:.2f} s")
    return "\n".join([head, *report["warnings"], *summary(report["refused"], report["left_out"])])
