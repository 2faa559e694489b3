"""The demo from end to end: build, send without TigerFox, start it, send with it, report, and leave nothing behind."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tigerfox import shipped
from tigerfox.demo import report, scenario
from tigerfox.demo.topology import HOME_NET, PREFIX, Topology, environment
from tigerfox.demo.topology import families as ip_versions
from tigerfox.errors import TigerFoxError

QUEUES = "0:3"
RULE_FILES = ("exposed-services.rules", "scans.rules", "blocklist.rules")
_SECONDS = 60                        # for each command, before the demo gives up


@dataclass(frozen=True)
class Result:
    """What the demo found: the report as text or JSON, and whether everything was as it should be."""

    text: str
    ok: bool


def run(as_json=False):
    """Run the whole demo; returns its Result. Raises PrivilegeError, MissingError or TigerFoxError with the mend.

    Everything is removed again, whatever happens; a SIGTERM is treated as Ctrl-C.
    """
    with _interrupted_once(), _folder() as folder, Topology() as net, Server(net):
        progress("traffic without TigerFox")
        before = send_all(net)
        progress(f"tigerfox start --queues {QUEUES} --iptables --hook forward --rules {' --rules '.join(RULE_FILES)}")
        with Filter(net, folder) as filtering:
            after = send_all(net)
            status = filtering.status()
        progress(None)
    rows = [report.row(step, family, before[key], after[key]) for key, step, family in steps()]
    text = report.render(rows, statistics_of(status), as_json)
    return Result(text, all(item.ok for item in rows) and not any(status["losses"].values()))


def steps():
    """Return (key, step, family) of everything that is sent, in order."""
    return [((number, job["family"]), step, job["family"])
            for number, step in enumerate(scenario.STEPS) for job in step.jobs(number)]


def send_all(net):
    """Send every step, phase by phase; returns {key: answer}."""
    answers = {}
    for phase in sorted({step.phase for step in scenario.STEPS}):
        progress(f"phase {phase} of {max(step.phase for step in scenario.STEPS)}")
        jobs = {(number, job["family"]): job for number, step in enumerate(scenario.STEPS) if step.phase == phase
                for job in step.jobs(number)}
        done = call(net.python("client", "tigerfox.demo.traffic", "send"), json.dumps(list(jobs.values())))
        if done.returncode:
            raise TigerFoxError(f"the demo's client failed: {done.stderr.strip()[-500:]}")
        answers |= zip(jobs, json.loads(done.stdout), strict=True)
    return answers


def call(command, content=""):
    """Run ``command`` with ``content`` on its standard input; raises TigerFoxError when it does not end in time."""
    try:
        return subprocess.run(command, input=content, env=environment(), capture_output=True, text=True, timeout=_SECONDS,
                              check=False)
    except subprocess.TimeoutExpired as error:
        what = " ".join(command[4:8])
        raise TigerFoxError(f"{what} … did not end in {_SECONDS} s. Try again on a less busy machine.") from error


class Server:
    """The HTTP and UDP servers in the server's namespace, while the ``with`` block lasts."""

    def __init__(self, net):
        self.net = net

    def __enter__(self):
        wanted = {"families": ip_versions(), "tcp": scenario.TCP_PORTS, "udp": scenario.UDP_PORTS}
        self.process = self.net.spawn(self.net.python("server", "tigerfox.demo.traffic", "serve"),
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdin.write(json.dumps(wanted) + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "ready\n":
            raise TigerFoxError("the demo's server did not come up; its error stands above.")
        return self

    def __exit__(self, *unused):
        self.process.stdin.close()
        self.process.wait(_SECONDS)


class Filter:
    """TigerFox in the firewall's namespace, with its files in ``folder``, while the ``with`` block lasts."""

    def __init__(self, net, folder):
        self.net = net
        self.run_dir = folder / "run"
        self.log = folder / "log"
        self.config = folder / "demo.toml"
        self.config.write_text(f'[paths]\nstate_dir = "{folder / "state"}"\nlog = "{self.log}"\n[blocks]\npersist = false\n'
                               "capacity = 65536\n", encoding="utf-8")

    def __enter__(self):
        rules = rules_dir()
        options = ["--config", str(self.config), "--run-dir", str(self.run_dir), "--queues", QUEUES, "--daemon",
                   "--iptables", "--hook", "forward", "--var", f"HOME_NET={HOME_NET}",
                   "--var", f"BLOCKLIST=@{rules / 'lists' / 'example.txt'}"]
        for name in RULE_FILES:
            options += ["--rules", str(rules / name)]
        self._tigerfox("start", *options)
        return self

    def __exit__(self, *unused):
        self._tigerfox("stop", "--run-dir", str(self.run_dir))

    def status(self):
        """Return what `tigerfox status --json` says, parsed."""
        return json.loads(self._tigerfox("status", "--json", "--run-dir", str(self.run_dir)))

    def _tigerfox(self, *arguments):
        done = call(self.net.python("firewall", "tigerfox", *arguments))
        if done.returncode:
            log = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
            raise TigerFoxError(f"tigerfox {arguments[0]} ended with {done.returncode}: {(done.stderr + log).strip()[-2000:]}")
        return done.stdout


def rules_dir():
    """Return the folder of the shipped rules: of a checkout, or of an installed package."""
    return shipped.folder("rules", RULE_FILES[0])


def statistics_of(status):
    """Return (name, value) pairs out of a status, losses first."""
    pairs = [(f"lost: {name}", count) for name, count in status["losses"].items()]
    pairs += status["totals"].items()
    pairs += [(f"packets on queue {worker['queue']} (CPU {worker['cpu']})", worker["packets"]) for worker in status["workers"]]
    pairs += [(f"because: {name}", row["packets"]) for name, row in status["reasons"].items()]
    return [*pairs, ("blocks in force", status["blocks"]["used"])]


def progress(text):
    """Say on a terminal what happens now; None clears the line."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r\x1b[K" + ("" if text is None else text[:width]))
        sys.stderr.flush()


@contextlib.contextmanager
def _folder():
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _interrupted_once():
    """Turn SIGINT and SIGTERM into KeyboardInterrupt; a second one does not interrupt the cleaning up."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*unused):
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
