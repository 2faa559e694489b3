"""What this kernel can do, asked of the kernel itself and not of its version number.

Each feature is tried in a throw-away network namespace: a process of its own (``python -m tigerfox.control.probe``)
leaves the caller's namespace, tries everything and ends, and the namespace goes with it. Nothing changes for the
caller. Without root a user namespace is tried as well; what cannot be tried is said to be untried.

Sources: linux/netfilter/nfnetlink_queue.h, nfnetlink.h, netlink(7), iptables-extensions(8), namespaces(7).
"""

import ctypes
import errno
import functools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from typing import Callable

from tigerfox.errors import KernelError

CLONE_NEWUSER = 0x10000000           # linux/sched.h
CLONE_NEWNET = 0x40000000
NETLINK_NETFILTER = 12               # linux/netlink.h
NLM_F_REQUEST = 1
NLM_F_ACK = 4
NLMSG_ERROR = 2
NFNL_SUBSYS_QUEUE = 3                # linux/netfilter/nfnetlink.h
NFQNL_MSG_CONFIG = 2
NFQA_CFG_CMD = 1
NFQA_CFG_PARAMS = 2
NFQA_CFG_MASK = 4
NFQA_CFG_FLAGS = 5
NFQNL_CFG_CMD_BIND = 1
NFQNL_COPY_PACKET = 2
NFQA_CFG_F_FAIL_OPEN = 1
NFQA_CFG_F_GSO = 4
SO_RCVBUFFORCE = 33                  # asm-generic/socket.h
BUFFER_TRIED = 16 << 20              # bytes, more than any default of net.core.rmem_max

_TIMEOUT = 60                        # seconds for all probes
UNTRIED = "not tried"


@dataclass(frozen=True)
class Feature:
    """One thing the kernel must or should have.

    ``min_kernel`` is the first version that has it, ``test`` returns "" or what went wrong, ``mend`` is what to do
    then; without a ``needed`` feature TigerFox cannot run at all.
    """

    name: str
    min_kernel: str
    test: Callable
    mend: str
    needed: bool = False


# Netlink, as little as a probe needs

def attribute(kind, payload):
    """Return a netlink attribute, padded."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def queue_message(kind, number, attributes, flags=NLM_F_REQUEST | NLM_F_ACK):
    """Return an nfnetlink_queue message of the kind NFQNL_MSG_… about queue ``number``."""
    body = struct.pack("!BBH", socket.AF_UNSPEC, 0, number) + attributes
    return struct.pack("=IHHII", 16 + len(body), NFNL_SUBSYS_QUEUE << 8 | kind, flags, 0, 0) + body


def queue_configure(link, number, attributes):
    """Send one configuration message; returns 0 or the kernel's errno."""
    link.send(queue_message(NFQNL_MSG_CONFIG, number, attributes))
    while True:
        answer = link.recv(65536)
        if struct.unpack_from("=H", answer, 4)[0] == NLMSG_ERROR:
            return -struct.unpack_from("=i", answer, 16)[0]


def queue_bind(number):
    """Return a netlink socket that is bound to queue ``number`` and gets whole packets. Raises OSError."""
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    try:
        link.bind((0, 0))
        link.settimeout(5)
        command = attribute(NFQA_CFG_CMD, struct.pack("!BBH", NFQNL_CFG_CMD_BIND, 0, 0))
        copying = attribute(NFQA_CFG_PARAMS, struct.pack("!IB", 0xffff, NFQNL_COPY_PACKET))
        for attributes in (command, copying):
            error = queue_configure(link, number, attributes)
            if error:
                raise OSError(error, f"bind queue {number}: {os.strerror(error)}")
    except OSError:
        link.close()
        raise
    return link


# Tests: "" when it works, else what went wrong

def _bind():
    queue_bind(0).close()
    return ""


def _flag(bit):
    def test():
        with queue_bind(0) as link:
            value = struct.pack("!I", bit)
            error = queue_configure(link, 0, attribute(NFQA_CFG_MASK, value) + attribute(NFQA_CFG_FLAGS, value))
        return os.strerror(error) if error else ""
    return test


def _buffer():
    with queue_bind(0) as link:
        link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_TRIED)
        got = link.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return "" if got >= BUFFER_TRIED else f"asked for {BUFFER_TRIED} bytes, got {got}"


def _sets():
    if shutil.which("nft") is None:
        return "nft is not installed"
    text = ("table inet tigerfox { set s { type ipv4_addr . inet_proto . inet_service; flags timeout; }; counter c {}; "
            "chain f { type filter hook forward priority -151; ip saddr . meta l4proto . th sport @s counter name c drop; } }")
    done = subprocess.run(["nft", text], capture_output=True, text=True, check=False, timeout=20)
    return (done.stderr.strip() or "refused").splitlines()[0] if done.returncode else ""


def _rule(text, tool="iptables"):
    def test():
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
        done = subprocess.run([tool, "-w", "10", "-t", "mangle", "-A", "FORWARD", *text.split()], capture_output=True,
                              text=True, check=False, timeout=20)
        return (done.stderr.strip() or "refused").splitlines()[0] if done.returncode else ""
    return test


_KERNEL = "Use a kernel with CONFIG_{}=m or =y, or load it: modprobe {}"
_HASH = "-j HMARK --hmark-tuple src,dst,sport,dport --hmark-mod 4 --hmark-offset 1 --hmark-rnd 1"
_DEAL = "-m connmark --mark 0/0xff -j CONNMARK --set-xmark 1/0xff"

FEATURES = (
    Feature("NFQUEUE bind", "2.6.14", _bind, _KERNEL.format("NETFILTER_NETLINK_QUEUE", "nfnetlink_queue"), needed=True),
    Feature("NFQUEUE segmentation offload (F_GSO)", "3.10", _flag(NFQA_CFG_F_GSO),
            "Bulk TCP is slower without it. Use kernel 3.10 or later, or set [queues] gso = false."),
    Feature("NFQUEUE fail-open (F_FAIL_OPEN)", "3.6", _flag(NFQA_CFG_F_FAIL_OPEN),
            "Use kernel 3.6 or later, or leave [failure] queue_full = \"closed\"."),
    Feature("SO_RCVBUFFORCE", "2.6.14", _buffer, "Raise the limit: sysctl -w net.core.rmem_max=67108864"),
    Feature("iptables NFQUEUE, IPv4", "2.6.31", _rule("-j NFQUEUE --queue-balance 0:3 --queue-bypass"),
            "apt-get install iptables; " + _KERNEL.format("NETFILTER_XT_TARGET_NFQUEUE", "xt_NFQUEUE")),
    Feature("iptables NFQUEUE, IPv6", "2.6.31", _rule("-j NFQUEUE --queue-balance 0:3 --queue-bypass", "ip6tables"),
            "apt-get install iptables, and boot without ipv6.disable=1; or set [netfilter] family = \"4\"."),
    Feature("--fanout cpu (NFQUEUE --queue-cpu-fanout)", "3.10", _rule("-j NFQUEUE --queue-balance 0:3 --queue-cpu-fanout"),
            "Use kernel 3.10 or later, or another --fanout."),
    Feature("--fanout flow --mark-mask none (HMARK)", "3.5", _rule(_HASH),
            _KERNEL.format("NETFILTER_XT_TARGET_HMARK", "xt_HMARK") + ", or use --fanout flow without --mark-mask none."),
    Feature("--fanout flow (CONNMARK)", "2.6.32", _rule(_DEAL),
            _KERNEL.format("NETFILTER_XT_CONNMARK", "xt_connmark") + ". Without it --fanout flow goes by a hash."),
    Feature("--fanout flow (statistic)", "2.6.18", _rule("-m statistic --mode nth --every 2 --packet 0 -j RETURN"),
            _KERNEL.format("NETFILTER_XT_MATCH_STATISTIC", "xt_statistic") + ". Without it --fanout flow goes by a hash."),
    Feature("--offload (nf_tables sets)", "4.18", _sets,
            "apt-get install nftables; " + _KERNEL.format("NF_TABLES_INET", "nf_tables") +
            ". Without it blocks are enforced in user space alone."),
    Feature("connection tracking", "2.6.20", _rule("-m conntrack --ctstate NEW -j RETURN"),
            _KERNEL.format("NETFILTER_XT_MATCH_CONNTRACK", "nf_conntrack") + ". Without it fragments are not put together."),
)


# Public API

@functools.cache
def probe():
    """Return {feature name: "" when it works, else what went wrong}; UNTRIED begins what could not be tried. Cached."""
    try:
        done = subprocess.run([sys.executable, "-m", "tigerfox.control.probe"], capture_output=True, text=True,
                              timeout=_TIMEOUT, check=False)
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {feature.name: f"{UNTRIED}: the probe did not run" for feature in FEATURES}


def require(name):
    """Raise KernelError, with the mend, unless the feature ``name`` of FEATURES works or could not be tried."""
    feature = next(item for item in FEATURES if item.name == name)
    problem = probe()[name]
    if problem and not problem.startswith(UNTRIED):
        raise KernelError(f"{name}: {problem}. {feature.mend}")


# The process that tries

def leave_namespace():
    """Move this process to a new network namespace; returns "" or why it could not."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWNET) == 0:
        return ""
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return os.strerror(ctypes.get_errno())
    for path, content in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{path}", "w", encoding="ascii") as stream:
            stream.write(content)
    return ""


def try_all():
    """Return {feature name: result} in a new network namespace."""
    try:
        problem = leave_namespace()
    except OSError as error:
        problem = str(error)
    if problem:
        return {feature.name: f"{UNTRIED}: no network namespace to try it in ({problem})" for feature in FEATURES}
    return {feature.name: _try(feature) for feature in FEATURES}


def _try(feature):
    try:
        return feature.test()
    except subprocess.TimeoutExpired:
        return "no answer in 20 s"
    except OSError as error:
        if error.errno == errno.EPERM:
            return f"{UNTRIED}: {error.strerror}"
        return error.strerror or str(error)


if __name__ == "__main__":
    json.dump(try_all(), sys.stdout)
