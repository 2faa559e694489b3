"""The control socket: one line of JSON asks, one line of JSON answers.

The server side never blocks its caller: reading, waiting and writing are bounded in time and size, and a client that
does neither is dropped. Only the owner of the run directory reaches the socket (mode 0600 in a 0700 directory).
"""

import contextlib
import json
import os
import selectors
import socket
import time

from tigerfox.errors import InstanceError, PrivilegeError

REQUEST_BYTES = 65536
ANSWER_BYTES = 16 << 20
CLIENT_SECONDS = 5.0                 # for sending a request and for taking an answer
MAX_CLIENTS = 32


def ask(path, request, timeout):
    """Send ``request`` (a dict) to the instance whose control socket is ``path``; return its answer, a dict.

    ``timeout`` is in seconds. Raises InstanceError when nobody answers, PrivilegeError when we may not ask.
    """
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout)
        try:
            with _short_path(path) as short:
                peer.connect(short)
            peer.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(_read_line(peer, deadline))
        except PermissionError as error:
            raise PrivilegeError(f"{path}: only its owner may talk to this instance. Use sudo.") from error
        except TimeoutError as error:
            mend = "See its log; `tigerfox status` still reads the counters."
            raise InstanceError(f"{path}: no answer within {timeout:g} s. {mend}") from error
        except (OSError, ValueError) as error:
            mend = "Start an instance with `tigerfox start`."
            raise InstanceError(f"{path}: nobody answers there ({error}). {mend}") from error


def _read_line(peer, deadline):
    chunks = []
    while not chunks or not chunks[-1].endswith(b"\n"):
        peer.settimeout(max(deadline - time.monotonic(), 0.001))
        chunk = peer.recv(65536)
        if not chunk:
            raise ConnectionError("it hung up")
        chunks.append(chunk)
    return b"".join(chunks)


@contextlib.contextmanager
def _short_path(path):
    """Yield a name of ``path`` that fits into a socket address (108 bytes), whatever the directory is called."""
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


class Client:
    """One connection on the server's side; ``answer`` ends it."""

    def __init__(self, peer, service):
        self.peer = peer
        self._service = service
        self._taken = b""
        self._left = b""
        self.deadline = time.monotonic() + CLIENT_SECONDS

    def answer(self, message):
        """Send ``message`` (a dict) and hang up when it is gone."""
        self._left = json.dumps(message).encode() + b"\n"
        self.deadline = time.monotonic() + CLIENT_SECONDS
        self._service.watch(self, selectors.EVENT_WRITE)

    def readable(self):
        """Take what is there; return a request when it is whole, else None."""
        chunk = self.peer.recv(REQUEST_BYTES)
        self._taken += chunk
        if not chunk or len(self._taken) > REQUEST_BYTES:
            raise ConnectionError("gone, or talks too much")
        if not self._taken.endswith(b"\n"):
            return None
        request = json.loads(self._taken)
        if not isinstance(request, dict):
            raise ValueError("a request is an object")
        self.deadline = float("inf")         # now it is we who take our time
        return request

    def writable(self):
        """Send what goes out; return whether all of it is gone."""
        self._left = self._left[self.peer.send(self._left):]
        return not self._left


class Service:
    """Listens at ``path`` and hands each request to ``handle(request, client)``; lives in a selector."""

    def __init__(self, path, selector, handle):
        self._selector = selector
        self._handle = handle
        self._clients = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        old = os.umask(0o177)
        try:
            with _short_path(path) as short:
                self._listener.bind(short)
        finally:
            os.umask(old)
        self._listener.listen(MAX_CLIENTS)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self, _):
        with contextlib.suppress(OSError):
            peer, _ = self._listener.accept()
            peer.setblocking(False)
            if len(self._clients) >= MAX_CLIENTS:
                peer.close()
                return
            client = Client(peer, self)
            self._clients.add(client)
            self._selector.register(peer, selectors.EVENT_READ, lambda mask: self._serve(client, mask))

    def _serve(self, client, mask):
        try:
            if mask & selectors.EVENT_WRITE:
                if client.writable():
                    self.drop(client)
                return
            request = client.readable()
        except BlockingIOError:
            return
        except (OSError, ValueError, RecursionError):
            self.drop(client)
            return
        if request is not None:
            self._selector.unregister(client.peer)
            self._handle(request, client)

    def watch(self, client, mask):
        """Wait until the client can be written to; a client that has gone in the meantime is forgotten."""
        if client in self._clients:
            self._selector.register(client.peer, mask, lambda ready: self._serve(client, ready))

    def drop(self, client):
        """Hang up on a client."""
        self._clients.discard(client)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.peer)
        client.peer.close()

    def expire(self):
        """Hang up on clients whose time is over."""
        now = time.monotonic()
        for client in [client for client in self._clients if client.deadline < now]:
            self.drop(client)

    def forget(self):
        """Close the descriptors in a forked child."""
        self._listener.close()
        for client in self._clients:
            client.peer.close()

    def flush(self, seconds):
        """Give answers that are under way ``seconds`` to go out."""
        deadline = time.monotonic() + seconds
        while self._clients and time.monotonic() < deadline:
            for key, mask in self._selector.select(0.05):
                if key.data is not None and key.fileobj is not self._listener:
                    key.data(mask)

    def close(self):
        """Hang up on everybody and stop listening."""
        for client in list(self._clients):
            self.drop(client)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._listener)
        self._listener.close()
