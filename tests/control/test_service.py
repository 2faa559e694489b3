"""The control socket: requests, answers, and clients that behave badly."""

import os
import selectors
import socket
import stat
import threading

import pytest

from tigerfox.control import service
from tigerfox.errors import InstanceError


@pytest.fixture
def server(tmp_path):
    """A service that echoes, turned by a thread; yields its path."""
    path = str(tmp_path / ("long" * 20) / "control.sock")
    os.mkdir(os.path.dirname(path))
    selector = selectors.DefaultSelector()
    serving = service.Service(path, selector, lambda request, client: client.answer({"echo": request}))
    ended = threading.Event()

    def turn():
        while not ended.is_set():
            for key, mask in selector.select(0.05):
                key.data(mask)
            serving.expire()

    thread = threading.Thread(target=turn)
    thread.start()
    yield path
    ended.set()
    thread.join()
    serving.close()
    selector.close()


def raw(path, data):
    """Send bytes, return all that comes back until the peer hangs up."""
    folder = os.open(os.path.dirname(path), os.O_PATH)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)
        try:
            peer.sendall(data)
        except BrokenPipeError:
            return b""
        try:
            return b"".join(iter(lambda: peer.recv(65536), b""))
        except ConnectionResetError:
            return b""


def test_ask(server):
    assert service.ask(server, {"do": "status"}, 20) == {"echo": {"do": "status"}}


def test_only_the_owner_reaches_it(server):
    assert stat.S_IMODE(os.stat(server).st_mode) == 0o600


@pytest.mark.parametrize("data", [b"nonsense\n", b"[1]\n", b"[" * 60000 + b"\n", b"\xff\xfe\n", b"x" * (service.REQUEST_BYTES + 10)])
def test_bad_requests_are_hung_up_on(server, data):
    assert raw(server, data) == b""
    assert service.ask(server, {"do": "status"}, 20) == {"echo": {"do": "status"}}


def test_silent_client_does_not_hold_others_up(server):
    folder = os.open(os.path.dirname(server), os.O_PATH)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)
        silent.send(b'{"do":')
        assert service.ask(server, {"do": "status"}, 20) == {"echo": {"do": "status"}}


def test_nobody_there(tmp_path):
    with pytest.raises(InstanceError, match="tigerfox start"):
        service.ask(str(tmp_path / "control.sock"), {"do": "status"}, 5)
