"""Three network namespaces in a row, for the demo.

    client ── wan   firewall   lan ── server
    198.51.100.2, .77, 203.0.113.66        10.99.0.2
    2001:db8:1::2, ::77, 2001:db8:bad::66  fd00:99::2

The client has an honest address, one that floods and one that stands on rules/lists/example.txt. The namespaces are
called tigerfox-demo-PID-client and so on; those of a demo that was killed are removed by the next one.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tigerfox.control.privileges import CAP_NET_ADMIN, has_capability
from tigerfox.errors import MissingError, PrivilegeError, TigerFoxError

PREFIX = "tigerfox-demo-"
ROLES = ("client", "firewall", "server")
HOME_NET = "[10.99.0.0/24,fd00:99::/64]"
SOURCES = {("honest", 4): "198.51.100.2", ("flooding", 4): "198.51.100.77", ("listed", 4): "203.0.113.66",
           ("honest", 6): "2001:db8:1::2", ("flooding", 6): "2001:db8:1::77", ("listed", 6): "2001:db8:bad::66"}
SERVER = {4: "10.99.0.2", 6: "fd00:99::2"}
_LINKS = (("client", "firewall", "wan"), ("server", "firewall", "lan"))
_ADDRESSES = {
    "client": ("198.51.100.2/24 eth0", "198.51.100.77/24 eth0", "203.0.113.66/24 eth0",
               "2001:db8:1::2/64 eth0", "2001:db8:1::77/64 eth0", "2001:db8:bad::66/64 eth0"),
    "firewall": ("198.51.100.1/24 wan", "203.0.113.1/24 wan", "2001:db8:1::1/64 wan", "2001:db8:bad::1/64 wan",
                 "10.99.0.1/24 lan", "fd00:99::1/64 lan"),
    "server": ("10.99.0.2/24 eth0", "fd00:99::2/64 eth0"),
}
_GATEWAYS = {"client": ("198.51.100.1", "2001:db8:1::1"), "server": ("10.99.0.1", "fd00:99::1")}
_FORWARDING = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")

_DAD = "/proc/sys/net/ipv6/conf/default/accept_dad"      # duplicate detection would keep IPv6 silent for two seconds


def families():
    """Return the IP versions this kernel has, (4, 6) or (4,)."""
    return (4, 6) if Path("/proc/net/if_inet6").exists() else (4,)


class Topology:
    """The namespaces, while the ``with`` block lasts; everything that runs in them is ended with it.

    Raises PrivilegeError without root, MissingError without `ip`, TigerFoxError when a step is refused.
    """

    def __init__(self):
        self.names = {role: f"{PREFIX}{os.getpid()}-{role}" for role in ROLES}

    def __enter__(self):
        require()
        remove_orphans()
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *unused):
        self._remove()

    def command(self, role, *arguments):
        """Return the command line that runs ``arguments`` in the namespace of ``role``."""
        return ["ip", "netns", "exec", self.names[role], *arguments]

    def python(self, role, module, *arguments):
        """Return the command line that runs a module of this package in the namespace of ``role``; see ``environment``."""
        return self.command(role, sys.executable, "-m", module, *arguments)

    def spawn(self, command, **options):
        """Start ``command`` in a session of its own, so that Ctrl-C reaches the demo alone; returns the Popen."""
        return subprocess.Popen(command, env=environment(), start_new_session=True, text=True, **options)

    def _build(self):
        for name in self.names.values():
            _ip("netns", "add", name)
            if 6 in families():
                _run(["ip", "netns", "exec", name, "sh", "-c", f"echo 0 >{_DAD}"])
        for role, peer, port in _LINKS:
            _ip("link", "add", "eth0", "netns", self.names[role], "type", "veth", "peer", "name", port,
                "netns", self.names[peer])
        for role, name in self.names.items():
            _batch(name, list(self._addresses(role)))
        for path in _FORWARDING[:len(families())]:
            _run(self.command("firewall", "sh", "-c", f"echo 1 >{path}"))
        for role, gateways in _GATEWAYS.items():
            _batch(self.names[role], [f"route add default via {address}" for address in gateways[:len(families())]])

    @staticmethod
    def _addresses(role):
        yield "link set lo up"
        for text in _ADDRESSES[role]:
            address, port = text.split()
            if ":" not in address:
                yield f"address add {address} dev {port}"
            elif 6 in families():
                yield f"address add {address} dev {port} nodad"
        for port in sorted({text.split()[1] for text in _ADDRESSES[role]}):
            yield f"link set {port} up"

    def _remove(self):
        for name in self.names.values():
            remove_namespace(name)


def require():
    """Raise PrivilegeError or MissingError, with the mend, unless namespaces can be made here."""
    if os.geteuid() != 0 or not has_capability(CAP_NET_ADMIN):
        raise PrivilegeError("network namespaces need root. Run: sudo " + " ".join([sys.argv[0], *sys.argv[1:]]))
    if shutil.which("ip") is None:
        raise MissingError("`ip` is not installed. Install it: apt-get install iproute2")


def environment():
    """Return an environment in which a child finds this very package, installed or not."""
    root = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}:{known}" if known else root}


def namespaces():
    """Return the names of the demo's namespaces on this machine, whoever made them."""
    folder = Path("/run/netns")
    return sorted(path.name for path in folder.glob(f"{PREFIX}*")) if folder.is_dir() else []


def remove_orphans():
    """Remove what demos left behind that were killed: namespaces, and files below the directory for temporary ones."""
    for name in namespaces():
        if _of_the_dead(name):
            remove_namespace(name)
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _of_the_dead(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def _of_the_dead(name):
    pid = name[len(PREFIX):].partition("-")[0]
    return pid.isdecimal() and not Path("/proc", pid).exists()


def remove_namespace(name):
    """End what runs in the namespace and remove it; nothing happens when it is not there."""
    if not Path("/run/netns", name).exists():
        return
    for signal_number in (15, 9):
        if not _kill(name, signal_number):
            break
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _kill(name, signal_number):
    """Signal everything in the namespace; returns whether something is still there two seconds later."""
    for _ in range(20):
        pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout.split()
        if not pids:
            return False
        for pid in map(int, pids):
            try:
                os.kill(pid, signal_number)
            except ProcessLookupError:
                continue
        time.sleep(0.1)
    return True


def _ip(*arguments):
    _run(["ip", *arguments])


def _batch(name, lines):
    _run(["ip", "-n", name, "-batch", "-"], "\n".join(lines) + "\n")


def _run(command, content=None):
    done = subprocess.run(command, input=content, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TigerFoxError(f"{' '.join(command)}: {done.stderr.strip()}. The demo needs veth and network namespaces: "
                            "modprobe veth; in a container, run it privileged.")
