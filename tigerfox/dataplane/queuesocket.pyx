"""Opening an NFQUEUE: the supervisor's half of the queue, and what the kernel says of all queues.

What it owns
    The netlink socket of each queue. The kernel ties the queue to the socket, not to a process: it lives while any
    process holds the descriptor, so a worker may die and the packets wait.

Layout
    One request: nlmsghdr 16 | nfgenmsg 4 | CFG_CMD bind | CFG_PARAMS | CFG_QUEUE_MAXLEN | CFG_FLAGS | CFG_MASK.
    The answer is an NLMSG_ERROR with errno 0 or what is wrong.

Invariants
    Everything is asked in one message, so that no packet is queued half configured (but for the instant inside the
    kernel, which the worker's settlement covers). All flags go into one CFG_FLAGS: of a repeated attribute the kernel
    takes the last. What the kernel does not grant is a warning with both numbers, never silence.

Who may write what
    The supervisor, before it forks; afterwards a worker may raise the copy range (queue_widen).

What happens when full or broken
    A queue of somebody else is QueueTakenError with its owner, a missing capability PrivilegeError.
"""

import errno
import os
import socket
import struct
from pathlib import Path

from tigerfox.errors import PrivilegeError, QueueTakenError, UsageError, from_errno

cdef extern from *:
    """
    #include <linux/netlink.h>
    #include <linux/netfilter/nfnetlink.h>
    #include <linux/netfilter/nfnetlink_queue.h>
    """
    int NLMSG_ERROR, NLM_F_REQUEST, NLM_F_ACK, NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
    int NFQA_CFG_CMD, NFQA_CFG_PARAMS, NFQA_CFG_QUEUE_MAXLEN, NFQA_CFG_FLAGS, NFQA_CFG_MASK
    int NFQNL_CFG_CMD_BIND, NFQNL_COPY_PACKET, NFQA_CFG_F_GSO, NFQA_CFG_F_FAIL_OPEN

MAX_COPY_RANGE = 65531           # kernel: 0xffff - NLA_HDRLEN
NETLINK_NETFILTER = 12           # linux/netlink.h; Python's socket module lacks these two
SO_RCVBUFFORCE = 33
BODY_OFFSET = 20                 # of a netlink message, behind nlmsghdr and nfgenmsg
TRUESIZE = 1280                  # what the kernel charges a message besides its packet
RECEIVE_TICK_MS = 100            # an idle worker turns ten times a second

# ---- Public API


def queue_rows():
    """Return the kernel's view of the queues of this network namespace, one dict a queue, by queue number.

    Keys: queue, portid (of the owning socket), waiting (packets), copy_mode (0 none, 1 meta, 2 packet), copy_range
    (bytes), queue_dropped (queue full), user_dropped (socket full), id_sequence (packet id given out last).
    Source: seq_show of net/netfilter/nfnetlink_queue.c. Raises PrivilegeError when the file cannot be read.
    """
    path = "/proc/thread-self/net/netfilter/nfnetlink_queue"
    keys = ("queue", "portid", "waiting", "copy_mode", "copy_range", "queue_dropped", "user_dropped", "id_sequence")
    try:
        lines = Path(path).read_text().splitlines()
    except FileNotFoundError:
        raise from_errno(errno.EPROTONOSUPPORT, f"read {path}", "Load the module: modprobe nfnetlink_queue.") from None
    except PermissionError:
        raise PrivilegeError(f"{path} is for root. Run with sudo.") from None
    return {row["queue"]: row for row in (dict(zip(keys, map(int, line.split()))) for line in lines)}


def queue_owner(portid):
    """Return (pid, process name) of who holds the netlink socket with this port id, (0, "unknown") when it cannot be
    found.

    The port id leads to the socket's inode (/proc/net/netlink) and the inode to a descriptor; where that is hidden, a
    port id is by custom the pid of the process that opened the socket.
    """
    inode = _socket_inode(portid)
    for entry in Path("/proc").glob("[0-9]*/fd/*") if inode else ():
        try:
            if os.readlink(entry) == f"socket:[{inode}]":
                return int(entry.parts[2]), Path("/proc", entry.parts[2], "comm").read_text().strip()
        except OSError:
            continue
    try:
        return portid, Path("/proc", str(portid), "comm").read_text().strip()
    except OSError:
        return 0, "unknown"


def _socket_inode(portid):
    for line in Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1] == str(NETLINK_NETFILTER) and columns[2] == str(portid):
            return columns[9]
    return None


class QueueSocket:
    """A bound NFQUEUE, held by the supervisor and inherited by workers through fork.

    The descriptor is close-on-exec: forked workers have it all the same, and the programs that the supervisor starts
    must not keep the queue alive.

    Arguments: ``number`` of the queue; ``copy_range`` in bytes (1 to 65531); ``max_length`` packets that may wait;
    ``fail_open``: the kernel accepts unseen what finds no place; ``gso``: whole segmentation super-packets instead of
    one message a segment; ``receive_buffer`` in bytes, None: room for ``max_length`` messages, so that the queue fills
    before the socket does. ``warnings`` says in words what the kernel did not grant. Source:
    linux/netfilter/nfnetlink_queue.h.

    Raises QueueTakenError, PrivilegeError, KernelError or UsageError, each with the mend.
    """

    def __init__(self, number, copy_range=128, max_length=8192, fail_open=False, gso=True, receive_buffer=None):
        if not 0 <= number <= 65535:
            raise UsageError(f"queue {number}: there are queues 0 to 65535. Choose --queues within them.")
        self.number = number
        self.max_length = max_length
        self.warnings = []
        self.copy_range = min(max(copy_range, 1), MAX_COPY_RANGE)
        if self.copy_range != copy_range:
            self.warnings.append(f"queue {number}: copy range {copy_range} asked, {self.copy_range} is what the kernel "
                                 "can do")
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        except OSError as error:
            raise from_errno(error.errno, "open a netfilter socket",
                             "The kernel needs CONFIG_NETFILTER_NETLINK.") from None
        try:
            self._socket.bind((0, 0))
            self._size_buffer(receive_buffer or max_length * (self.copy_range + TRUESIZE))
            self._bind(fail_open, gso)
            self._check_granted()
            self._set_tick()
        except BaseException:
            self._socket.close()
            raise

    @classmethod
    def adopt(cls, descriptor, number, copy_range, max_length, fail_open):
        """Return a QueueSocket over a queue that somebody else has bound, on a duplicate of its descriptor, and configure it.

        GSO packets come whole. Raises OSError.
        """
        made = cls.__new__(cls)
        made.number, made.max_length, made.warnings, made.copy_range = number, max_length, [], copy_range
        made._socket = socket.socket(fileno=os.dup(descriptor))
        failed = made._configure({"GSO": NFQA_CFG_F_GSO, "FAIL_OPEN": NFQA_CFG_F_FAIL_OPEN if fail_open else 0}, bind=False)
        if failed:
            made.close()
            raise from_errno(failed, f"configure queue {number}", "The kernel needs NFQUEUE with GSO and fail-open: Linux 3.10.")
        made.receive_buffer = made._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        made._set_tick()
        return made

    def _size_buffer(self, wanted):
        """Ask for the receive buffer past the system's limit, else within it; the kernel grants twice what is asked."""
        wanted = min(wanted, (1 << 30) - 1)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, wanted)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        self.receive_buffer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        if self.receive_buffer < wanted:
            self.warnings.append(f"queue {self.number}: receive buffer of {wanted} bytes asked, {self.receive_buffer} "
                                 f"granted; raise it with sysctl net.core.rmem_max={wanted}")

    def _bind(self, fail_open, gso):
        """Bind and configure in one message; flags that the kernel does not know are left out, with a warning."""
        wanted = {"GSO": NFQA_CFG_F_GSO if gso else 0, "FAIL_OPEN": NFQA_CFG_F_FAIL_OPEN if fail_open else 0}
        number = self._configure(wanted, bind=True)
        if number == errno.EOPNOTSUPP:
            for name in [name for name, bit in wanted.items() if bit]:
                wanted[name] = 0
                self.warnings.append(f"queue {self.number}: flag {name} asked, 0 granted: this kernel does not have it")
            number = self._configure(wanted, bind=True)
        if number:
            raise self._bind_error(number)

    def _configure(self, flags, bind):
        """Send one configuration message; 0 or the errno of the answer."""
        body = b""
        if bind:
            body += _attribute(NFQA_CFG_CMD, struct.pack("=BBH", NFQNL_CFG_CMD_BIND, 0, 0))
        body += _attribute(NFQA_CFG_PARAMS, struct.pack(">IB", self.copy_range, NFQNL_COPY_PACKET))
        body += _attribute(NFQA_CFG_QUEUE_MAXLEN, struct.pack(">I", self.max_length))
        body += _attribute(NFQA_CFG_FLAGS, struct.pack(">I", flags["GSO"] | flags["FAIL_OPEN"]))
        body += _attribute(NFQA_CFG_MASK, struct.pack(">I", NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN))
        kind = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG
        header = struct.pack("=IHHII", BODY_OFFSET + len(body), kind, NLM_F_REQUEST | NLM_F_ACK, 2, 0)
        self._socket.send(header + struct.pack(">BBH", 0, 0, self.number) + body)
        while True:                  # packets may come before the answer: the worker's settlement repeats them
            answer = self._socket.recv(1 << 16)
            if len(answer) >= 20 and struct.unpack_from("=H", answer, 4)[0] == NLMSG_ERROR:
                return -struct.unpack_from("=i", answer, 16)[0]

    def _bind_error(self, number):
        doing = f"bind queue {self.number}"
        if number in (errno.EPERM, errno.EBUSY):
            if not _has_net_admin():
                return PrivilegeError(f"{doing}: CAP_NET_ADMIN is missing. Run it with sudo.")
            row = queue_rows().get(self.number)
            pid, name = queue_owner(row["portid"]) if row else (0, "unknown")
            who = f"pid {pid} ({name})" if pid else f"another program (netlink port {row['portid'] if row else '?'})"
            return QueueTakenError(f"queue {self.number} is owned by {who}. Stop it, or choose other numbers with "
                                   "--queues.")
        return from_errno(number, doing, "The kernel needs CONFIG_NETFILTER_NETLINK_QUEUE: modprobe nfnetlink_queue.")

    def _check_granted(self):
        try:
            row = queue_rows().get(self.number, {})
        except PrivilegeError:
            return
        if row.get("copy_range", self.copy_range) != self.copy_range:
            granted = row["copy_range"]
            self.warnings.append(f"queue {self.number}: copy range {self.copy_range} asked, {granted} granted")

    def _set_tick(self):
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, RECEIVE_TICK_MS * 1000))

    def fileno(self):
        """The descriptor, for a worker that was forked while this object lives."""
        return self._socket.fileno()

    def close(self):
        """Give up the queue; the kernel drops what still waits in it once no worker holds it either."""
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _attribute(kind, data):
    """A netlink attribute, padded to four bytes."""
    return struct.pack("=HH", len(data) + 4, kind) + data + b"\0" * ((4 - len(data) % 4) % 4)


def _has_net_admin():
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> 12 & 1)
    return False
