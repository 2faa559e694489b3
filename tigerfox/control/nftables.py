"""Sets and counters of nf_tables, spoken to over raw netlink: no process, and one transaction for thousands of elements.

The table itself is made by scripts/iptables/up.sh. Sources: linux/netfilter/nf_tables.h, nfnetlink.h, netlink(7).
"""

import contextlib
import errno
import os
import select
import socket
import struct

from tigerfox.control.probe import NETLINK_NETFILTER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, attribute
from tigerfox.errors import TigerFoxError

NLMSG_DONE = 3                       # linux/netlink.h
NLM_F_DUMP = 0x300
NLM_F_DUMP_INTR = 0x10
NLM_F_CREATE = 0x400
NFNL_BATCH_BEGIN, NFNL_BATCH_END = 16, 17
NFNL_SUBSYS_NFTABLES = 10
NEWTABLE, GETTABLE, NEWSETELEM, GETSETELEM, DELSETELEM, GETGEN, GETOBJ = 0, 1, 12, 13, 14, 16, 19
TABLE_DORMANT = 1                    # NFT_TABLE_F_DORMANT: its chains are called by no hook
NFPROTO_INET = 1
NFT_OBJECT_COUNTER = 1
NLA_F_NESTED = 0x8000
SO_SNDBUFFORCE = 32                  # asm-generic/socket.h
_BUFFER = 16 << 20
_MESSAGE = 400                       # elements in one message: an attribute ends at 64 KiB
_PATIENCE = 10.0                     # seconds for an answer
_DUMPS = 5                           # tries at a dump that changes meanwhile
_HEAD = struct.Struct("=HH")


def _message(kind, flags, body=b"", number=0, resource=0):
    head = struct.pack("=IHHIIBBH", 20 + len(body), kind, flags, number, 0, NFPROTO_INET, 0, resource)
    return head + body


def _ours(kind):
    return NFNL_SUBSYS_NFTABLES << 8 | kind


def _text(kind, text):
    return attribute(kind, text.encode() + b"\0")


def _element(key, milliseconds):
    body = attribute(1 | NLA_F_NESTED, attribute(1, key))
    if milliseconds is not None:
        body += attribute(4, struct.pack("!Q", milliseconds))
    return attribute(1 | NLA_F_NESTED, body)


def _attributes(data, at=0):
    """Yield (kind, payload) of netlink attributes."""
    end = len(data)
    while at + 4 <= end:
        length, kind = _HEAD.unpack_from(data, at)
        if length < 4:
            return
        yield kind & 0x3fff, data[at + 4:at + length]
        at += (length + 3) & ~3


def _messages(chunk):
    at = 0
    while at + 16 <= len(chunk):
        length, kind, flags = struct.unpack_from("=IHH", chunk, at)
        if length < 16:
            return
        yield kind, flags, chunk[at:at + length]
        at += (length + 3) & ~3


def _failure(error):
    return OSError(error, f"nf_tables: {os.strerror(error)}")


class Link:
    """A netlink socket that reads and writes the sets of the table ``inet table`` in this network namespace."""

    def __init__(self, table):
        self.table = table
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        for option in (SO_SNDBUFFORCE, 33):            # SO_RCVBUFFORCE
            self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        self._socket.setblocking(False)

    def close(self):
        self._socket.close()

    def generation(self):
        """Return the number of the last transaction, of whomever, in this namespace."""
        self._socket.send(_message(_ours(GETGEN), NLM_F_REQUEST))
        for _, _, message in _messages(self._receive()):
            found = dict(_attributes(message, 20))
            if 1 in found:
                return struct.unpack("!I", found[1])[0]
        return None

    def change(self, removed, added):
        """Take elements out and put others in, all at once or none: ``removed`` are (set, key), ``added`` are (set, key,
        milliseconds or None). Raises OSError.
        """
        messages = [*self._element_messages(DELSETELEM, 0, [(name, key, None) for name, key in removed]),
                    *self._element_messages(NEWSETELEM, NLM_F_CREATE, added)]
        if messages:
            self._transact(messages)

    def set_dormant(self, dormant):
        """Take the table's chains out of their hooks, or hang them in again. Raises OSError."""
        flags = attribute(2, struct.pack("!I", TABLE_DORMANT if dormant else 0))
        self._transact([_message(_ours(NEWTABLE), NLM_F_REQUEST, _text(1, self.table) + flags)])

    def dormant(self):
        """Return whether the table's chains are out of their hooks. Raises OSError."""
        self._socket.send(_message(_ours(GETTABLE), NLM_F_REQUEST, _text(1, self.table)))
        for kind, _, message in _messages(self._receive()):
            if kind == NLMSG_ERROR:
                raise _failure(-struct.unpack_from("=i", message, 16)[0])
            return bool(struct.unpack("!I", dict(_attributes(message, 20))[2])[0] & TABLE_DORMANT)

    def _transact(self, messages):
        """Carry out messages, all or none."""
        last = bytearray(messages[-1])
        struct.pack_into("=H", last, 6, struct.unpack_from("=H", last, 6)[0] | NLM_F_ACK)
        batch = [_message(NFNL_BATCH_BEGIN, NLM_F_REQUEST, resource=socket.htons(NFNL_SUBSYS_NFTABLES)), *messages[:-1], last,
                 _message(NFNL_BATCH_END, NLM_F_REQUEST, resource=socket.htons(NFNL_SUBSYS_NFTABLES))]
        self._socket.send(b"".join(batch))
        self._settle()

    def _element_messages(self, kind, flags, elements):
        """Yield messages of elements, as many sets as there are."""
        sets = {}
        for name, key, milliseconds in elements:
            sets.setdefault(name, []).append(_element(key, milliseconds))
        for name, packed in sets.items():
            for first in range(0, len(packed), _MESSAGE):
                body = _text(1, self.table) + _text(2, name)
                body += attribute(3 | NLA_F_NESTED, b"".join(packed[first:first + _MESSAGE]))
                yield _message(_ours(kind), NLM_F_REQUEST | flags, body)

    def _settle(self):
        """Take the answers to a batch, which are all there when the send returns; raise OSError for the first error."""
        error = None
        answered = False
        with contextlib.suppress(BlockingIOError):
            while True:
                for kind, _, message in _messages(self._socket.recv(1 << 20)):
                    if kind == NLMSG_ERROR:
                        answered = True
                        error = error or -struct.unpack_from("=i", message, 16)[0]
        if error or not answered:
            raise _failure(error or errno.EIO)

    def elements(self, name):
        """Return {key: milliseconds left, or None} of a set. Raises OSError."""
        for _ in range(_DUMPS):
            found, whole = {}, True
            for flags, message in self._dump(GETSETELEM, _text(1, self.table) + _text(2, name)):
                whole = whole and not flags & NLM_F_DUMP_INTR
                for kind, payload in _attributes(message, 20):
                    if kind == 3:
                        found.update(map(_read_element, (element for _, element in _attributes(payload))))
            if whole:
                break
        return found

    def counters(self):
        """Return {name: (packets, bytes)} of the table's named counters. Raises OSError."""
        found = {}
        for _, message in self._dump(GETOBJ, _text(1, self.table) + attribute(3, struct.pack("!I", NFT_OBJECT_COUNTER))):
            parts = dict(_attributes(message, 20))
            counts = dict(_attributes(parts.get(4, b"")))
            if {1, 2} <= counts.keys():
                name = parts[2].rstrip(b"\0").decode()
                found[name] = struct.unpack("!Q", counts[2])[0], struct.unpack("!Q", counts[1])[0]
        return found

    def _dump(self, kind, body):
        self._socket.send(_message(_ours(kind), NLM_F_REQUEST | NLM_F_DUMP, body))
        while True:
            for answer, flags, message in _messages(self._receive()):
                if answer == NLMSG_DONE:
                    return
                if answer == NLMSG_ERROR:
                    raise _failure(-struct.unpack_from("=i", message, 16)[0])
                yield flags, message

    def _receive(self):
        if not select.select([self._socket], [], [], _PATIENCE)[0]:
            raise TigerFoxError("nf_tables does not answer. Look at `dmesg`, and start with --offload off.")
        return self._socket.recv(1 << 20)


def _read_element(element):
    parts = dict(_attributes(element))
    key = dict(_attributes(parts[1]))[1]
    return key, struct.unpack("!Q", parts[5])[0] if 5 in parts else None
