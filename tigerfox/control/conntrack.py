"""Connections as the kernel tracks them, over ctnetlink: those that carry our bits of the connection mark, and taking them away.

Only bits of the given mask are looked at and changed; the kernel does both under its own lock, entry by entry.
"""

import os
import socket
import struct
from typing import NamedTuple

from tigerfox.errors import MissingError

_NETLINK_NETFILTER = 12
_CT_NEW, _CT_GET = 0x100, 0x101                     # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
_REQUEST, _DUMP = 1, 0x300
_ERROR, _DONE = 2, 3
_NESTED, _TYPE = 0x8000, 0x3FFF
_ORIGINAL, _REPLY, _MARK, _ZONE, _MARK_MASK = 1, 2, 8, 18, 21      # CTA_*
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_TIMEOUT = 5.0
_PASSES = 2                                         # a dump may miss what moves while the table is resized


class Tuple(NamedTuple):
    """One direction of a connection; addresses as text."""

    src: str
    dst: str
    sport: int
    dport: int
    proto: int


class Connection(NamedTuple):
    """A tracked connection: both directions (NAT makes them differ), and what the kernel is asked by to change it."""

    original: Tuple
    reply: Tuple
    key: tuple


def marked(mask):
    """Return the Connections that have a bit of ``mask`` in their mark.

    Raises MissingError where the kernel has no ctnetlink, OSError for what the socket reports.
    """
    bits = [1 << n for n in range(32) if mask >> n & 1]
    found = {}
    for bit in bits:
        for connection in _dump(bit):
            found[connection.key] = connection
    return list(found.values())


def take_back(mask, wanted=lambda connection: True):
    """Clear the bits of ``mask`` in the marks of the connections that ``wanted`` names; returns how many they were."""
    count = 0
    for _ in range(_PASSES):
        chosen = [connection for connection in marked(mask) if wanted(connection)]
        if not chosen:
            break
        count += len(chosen)
        with _socket() as kernel:
            for connection in chosen:
                kernel.send(_message(_CT_NEW, _REQUEST, connection.key, 0, mask))
    return count


def _socket():
    try:
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    except OSError as error:
        raise MissingError(f"no netfilter over netlink: {error.strerror}. Load it: modprobe nf_conntrack_netlink") from error
    kernel.settimeout(_TIMEOUT)
    return kernel


def _attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind, flags, key, mark, mask):
    """A request about one connection (``key``), or with key None about all with this mark."""
    family, original, zone = key or (0, b"", b"")
    body = struct.pack("!BBH", family, 0, 0)
    if original:
        body += _attribute(_ORIGINAL | _NESTED, original)
    if zone:
        body += _attribute(_ZONE, zone)
    body += _attribute(_MARK, struct.pack("!I", mark)) + _attribute(_MARK_MASK, struct.pack("!I", mask))
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def _dump(bit):
    """Yield the Connections that have this bit."""
    with _socket() as kernel:
        kernel.send(_message(_CT_GET, _REQUEST | _DUMP, None, bit, bit))
        while True:
            data, at = kernel.recv(1 << 17), 0
            while at + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", data, at + 16)[0]
                    raise MissingError(f"the kernel lists no connections: {os.strerror(code)}. "
                                       "Load it: modprobe nf_conntrack_netlink")
                if kind == _CT_NEW and length >= 20:
                    found = _connection(data[at + 16:at + length], bit)
                    if found is not None:
                        yield found
                at += max(16, length + 3 & ~3)


def _connection(body, bit):
    parts = dict(_attributes(body[4:]))
    mark = int.from_bytes(parts.get(_MARK, b""), "big")
    if not mark & bit or _ORIGINAL not in parts or _REPLY not in parts:    # kernels before 4.19 do not filter by mark
        return None
    return Connection(_tuple(parts[_ORIGINAL]), _tuple(parts[_REPLY]), (body[0], parts[_ORIGINAL], parts.get(_ZONE, b"")))


def _attributes(data):
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & _TYPE, data[at + 4:at + length]
        at += length + 3 & ~3


def _tuple(data):
    parts = dict(_attributes(data))
    ip = dict(_attributes(parts.get(_TUPLE_IP, b"")))
    proto = dict(_attributes(parts.get(_TUPLE_PROTO, b"")))
    src, dst = (ip[1], ip[2]) if 1 in ip else (ip.get(3, bytes(16)), ip.get(4, bytes(16)))
    family = socket.AF_INET if len(src) == 4 else socket.AF_INET6
    return Tuple(socket.inet_ntop(family, src), socket.inet_ntop(family, dst), int.from_bytes(proto.get(2, b""), "big"),
                 int.from_bytes(proto.get(3, b""), "big"), int.from_bytes(proto.get(1, b""), "big"))
