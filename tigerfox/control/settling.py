"""A verdict for what a dead worker had taken and not answered, given by the supervisor while no worker is there.

Usually the successor sends those packets through the rules again. Where one of them seems to have killed its workers,
or where the policy for stuck workers says so, they get one verdict together: NFQNL_MSG_VERDICT_BATCH settles every
packet up to an id (linux/netfilter/nfnetlink_queue.h). What is still unread in the socket stays.
"""

import os
import socket
import struct

from tigerfox.dataplane.queue import queue_rows

DROP, ACCEPT = 0, 1                  # linux/netfilter.h
_PACKET, _VERDICT_BATCH = 0x300, 0x303     # NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_*
_PACKET_HDR, _VERDICT_HDR = 1, 2     # attributes
_REQUEST = 1                         # NLM_F_REQUEST


def settle_taken(queue, verdict):
    """Give ``verdict`` to all packets that were read from ``queue`` (a QueueSocket) and not answered; returns the last
    id.

    None: nothing was ever queued. Raises OSError.
    """
    given_out = queue_rows().get(queue.number, {}).get("id_sequence", 0)     # before the socket is looked at
    with socket.socket(fileno=os.dup(queue.fileno())) as peer:
        first = _first_unread(peer)
        last = (first - 1) & 0xffffffff if first is not None else given_out
        if first is None and not given_out:
            return None
        peer.send(struct.pack("=IHHII", 32, _VERDICT_BATCH, _REQUEST, 1, 0) + struct.pack(">BBH", 0, 0, queue.number)
                  + struct.pack("=HH", 12, _VERDICT_HDR) + struct.pack(">II", verdict, last))
    return last


def _first_unread(peer):
    """Return the id of the first packet that waits in the socket; answers in front of it are taken out."""
    while True:
        try:
            message = peer.recv(4096, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        if len(message) >= 20 and struct.unpack_from("=H", message, 4)[0] == _PACKET:
            found = packet_id(message)
            if found is not None:
                return found
        peer.recv(4096, socket.MSG_DONTWAIT)


def packet_id(message):
    """Return the packet id in a packet message, None where there is none."""
    at = 20
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if kind & 0x3fff == _PACKET_HDR and at + 8 <= len(message):
            return struct.unpack_from(">I", message, at + 4)[0]
        at += max(length + 3 & ~3, 4)
    return None
