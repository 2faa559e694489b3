"""``tigerfox start``: from options to a running supervisor, in the foreground or as a daemon."""

import contextlib
import json
import logging
import logging.handlers
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

from tigerfox import config as settings
from tigerfox import errors
from tigerfox.control import inspecting, loading, netfilter, pinning, privileges, rulefiles
from tigerfox.control.instance import Instance
from tigerfox.inspectors import wanted

_STARTED = b"started"


def read_config(path, options):
    """Return the effective Config: defaults, the file ``path`` (or the usual one), ``options``; paths are made
    absolute.
    """
    if path is None and os.path.exists(settings.CONFIG_FILE):
        path = settings.CONFIG_FILE
    config = settings.load(path, options)
    variables = {name: "@" + _absolute(value[1:]) if value.startswith("@") else value
                 for name, value in config.rules.variables.items()}
    paths = {name: _absolute(getattr(config.paths, name)) for name in ("run_dir", "state_dir", "log")}
    return replace(
        config,
        rules=replace(config.rules, files=tuple(map(_absolute, config.rules.files)), variables=variables),
        eve=replace(config.eve, file=_absolute(config.eve.file)),
        paths=replace(config.paths, **paths))


def options(given):
    """Return what the verb's arguments lay over the configuration file, by ``section.key``; None: not given."""
    files = [*(given["rules"] or ()), *(given["more"] or ())]
    return {
        "failure": given["fail"], "queues.numbers": given["queues"], "cpu.pin": given["pin"],
        "rules.files": files or None, "rules.variables": settings.assignments(given["var"]) or None,
        "rules.lenient": given["lenient"], "rules.cache": "none" if given.get("no_cache") else None,
        "netfilter.install": given["iptables"], "netfilter.hook": given["hook"],
        "netfilter.fanout": given.get("fanout"), "netfilter.offload": given.get("offload"),
        "netfilter.bypass": given.get("bypass"),
        "netfilter.allow": given.get("allow") or None,
        "inspectors.run": wanted.assignments(given.get("inspector")) or None,
        "inspectors.first_queue": given.get("inspector_queues"),
        "eve.file": given["eve"], "paths.run_dir": given["run_dir"],
    }


def show(path, options):
    """Return the effective settings as a commented TOML file."""
    return settings.render(read_config(path, options))


def _absolute(name):
    return os.path.abspath(name) if name else ""


def start(path, options, daemon=False):
    """Start an instance and stay with it until it is stopped; with ``daemon`` return when it is ready.

    ``path`` is the configuration file or None, ``options`` is what the command line lays over it. Raises TigerFoxError;
    until the rules are compiled and the settings proved, nothing of the system is touched.
    """
    path = _absolute(path)
    folder = Path.cwd()

    def reread():
        with contextlib.chdir(folder):
            return read_config(path or None, options)

    config = reread()
    instance = Instance(config.paths.run_dir, config.paths.state_dir)
    _prove(config, instance)
    loaded = loading.Compilation(config.rules, config.blocks.seconds, inspectors=config.inspectors.run).wait()
    for line in [*loaded.warnings, *rulefiles.summary(loaded.refused, loaded.left_out)]:
        sys.stderr.write(f"tigerfox: {line}\n")
    if daemon:
        _detach(lambda ready: _supervise(config, instance, loaded, reread, ready, _daemon_log(config.paths.log)))
    else:
        _supervise(config, instance, loaded, reread, lambda: None, _foreground_log())


def _prove(config, instance):
    """Find out what can be found out without touching anything."""
    if not config.rules.files:
        raise errors.UsageError("no rules. Name rule files with --rules, or in [rules] of the configuration file.")
    privileges.require_net_admin()
    privileges.find_user(config.privileges.user)
    numbers = settings.queue_numbers(config.queues.numbers)
    pinning.plan(config.cpu.pin, len(numbers), pinning.usable_cpus())
    inspecting.prove(config)
    if config.netfilter.install:
        netfilter.chain_settings(config)
    pid = instance.running()
    if pid is not None:
        raise errors.InstanceError(f"an instance runs in {instance.run_dir} (pid {pid}). `tigerfox stop` it, "
                                   "or give another --run-dir.")


def _supervise(config, instance, loaded, reread, ready, log):
    from tigerfox.control.supervisor import Supervisor

    clear_remains(instance, log)

    def all_ready():
        ready()
        notify("READY=1")

    Supervisor(config, instance, loaded, log, reread).run(all_ready)


def clear_remains(instance, log):
    """Take down the iptables rules of an instance that died before it could; returns whether there were any."""
    if not instance.settings.exists():
        return False
    instance.check_owner()
    with instance.alone():
        try:
            found = json.loads(instance.settings.read_text(encoding="utf-8"))
            config = settings.from_dict(found["settings"])
        except (OSError, ValueError, KeyError, TypeError, errors.ConfigError):
            return False
        if not found.get("hooked"):
            return False
        log.warning("an instance died in %s; its iptables rules are removed", instance.run_dir)
        netfilter.down(config)
        instance.settings.unlink(missing_ok=True)
    return True


def notify(message):
    """Tell systemd, where it asked for it (sd_notify(3))."""
    name = os.environ.get("NOTIFY_SOCKET")
    if name:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.sendto(message.encode(), "\0" + name[1:] if name.startswith("@") else name)


# The daemon

def _detach(supervise):
    """Run ``supervise(ready)`` in a daemon; return when it is ready, raise what keeps it from it."""
    hear, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.close(hear)
        _be_daemon(supervise, say)
    os.close(say)
    os.waitpid(pid, 0)
    answer = _hear(hear)
    if answer != _STARTED:
        raise _error_of(answer)


def _hear(descriptor):
    """Return what the daemon says, up to its NUL; workers hold the pipe too, so its end may never come."""
    said = b""
    while not said.endswith(b"\0"):
        chunk = os.read(descriptor, 65536)
        if not chunk:
            break
        said += chunk
    os.close(descriptor)
    return said.removesuffix(b"\0")


def _be_daemon(supervise, say):
    code = 1
    told = []

    def tell(message):
        if not told:
            told.append(message)
            os.write(say, message + b"\0")
            os.close(say)

    try:
        os.chdir("/")
        os.umask(0o077)
        with open(os.devnull, "r+b", buffering=0) as null:
            for number in (0, 1, 2):
                os.dup2(null.fileno(), number)
        supervise(lambda: tell(_STARTED))
        code = 0
    except errors.TigerFoxError as error:
        logging.getLogger("tigerfox").error("%s", error)
        tell(json.dumps([type(error).__name__, str(error)]).encode())
        code = error.exit_code
    except BaseException as error:
        logging.getLogger("tigerfox").exception("unexpected")
        text = f"{type(error).__name__}: {error}. Start it without --daemon to see more."
        tell(json.dumps(["TigerFoxError", text]).encode())
    finally:
        logging.shutdown()
        os._exit(code)


def _error_of(answer):
    try:
        name, text = json.loads(answer)
        if name == "RuleError":
            return errors.RuleError(text.splitlines())
        return getattr(errors, name)(text)
    except (ValueError, AttributeError):
        return errors.TigerFoxError("the daemon ended without a word. Start it without --daemon to see why.")


def _foreground_log():
    return _log(logging.StreamHandler(sys.stderr), "tigerfox: %(message)s")


def _daemon_log(file):
    if file:
        handler = logging.handlers.WatchedFileHandler(file)
        os.dup2(handler.stream.fileno(), 2)      # for the last words of processes that we fork
        return _log(handler, "%(asctime)s %(levelname)s %(message)s")
    if os.path.exists("/dev/log"):
        handler = logging.handlers.SysLogHandler("/dev/log", logging.handlers.SysLogHandler.LOG_DAEMON)
        return _log(handler, f"tigerfox[{os.getpid()}]: %(message)s")
    return _log(logging.NullHandler(), "%(message)s")


def _log(handler, form):
    log = logging.getLogger("tigerfox")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler.setFormatter(logging.Formatter(form))
    log.handlers[:] = [handler]
    return log
