"""The demo's server and client, each run in its namespace: ``python -m tigerfox.demo.traffic serve|send``.

``serve`` reads ``{"families": …, "tcp": [ports], "udp": [ports]}``, serves HTTP on every TCP port and echoes on every UDP
port, says "ready" and ends when its standard input closes: it never outlives the demo. ``send`` reads a list of jobs and
writes a list of answers, both JSON. A job: kind (a key of KINDS), family, source, target, port, count, flags, first (the
first source port, or the identity of pings: its own for each job). An answer: outcome, answers (how many came back), ms.
"""

import concurrent.futures
import hashlib
import http.server
import json
import select
import socket
import struct
import sys
import threading
import time

FIRST_WAIT = 0.5                 # seconds for the first of several to be answered
TIMEOUT = 1.5                        # seconds until a silent port is called silent
BULK_BYTES = 8 << 20
ANSWERED, SILENT, REFUSED, RESET, WRONG = "answered", "silent", "refused", "reset", "wrong answer"
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_IPV6_CHECKSUM = 7                   # linux/in6.h
_RST, _SYN_ACK = 0x04, 0x12


# The server

def bulk():
    """Return the body of /bulk, which no proxy could guess."""
    block = hashlib.sha256(b"tigerfox demo").digest()
    return block * (BULK_BYTES // len(block))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):                # noqa: N802, the name is given by http.server
        """Answer with "hello" or the bulk body."""
        body = bulk() if self.path == "/bulk" else b"hello\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *unused):
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *unused):
        """Say nothing about clients that vanish: vanishing is what the demo is about."""


class _Server6(_Server):
    address_family = socket.AF_INET6

    def server_bind(self):
        """Bind for IPv6 alone; the IPv4 server has the port as well."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()


def serve(wanted):
    """Serve until standard input closes."""
    for family in wanted["families"]:
        for port in wanted["tcp"]:
            server = (_Server6 if family == 6 else _Server)(("::" if family == 6 else "0.0.0.0", port), _Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        for port in wanted["udp"]:
            threading.Thread(target=_echo, args=(_bound_udp(family, port),), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


def _bound_udp(family, port):
    link = socket.socket(_FAMILY[family], socket.SOCK_DGRAM)
    if family == 6:
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    link.bind(("", port))
    return link


def _echo(link):
    while True:
        data, peer = link.recvfrom(65536)
        link.sendto(data, peer)


# The client: every function takes a job and returns (outcome, answers)

def http_get(job):
    """Fetch a page, or with ``flags`` "bulk" eight megabytes, and compare every byte."""
    path, expected = ("/bulk", bulk()) if job.get("flags") == "bulk" else ("/", b"hello\n")
    with _connect(job) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n".encode())
        with link.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    good = head.startswith(b"HTTP/1.1 200 ") and body == expected
    return (ANSWERED if good else WRONG), 1


def connect(job):
    """Open a TCP connection and close it."""
    _connect(job).close()
    return ANSWERED, 1


def udp(job):
    """Send ``count`` datagrams from one socket and count the echoes."""
    with socket.socket(_FAMILY[job["family"]], socket.SOCK_DGRAM) as link:
        link.bind((job["source"], 0))
        link.connect((job["target"], job["port"]))
        return _exchange(job, link, lambda i: link.send(struct.pack("!I", i)), lambda data: True)


def ping(job):
    """Send ``count`` echo requests and count the replies."""
    six = job["family"] == 6
    request, reply = (128, 129) if six else (8, 0)
    identity = job["first"]

    def echo(i):
        head = struct.pack("!BBHHH", request, 0, 0, identity, i)
        return head[:2] + struct.pack("!H", 0 if six else checksum(head)) + head[4:]

    def is_reply(data):
        icmp = data if six else data[(data[0] & 15) * 4:]
        return icmp[0] == reply and struct.unpack_from("!H", icmp, 4)[0] == identity

    with _raw(job, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP) as link:
        return _exchange(job, link, lambda i: link.sendto(echo(i), (job["target"], 0)), is_reply)


def segment(job):
    """Send ``count`` bare TCP segments with ``flags`` (a number), each from a port of its own, and count SYN+ACK and RST."""
    first = job["first"]
    seen = set()

    def is_answer(data):
        tcp = data if job["family"] == 6 else data[(data[0] & 15) * 4:]
        sport, dport, flags = *struct.unpack_from("!HH", tcp), tcp[13]
        if sport != job["port"] or not first <= dport < first + job["count"] or dport in seen:
            return False
        seen.add(dport)
        return bool(flags & _RST) or flags & _SYN_ACK == _SYN_ACK

    with _raw(job, socket.IPPROTO_TCP) as link:
        if job["family"] == 6:
            link.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, 16)
        return _exchange(job, link, lambda i: link.sendto(tcp_segment(job, first + i), (job["target"], 0)), is_answer)


def tcp_segment(job, sport):
    """Return a TCP header with the job's flags; the checksum is right for IPv4, left to the kernel for IPv6."""
    head = struct.pack("!HHIIBBHHH", sport, job["port"], sport << 8, 0, 5 << 4, job["flags"], 1024, 0, 0)
    if job["family"] == 6:
        return head
    pseudo = socket.inet_aton(job["source"]) + socket.inet_aton(job["target"]) + struct.pack("!HH", 6, len(head))
    return head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]


def checksum(data):
    """Return the Internet checksum of ``data`` (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _connect(job):
    link = socket.socket(_FAMILY[job["family"]], socket.SOCK_STREAM)
    try:
        link.settimeout(job.get("timeout", TIMEOUT))
        link.bind((job["source"], 0))
        link.connect((job["target"], job["port"]))
    except OSError:
        link.close()
        raise
    return link


def _raw(job, protocol):
    link = socket.socket(_FAMILY[job["family"]], socket.SOCK_RAW, protocol)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    link.bind((job["source"], 0))
    return link


def _exchange(job, link, send, is_answer):
    """Send ``count`` times, taking answers as they come; wait TIMEOUT for the last ones.

    The first is given time to be answered, as ping does: while connection tracking does not have an ICMP exchange
    confirmed, the kernel drops what else comes of it out of a queue.
    """
    answers = 0
    for i in range(job["count"]):
        send(i)
        if i == 0 or i % 20 == 19:
            answers += _drain(link, is_answer, job["count"], 0.002 if i else FIRST_WAIT)
    deadline = time.monotonic() + TIMEOUT
    while answers < job["count"] and time.monotonic() < deadline:
        answers += _drain(link, is_answer, job["count"] - answers, 0.05)
    return (ANSWERED if answers else SILENT), answers


def _drain(link, is_answer, most, wait):
    found = 0
    while found < most and select.select([link], [], [], wait)[0]:
        found += is_answer(link.recv(65536))
        wait = 0.002
    return found


KINDS = {"http": http_get, "connect": connect, "udp": udp, "ping": ping, "segment": segment}


def perform(job):
    """Do one job; returns its answer."""
    started = time.monotonic()
    try:
        outcome, answers = KINDS[job["kind"]](job)
    except TimeoutError:
        outcome, answers = SILENT, 0
    except ConnectionRefusedError:
        outcome, answers = REFUSED, 0
    except ConnectionResetError:
        outcome, answers = RESET, 0
    except OSError as error:
        outcome, answers = error.strerror or str(error), 0
    return {"outcome": outcome, "answers": answers, "ms": round((time.monotonic() - started) * 1000, 1)}


def send(jobs):
    """Do all jobs at the same time; returns the answers in their order."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(len(jobs), 1)) as pool:
        return list(pool.map(perform, jobs))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(json.loads(sys.stdin.readline()))
    else:
        json.dump(send(json.load(sys.stdin)), sys.stdout)
