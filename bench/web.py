"""An HTTP server behind the firewall and wrk before it."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.filters import end, need
from bench.topology import SERVER4
from tigerfox.errors import TigerFoxError

CONNECTIONS = 100
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
NGINX = """daemon off; pid {folder}/pid; error_log stderr crit; worker_processes 1; events {{ worker_connections 4096; }}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests {keepalive};
open_file_cache max=100; server {{ listen 80 backlog=4096; root {folder}; }} }}
"""


@contextlib.contextmanager
def server(lab, sizes, keepalive=1_000_000, priority=()):
    """Serve pages SIZE.html of the sizes given: nginx, else Python's server. ``priority`` goes before the command."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for size in sizes:
            Path(folder, f"{size}.html").write_bytes((b"<p>fox</p>" * (size // 10 + 1))[:size])
        process = _serve(lab, folder, keepalive, priority)
        try:
            _wait(lab, sizes[0])
            yield process
        finally:
            end(process)


def _serve(lab, folder, keepalive, priority):
    try:
        need("nginx")
    except TigerFoxError:
        return lab.server.popen(*priority, sys.executable, "-m", "http.server", "-d", folder, "--protocol", "HTTP/1.1", "80",
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Path(folder, "nginx.conf").write_text(NGINX.format(folder=folder, keepalive=keepalive))
    return lab.server.popen(*priority, "nginx", "-c", f"{folder}/nginx.conf", "-e", "stderr", "-p", folder)


def _wait(lab, size):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with lab.client.entered(), contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://{SERVER4}/{size}.html", timeout=1).read()
            return
        time.sleep(0.05)
    raise TigerFoxError("the HTTP server did not answer within 10 s")


def load(lab, size, seconds, connections=CONNECTIONS, close=False, priority=()):
    """Run wrk, behind ``priority``; requests/s, latency in milliseconds and errors, by name."""
    need("wrk")
    head = ["-H", "Connection: close"] if close else []
    said = lab.client.run(*priority, "wrk", "-t", 1, "-c", connections, "-d", f"{max(1, round(seconds))}s", "--latency", *head,
                          f"http://{SERVER4}/{size}.html").stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if rate is None:
        raise TigerFoxError(f"wrk gave no figure: {said[-300:]}")
    delays = {f"p{mark}_ms": round(float(value) * UNITS[unit], 3)
              for mark, value, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", said, re.M)}
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return {"per_second": float(rate[1]), **delays, "errors": sum(map(int, errors.groups())) if errors else 0,
            "refused": int(bad[1]) if bad else 0}
