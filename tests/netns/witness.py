"""Servers for live tests, in this process with sockets of the server's namespace: they remember what reached them.

``Witness`` speaks HTTP by the book and keeps every byte by client port; ``WebServer`` is nginx where it is installed, else
Python's, and has a log; ``Names`` answers DNS over UDP and TCP.
"""

import contextlib
import gzip
import http.server
import os
import re
import shutil
import socket
import ssl
import struct
import threading
import time
import zlib

ADDRESSES = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
SECRET = b"uid=0(root) gid=0(root) groups=0(root)"
HARMLESS = b"uid=7(quiet) gid=7(quiet) groups=7(fox)"


def listening(namespace, port, kind=socket.SOCK_STREAM):
    """A bound socket of each family in the namespace."""
    made = []
    for family, address in ADDRESSES.items():
        with namespace.entered():
            one = socket.socket(family, kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, port))
        if kind == socket.SOCK_STREAM:
            one.listen(512)
        made.append(one)
    return made


def dechunked(data):
    """(body so far, bytes used, whether it is whole) of a chunked body."""
    body, at = b"", 0
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return body, at, False
        size = int(data[at:line].split(b";")[0], 16)
        body += data[line + 2:line + 2 + size]
        at = line + 2 + size + 2
        if len(data) < at:
            return body, at, False
        if size == 0:
            return body, at, True


def requests(data):
    """[(head, body as far as it has come, whether it is whole)] of what one client sent; heads are complete."""
    found = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        if re.search(rb"\r\ntransfer-encoding: *chunked", head, re.I):
            body, used, whole = dechunked(rest)
        else:
            used = int(length[1]) if length else 0
            body, whole = rest[:used], len(rest) >= used
        found.append((head, body, whole))
        if not whole:
            break
        data = rest[used:]
    return found


def pieces(body, size):
    return b"".join(f"{len(body[at:at + size]):x}\r\n".encode() + body[at:at + size] + b"\r\n" for at in range(0, len(body), size))


def response(path):
    """The bytes of the answer: /KIND/secret or /KIND/harmless in an encoding, everything else "hello"."""
    kind, _, what = path.strip("/").partition("/")
    body = {"secret": SECRET, "harmless": HARMLESS}.get(what, b"hello\n")
    if what in ("secret", "harmless"):
        body = b"<pre>" + body * 3 + b"</pre>"
    fields = ["HTTP/1.1 200 OK", "Content-Type: text/html"]
    if "gzip" in kind:
        body = gzip.compress(body)
        fields.append("Content-Encoding: gzip")
    elif "deflate" in kind:
        body = zlib.compress(body)
        fields.append("Content-Encoding: deflate")
    if "chunked" in kind:
        body = pieces(body, 5) + b"0\r\n\r\n"
        fields.append("Transfer-Encoding: chunked")
    else:
        fields.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*fields, "", ""]).encode() + body


class Witness:
    """HTTP on one port; ``received`` is what came, by client port. A thread a connection: one that hangs keeps no other waiting."""

    def __init__(self, namespace, port):
        self.received = {}
        self.moved = time.monotonic()
        self.listeners = listening(namespace, port)
        for listener in self.listeners:
            threading.Thread(target=self._run, args=(listener,), daemon=True).start()

    def _run(self, listener):
        while True:
            try:
                connection, peer = listener.accept()
            except ConnectionError:
                continue                   # gone before it was taken
            except OSError:
                return                     # closed
            threading.Thread(target=self._serve, args=(connection, peer[1]), daemon=True).start()

    def _serve(self, connection, port):
        """Answer what came on this connection: one of the other address family may have the same client port."""
        answered, stream = 0, b""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(OSError, ValueError):
            while data := connection.recv(1 << 16):
                self.moved = time.monotonic()
                self.received[port] = self.received.get(port, b"") + data
                stream += data
                whole = [head for head, _, done in requests(stream) if done]
                for head in whole[answered:]:
                    self._answer(connection, head.split(b" ")[1].decode("latin-1"))
                answered = len(whole)

    def _answer(self, connection, path):
        data = response(path)
        step = 1 if path.startswith("/bytes") else 3 if path.startswith("/split") else len(data)
        for at in range(0, len(data), step):
            connection.sendall(data[at:at + step])

    def requests(self, port):
        """What an application would have seen from this client: complete heads with the body so far."""
        return requests(self.received.get(port, b""))

    def body(self, port):
        """The bodies of this client's requests, as far as they have come."""
        return b"".join(body for _, body, _ in self.requests(port))

    def settle(self, quiet=0.3):
        """Wait until nothing has come for a while."""
        while time.monotonic() - self.moved < quiet:
            time.sleep(0.02)

    def close(self):
        for one in self.listeners:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; user root;
events {{ worker_connections 1024; }}
http {{
    log_format seen '$remote_port $status $request|$http_x_api_version|$http_user_agent';
    access_log {folder}/access.log seen;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    keepalive_requests 10000; gzip on; gzip_min_length 1; gzip_types *;
    server {{ listen 80 backlog=512; listen [::]:80 ipv6only=on backlog=512; location / {{ return 200 "hello\\n"; }} }}
}}
"""


class WebServer:
    """nginx on port 80, or Python's server where nginx is not installed."""

    def __init__(self, namespace, folder):
        self.folder = folder
        self.lines = []
        self.process = self.servers = None
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        self.name = "nginx" if program else "http.server"
        if program:
            (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
            self.process = namespace.popen(program, "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf")
            deadline = time.monotonic() + 10
            while not (folder / "nginx.pid").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        else:
            self._start_python(namespace)

    def _start_python(self, namespace):
        lines = self.lines

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):          # noqa: N802, the name is given by http.server
                lines.append((self.client_address[1], 200, f"{self.requestline}|{self.headers.get('x-api-version', '')}"
                              f"|{self.headers.get('user-agent', '')}"))
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(200)
                self.send_header("Content-Length", "6")
                self.end_headers()
                self.wfile.write(b"hello\n")

            do_POST = do_GET           # noqa: N815

            def log_message(self, *unused):
                """Say nothing."""

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *unused):
                """Clients that vanish are what the tests are about."""

        self.servers = []
        for one in listening(namespace, 80):
            server = Quiet(one.getsockname()[:2], Handler, bind_and_activate=False)
            server.socket.close()
            server.socket = one
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.servers.append(server)

    def served(self):
        """[(client port, what was asked for)] of requests that the server has taken."""
        if self.process is None:
            return [(port, text) for port, _, text in list(self.lines)]
        rows = (line.split(" ", 2) for line in (self.folder / "access.log").read_text(errors="replace").splitlines())
        return [(int(port), text) for port, status, text in rows if status not in ("400", "408", "499", "000")]

    def close(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        for server in self.servers or ():
            server.shutdown()
            server.server_close()


class Secure:
    """A TLS server that greets whoever gets through the handshake; ``asked`` keeps the name of the hello by client port."""

    def __init__(self, namespace, port, cert, key):
        self.asked = {}
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.context.sni_callback = self._note
        self.listeners = listening(namespace, port)
        for one in self.listeners:
            threading.Thread(target=self._run, args=(one,), daemon=True).start()

    def _run(self, listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def _note(self, connection, name, _):
        self.asked[connection.getpeername()[1]] = name or ""

    def _greet(self, connection):
        connection.settimeout(10)
        with contextlib.suppress(OSError), connection, self.context.wrap_socket(connection, server_side=True) as secure:
            secure.sendall(b"hello\n")
            secure.unwrap()

    def close(self):
        for one in self.listeners:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Names:
    """A name server: every name has an address; ``asked`` keeps the names."""

    def __init__(self, namespace):
        self.asked = []
        self.sockets = listening(namespace, 53, socket.SOCK_DGRAM)
        self.listeners = listening(namespace, 53)
        for one in self.sockets:
            threading.Thread(target=self._datagrams, args=(one,), daemon=True).start()
        for one in self.listeners:
            threading.Thread(target=self._streams, args=(one,), daemon=True).start()

    def _answer(self, query):
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        self.asked.append(".".join(labels))
        record = struct.pack("!HHHIH", 0xc00c, 1, 1, 60, 4) + bytes([203, 0, 113, 7])
        return query[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0) + query[12:at + 5] + record

    def _datagrams(self, one):
        with contextlib.suppress(OSError):
            while True:
                query, peer = one.recvfrom(4096)
                if len(query) < 17:
                    return                 # shut down
                one.sendto(self._answer(query), peer)

    def _streams(self, one):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._stream, args=(one.accept()[0],), daemon=True).start()

    def _stream(self, connection):
        connection.settimeout(5)
        with connection, contextlib.suppress(OSError, struct.error, IndexError), connection.makefile("rb") as stream:
            query = stream.read(struct.unpack("!H", stream.read(2))[0])
            answer = self._answer(query)
            connection.sendall(struct.pack("!H", len(answer)) + answer)

    def close(self):
        for one in (*self.sockets, *self.listeners):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
