"""Client, firewall and server in network namespaces, for benches and live tests.

    client ──veth── firewall ──veth── server
    10.71.1.2   10.71.1.1  10.71.2.1   10.71.2.2
    fd71:1::2   fd71:1::1  fd71:2::1   fd71:2::2

The firewall forwards; ``queue_forwarded`` sends what it forwards to NFQUEUE. Names are unique to the process,
everything is removed on leaving the ``with`` block, and nothing is done in the root namespace but naming the
namespaces.
"""

import ctypes
import itertools
import os
import subprocess
import traceback
from contextlib import contextmanager
from pathlib import Path

from tigerfox.errors import TigerFoxError

CLONE_NEWNET = 0x40000000
CLIENT4, SERVER4, CLIENT6, SERVER6 = "10.71.1.2", "10.71.2.2", "fd71:1::2", "fd71:2::2"
_count = itertools.count()


def run(*command, check=True):
    """Run a command to its end and return its CompletedProcess; raise TigerFoxError with what it said when it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if check and done.returncode:
        raise TigerFoxError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done


class Namespace:
    """A named network namespace."""

    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", name)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command, check=True):
        """Run a command inside, to its end."""
        return run("ip", "netns", "exec", self.name, *command, check=check)

    def popen(self, *command, cpu=None, **options):
        """Start a command inside, pinned to a CPU when one is given; the process is the command itself."""
        return subprocess.Popen([str(part) for part in command], preexec_fn=lambda: self._enter_pinned(cpu), **options)

    def fork(self, function, cpu=None):
        """Fork a child that enters the namespace, calls ``function()`` and exits 0, or 1 on an exception; its pid."""
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            self._enter_pinned(cpu)
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _enter_pinned(self, cpu):
        enter_namespace(self.name)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})

    @contextmanager
    def entered(self):
        """Move the calling thread into the namespace, and back: sockets opened inside stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter_namespace(self.name)
            yield self
        finally:
            _setns(home)
            os.close(home)

    def remove(self):
        run("ip", "netns", "delete", self.name, check=False)


def enter_namespace(name):
    """Move the calling thread into a named network namespace."""
    descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(descriptor)
    finally:
        os.close(descriptor)


def _setns(descriptor):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Topology:
    """The three namespaces; ``gso=False`` turns segmentation offloads off on every link."""

    def __init__(self, prefix="tfb", gso=True):
        stem = f"{prefix}{os.getpid() % 100000}x{next(_count)}"
        self.made = []
        try:
            self.client, self.firewall, self.server = (self._namespace(f"{stem}{role}") for role in "cfs")
            self._link(self.client, 1)
            self._link(self.server, 2)
            self._forward()
            self.set_gso(gso)
        except BaseException:
            self.close()
            raise

    def _namespace(self, name):
        namespace = Namespace(name)
        self.made.append(namespace)
        return namespace

    def _link(self, host, subnet):
        self.firewall.run("ip", "link", "add", f"to{subnet}", "type", "veth",
                          "peer", "name", "eth0", "netns", host.name)
        for namespace, name, last in ((self.firewall, f"to{subnet}", 1), (host, "eth0", 2)):
            namespace.run("ip", "addr", "add", f"10.71.{subnet}.{last}/24", "dev", name)
            namespace.run("ip", "addr", "add", f"fd71:{subnet}::{last}/64", "dev", name, "nodad")
            namespace.run("ip", "link", "set", name, "up")
        host.run("ip", "route", "add", "default", "via", f"10.71.{subnet}.1")
        host.run("ip", "-6", "route", "add", "default", "via", f"fd71:{subnet}::1")

    def _forward(self):
        with self.firewall.entered():
            for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
                Path("/proc/sys/net", switch).write_text("1")

    def set_gso(self, wanted):
        """Turn segmentation and receive offloads of all links on or off."""
        state = "on" if wanted else "off"
        for namespace, name in (("firewall", "to1"), ("firewall", "to2"), ("client", "eth0"), ("server", "eth0")):
            getattr(self, namespace).run("ethtool", "-K", name, "tso", state, "gso", state, "gro", state)

    def queue_forwarded(self, first, last=None, bypass=False, match=()):
        """Queue what the firewall forwards, both families and directions, to one queue or a range."""
        target = ["--queue-num", str(first)] if last is None else ["--queue-balance", f"{first}:{last}"]
        target += ["--queue-bypass"] if bypass else []
        for tool in ("iptables", "ip6tables"):
            self.firewall.run(tool, "-A", "FORWARD", *match, "-j", "NFQUEUE", *target)

    def unqueue(self):
        """Remove what queue_forwarded did."""
        for tool in ("iptables", "ip6tables"):
            self.firewall.run(tool, "-F", "FORWARD")

    def close(self):
        for namespace in reversed(self.made):
            namespace.remove()
        self.made = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
