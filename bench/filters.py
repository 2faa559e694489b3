"""What benches put at the queue between client and server: nothing, references in C, Python callbacks, Suricata, TigerFox.

A Filter stands in line while its ``standing`` block lasts. All of them get the same queue, the same length of it and the same
traffic; each is set up as its own documentation says it is fastest.
"""

import contextlib
import gzip
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.instance import Instance
from bench.topology import run
from tigerfox.errors import MissingError, TigerFoxError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
QUEUE, QUEUE_LENGTH = 0, 16_384
FULL, HEADERS = 65_531, 128          # copy ranges
FEW = ROOT / "rules" / "bench-24-content.rules"
BYPASS = HERE / "bypass.rules"
REQUESTS = HERE / "requests.rules"
VARIABLES = {"HOME_NET": "[10.71.0.0/16]", "EXTERNAL_NET": "any"}     # every rule looks at the traffic in both directions
PATIENCE = 120.0
URGENT = ("chrt", "--rr", "1")       # before a command: real-time priority, so that nobody else's work is measured
SURICATA = """%YAML 1.1
---
vars:
  address-groups: {{HOME_NET: "[10.71.0.0/16]", EXTERNAL_NET: "any", HTTP_SERVERS: "$HOME_NET", SMTP_SERVERS: "$HOME_NET",
    SQL_SERVERS: "$HOME_NET", DNS_SERVERS: "$HOME_NET", TELNET_SERVERS: "$HOME_NET", AIM_SERVERS: "$EXTERNAL_NET",
    DC_SERVERS: "$HOME_NET", DNP3_SERVER: "$HOME_NET", DNP3_CLIENT: "$HOME_NET", MODBUS_CLIENT: "$HOME_NET",
    MODBUS_SERVER: "$HOME_NET", ENIP_CLIENT: "$HOME_NET", ENIP_SERVER: "$HOME_NET"}}
  port-groups: {{HTTP_PORTS: "80", SHELLCODE_PORTS: "!80", ORACLE_PORTS: 1521, SSH_PORTS: 22, DNP3_PORTS: 20000,
    MODBUS_PORTS: 502, FILE_DATA_PORTS: "[$HTTP_PORTS,110,143]", FTP_PORTS: 21, GENEVE_PORTS: 6081, VXLAN_PORTS: 4789,
    TEREDO_PORTS: 3544}}
default-log-dir: {folder}
stats: {{enabled: no}}
logging: {{default-log-level: notice, outputs: [{{console: {{enabled: yes}}}}]}}
outputs: [{{eve-log: {{enabled: yes, filetype: regular, filename: eve.json, types: [alert]}}}}]
max-pending-packets: 4096
nfq: {{mode: accept, batchcount: 20, fail-open: no}}
flow: {{memcap: 256mb, hash-size: 65536, prealloc: 10000}}
stream: {{memcap: 256mb, checksum-validation: no, inline: auto, reassembly: {{memcap: 512mb, depth: 1mb}}}}
app-layer:
  protocols:
    http: {{enabled: yes, libhtp: {{default-config: {{personality: IDS, request-body-limit: 100kb, response-body-limit: 100kb}}}}}}
    tls: {{enabled: yes, detection-ports: {{dp: 443}}}}
    dns: {{tcp: {{enabled: yes, detection-ports: {{dp: 53}}}}, udp: {{enabled: yes, detection-ports: {{dp: 53}}}}}}
detect: {{profile: medium, sgh-mpm-context: auto}}
mpm-algo: auto
spm-algo: auto
"""


@dataclass
class Filter:
    """``serve(lab)`` is a context manager that yields the pid of the process that judges, or None. It gets real-time priority."""

    name: str
    serve: object
    queued: bool = True              # the bench sends what is forwarded to the queue; False: the filter does, or nobody

    @contextlib.contextmanager
    def standing(self, lab):
        """Keep the filter in line while the block lasts; yields the pid of the process that judges."""
        with self.serve(lab) as pid:
            seat(pid)
            if self.queued:
                lab.queue_forwarded(QUEUE)
            try:
                yield pid
            finally:
                lab.unqueue()


def need(*tools):
    """Raise MissingError for the first tool that is not there."""
    packages = {"gcc": "gcc", "wrk": "wrk", "iperf3": "iperf3", "tcpdump": "tcpdump", "chrt": "util-linux"}
    for tool in tools:
        if shutil.which(tool) is None:
            raise MissingError(f"{tool} is not installed. Install it: apt-get install {packages.get(tool, tool)}")


def build(folder, name, *libraries):
    """Compile one of the programs of bench/reference into ``folder``; its path."""
    target = Path(folder, name)
    if not target.exists():
        need("gcc")
        try:
            run("gcc", "-O2", "-Wall", "-o", target, HERE / "reference" / f"{name}.c", *libraries)
        except TigerFoxError as error:
            if libraries:
                mend = "Install what it needs: apt-get install libnetfilter-queue-dev"
                raise MissingError(f"{name}.c does not build. {mend}") from error
            raise
    return target


def seat(pid, cpus=None, urgent=True):
    """Give all threads of a process real-time priority as URGENT does, or the usual one, and keep them on some CPUs."""
    policy = os.SCHED_RR if urgent else os.SCHED_OTHER
    for thread in (int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()) if pid else ():
        os.sched_setaffinity(thread, cpus or os.sched_getaffinity(thread))
        os.sched_setscheduler(thread, policy, os.sched_param(int(urgent)))


@contextlib.contextmanager
def nothing(_lab):
    """No filter at all."""
    yield None


@contextlib.contextmanager
def tracked(lab):
    """What any gateway has: connections are tracked, and a rule lets what is established pass."""
    for tool in ("iptables", "ip6tables"):
        lab.firewall.run(tool, "-A", "FORWARD", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT")
    yield None


@contextlib.contextmanager
def announced(lab, *command, **options):
    """A program that says "ready" once it serves the queue, and that SIGTERM ends."""
    process = lab.firewall.popen(*command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options)
    try:
        if process.stdout.readline().strip() != "ready":
            raise TigerFoxError(f"{Path(str(command[0])).name} could not bind the queue: is the bench run as root?")
        yield process.pid
    finally:
        end(process)


def end(process):
    """SIGTERM, then SIGKILL; wait for a process."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def tigerfox(lab, rules, folder, *options, chain=False):
    """A whole instance as an operator starts it, with one queue; yields its worker's pid."""
    place = Path(folder, f"run{time.monotonic_ns()}")
    place.mkdir()
    settings = f'[queues]\nlength = {QUEUE_LENGTH}\n[cpu]\npin = "none"\n[eve]\nfile = "{place}/eve.json"\n'
    with Instance(lab.firewall, place, settings, "--queues", QUEUE, "--lenient", *variables(), *options, rules=rules,
                  chain=chain) as instance:
        yield instance.worker_pid()


@contextlib.contextmanager
def suricata(lab, rules, folder):
    """Suricata inline: workers, verdicts in batches of 20, one queue."""
    place = Path(folder, "suricata")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    Path(place, "suricata.yaml").write_text(SURICATA.format(folder=place))
    Path(place, "all.rules").write_text("".join(map(rule_text, rules)), errors="surrogateescape")
    log = open(place / "console", "w+")
    process = lab.firewall.popen("suricata", "-c", place / "suricata.yaml", "-S", place / "all.rules", "-q", QUEUE, "-l", place,
                                 "--runmode", "workers", "-k", "none", stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE
        while "engine started" not in (said := Path(log.name).read_text().lower()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TigerFoxError(f"suricata did not start: {said[-300:]}")
            time.sleep(0.1)
        yield process.pid
    finally:
        end(process)
        log.close()


def variables():
    """The variables as options of a verb."""
    return [part for name, value in VARIABLES.items() for part in ("--var", f"{name}={value}")]


def rule_text(path):
    """The text of a rule file, .gz too."""
    opened = gzip.open if str(path).endswith(".gz") else open
    with opened(path, "rt", errors="surrogateescape") as stream:
        return stream.read() + "\n"


def many_rules():
    """The Emerging Threats rules of the corpus beside the project, or None where it is not there."""
    corpus = Path(os.environ.get("TIGERFOX_CORPUS") or ROOT.parent / "shared" / "corpus")
    found = sorted(corpus.glob("rules/etopen2025.core.enabled*.gz"))
    return found[0] if found else None


def _c_program(folder, name, *arguments, libraries=()):
    program = build(folder, name, *libraries)
    return lambda lab: announced(lab, program, QUEUE, *arguments)


def _callback(parser):
    for module in ("netfilterqueue", "scapy" if parser == "scapy" else "dpkt"):
        if importlib.util.find_spec(module) is None:
            raise MissingError(f"Python's {module} is not installed. Install it: pip install '.[bench]'")
    return lambda lab: announced(lab, sys.executable, "-m", "bench.callback", parser, QUEUE)


def _suricata(folder, rules):
    need("suricata")
    return lambda lab: suricata(lab, [_there(rules)], folder)


def _tigerfox(folder, rules, *options, **how):
    return lambda lab: tigerfox(lab, _there(rules), folder, *options, **how)


def _there(rules):
    if rules is None or not Path(rules).exists():
        raise MissingError("there is no corpus with Emerging Threats rules (TIGERFOX_CORPUS, or ../shared/corpus)")
    return rules


MAKERS = {
    "none": lambda folder: nothing,
    "conntrack": lambda folder: tracked,
    "accept": lambda folder: _c_program(folder, "accept_all", FULL, QUEUE_LENGTH, 1),
    "accept-nogso": lambda folder: _c_program(folder, "accept_all", FULL, QUEUE_LENGTH, 0),
    "accept-headers": lambda folder: _c_program(folder, "accept_all", HEADERS, QUEUE_LENGTH, 1),
    "textbook": lambda folder: _c_program(folder, "textbook", FULL, QUEUE_LENGTH, libraries=("-lnetfilter_queue", "-lnfnetlink")),
    "dpkt": lambda folder: _callback("dpkt"),
    "scapy": lambda folder: _callback("scapy"),
    "suricata": lambda folder: _suricata(folder, FEW),
    "suricata-many": lambda folder: _suricata(folder, _there(many_rules())),
    "tigerfox": lambda folder: _tigerfox(folder, FEW),
    "tigerfox-many": lambda folder: _tigerfox(folder, _there(many_rules())),
    "tigerfox-bypass": lambda folder: _tigerfox(folder, BYPASS, "--bypass", "on", chain=True),
    "tigerfox-requests": lambda folder: _tigerfox(folder, REQUESTS, "--bypass", "on", chain=True),
}
WORDS = {
    "none": "no firewall", "conntrack": "connection tracking alone", "accept": "accept all, batched (reference)",
    "accept-nogso": "accept all, batched, without F_GSO",
    "accept-headers": "accept all, batched, 128 bytes copied", "textbook": "accept all, libnetfilter_queue loop",
    "dpkt": "NetfilterQueue + dpkt, header rules", "scapy": "NetfilterQueue + Scapy, header rules",
    "suricata": "Suricata, 24 rules", "suricata-many": "Suricata, Emerging Threats rules",
    "tigerfox": "TigerFox, 24 rules", "tigerfox-many": "TigerFox, Emerging Threats rules",
    "tigerfox-bypass": "TigerFox, bypass: 24 rules on other ports",
    "tigerfox-requests": "TigerFox, bypass of replies: 24 rules on requests",
}


def prepare(names, folder):
    """({name: Filter} of those that can stand here, {name: why not} of the others)."""
    ready, missing = {}, {}
    for name in names:
        if name not in MAKERS:
            raise TigerFoxError(f"no arm {name}; there are {', '.join(MAKERS)}")
        try:
            ready[name] = Filter(name, MAKERS[name](folder), name not in ("none", "conntrack", "tigerfox-bypass", "tigerfox-requests"))
        except MissingError as error:
            missing[name] = str(error)
    return ready, missing


def queue_row(lab, number=QUEUE):
    """The kernel's row of a queue, as a dict; empty when it is not bound."""
    from tigerfox.dataplane.queue import queue_rows

    with lab.firewall.entered():
        return queue_rows().get(number, {})


def cpu_times(pid):
    """(user, system) CPU seconds of a process with all its threads; (0, 0) without one."""
    if pid is None:
        return 0.0, 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick
