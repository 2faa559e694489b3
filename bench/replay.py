"""Packets a second of `replay` over real HTTP traffic, with few content rules and with many, beside Suricata 7.

wrk and an HTTP server (nginx, else Python's) talk between namespaces until a capture of the wanted size is there: keep-alive and
short connections, several sizes, both directions. Each arm reads that capture alone on one core, turn by turn; the time of the same
arm over an empty capture is taken off, so that loading rules does not count. Reported: medians, and ratios within a round.

    python -m bench.replay [--packets 500000] [--rules FILE ...] [--rounds 3] [--json FILE]

`--rules` names the many rules (an Emerging Threats file, say), loaded leniently. Suricata takes part where it is installed.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.machine import machine
from bench.topology import Topology
from tigerfox.errors import MissingError, TigerFoxError

ROOT = Path(__file__).resolve().parent.parent
FEW = ROOT / "rules" / "bench-24-content.rules"
SERVER = "10.71.2.2"
SIZES = (200, 4_000, 40_000)         # bytes of the pages
PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
NGINX = """daemon off; pid {folder}/pid; error_log stderr crit; events {{}}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
uwsgi_temp_path {folder}; scgi_temp_path {folder}; keepalive_requests 200; server {{ listen 80; root {folder}; }} }}
"""


def need(*tools):
    """Raise MissingError for the first tool that is not there."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise MissingError(f"{tool} makes the traffic of this bench. Install it: apt-get install {tool}")


def serve(lab, folder):
    """Start an HTTP server over pages of SIZES; its process."""
    for size in SIZES:
        Path(folder, f"{size}.html").write_bytes(b"<p>fox</p>" * (size // 10))
    if shutil.which("nginx"):
        Path(folder, "nginx.conf").write_text(NGINX.format(folder=folder))
        return lab.server.popen("nginx", "-c", f"{folder}/nginx.conf", "-e", "stderr", "-p", folder)
    return lab.server.popen(sys.executable, "-m", "http.server", "-d", folder, "--protocol", "HTTP/1.1", "80",
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def packets_of(path, count=0, at=24):
    """(packets of a pcap as tcpdump writes it, offset behind the last); goes on from what it said before."""
    with open(path, "rb") as capture:
        size = os.fstat(capture.fileno()).st_size
        while at + 16 <= size:
            capture.seek(at + 8)
            behind = at + 16 + struct.unpack("<I", capture.read(4))[0]
            if behind > size:
                break
            count, at = count + 1, behind
    return count, at


def record(path, wanted):
    """Record HTTP traffic of at least ``wanted`` packets to ``path``; returns how many there are."""
    need("wrk", "tcpdump")
    with tempfile.TemporaryDirectory() as folder, Topology(gso=False) as lab:
        os.chmod(folder, 0o755)
        server = serve(lab, folder)
        dump = lab.firewall.popen("tcpdump", "-i", "to1", "-w", path, "-B", "65536", "-s", "0", "-U", "-Z", "root", "tcp",
                                  stderr=subprocess.DEVNULL)
        try:
            time.sleep(1.0)
            there = 0, 24
            while there[0] < wanted:
                for size in SIZES:
                    load = ["wrk", "-t", "1", "-c", "20", f"http://{SERVER}/{size}.html"]
                    lab.client.run(*load, "-d", "2s")
                    lab.client.run(*load, "-d", "1s", "-H", "Connection: close")
                there = packets_of(path, *there)
        finally:
            for process in (dump, server):
                process.send_signal(signal.SIGTERM)
                process.wait()
    return packets_of(path, *there)[0]


def tigerfox(path, rules):
    """The command of our arm."""
    return [sys.executable, "-m", "tigerfox", "replay", path, "--lenient", *(part for file in rules for part in ("--rules", file))]


def suricata(path, rules, folder):
    """The command of Suricata's arm."""
    joined = Path(folder, "suricata.rules")
    joined.write_text("".join(Path(file).read_text(errors="surrogateescape") for file in rules), errors="surrogateescape")
    return ["suricata", "-r", path, "-S", str(joined), "-l", folder, "-k", "none", "--runmode", "single", "--simulate-ips"]


def seconds(command):
    """Seconds that a command takes on the first CPU."""
    begin = time.perf_counter()
    done = subprocess.run(["taskset", "-c", "0", *map(str, command)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise TigerFoxError(f"{command[0]}: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - begin


def arms(many):
    """(name, function of path and folder that gives the command) of every arm."""
    sets = {"24 content rules": [FEW], **({"many rules": many} if many else {})}
    found = []
    for name, rules in sets.items():
        found.append((f"TigerFox, {name}", lambda path, folder, rules=rules: tigerfox(path, rules)))
        if shutil.which("suricata"):
            found.append((f"Suricata, {name}", lambda path, folder, rules=rules: suricata(path, rules, folder)))
    return found


def bench(path, packets, many, rounds):
    """Packets a second of every arm, a list by name."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        empty = str(Path(folder, "empty.pcap"))
        Path(empty).write_bytes(PCAP_HEADER)
        for turn in range(rounds + 1):
            for name, command in arms(many):
                spent = seconds(command(path, folder)) - seconds(command(empty, folder))
                if turn:             # the first round warms caches up
                    figures.setdefault(name, []).append(packets / spent)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=500_000)
    parser.add_argument("--rules", action="append", default=[], metavar="FILE", help="the many rules")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - for standard output")
    chosen = parser.parse_args()
    many = [str(Path(file).resolve()) for file in chosen.rules]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "http.pcap"))
        packets = record(path, chosen.packets)
        size = Path(path).stat().st_size
        figures = bench(path, packets, many, chosen.rounds)
    medians = {name: round(statistics.median(found)) for name, found in figures.items()}
    ratios = {name: round(statistics.median(a / b for a, b in zip(found, figures[name.replace("TigerFox", "Suricata")])), 2)
              for name, found in figures.items() if name.startswith("TigerFox") and name.replace("TigerFox", "Suricata") in figures}
    result = {"bench": "replay", "rounds": chosen.rounds, "machine": machine(), "packets": packets, "bytes": size,
              "rules": [Path(file).name for file in many], "packets_per_second": medians, "ratio_to_suricata": ratios}
    if chosen.json:
        text = json.dumps(result, indent=1) + "\n"
        sys.stdout.write(text) if chosen.json == "-" else Path(chosen.json).write_text(text)
    if chosen.json != "-":
        print(f"{packets:,} packets, {size / 1e6:,.0f} MB")
        for name, figure in medians.items():
            print(f"{name:32}{figure:12,} packets/s" + (f"   {ratios[name]:.2f} x Suricata" if name in ratios else ""))


if __name__ == "__main__":
    main()
