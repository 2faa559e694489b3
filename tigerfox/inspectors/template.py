"""``tigerfox inspector new NAME``: an inspector to begin with, its rule, and a test of both that passes as written."""

import importlib.util
import keyword
import re
from pathlib import Path

from tigerfox.errors import UsageError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")

CODE = '''\
"""The inspector {name}: what it is for, in a sentence.

    tigerfox replay capture.pcap --rules {module}.rules --inspector {name}={module}:inspect
    sudo tigerfox start --queues 0:1 --iptables --rules {module}.rules --inspector {name}={module}:inspect

{module}.rules says which packets come here; the narrower it is, the less this costs. A class, whose objects are called like this
function, gets options of its own: --inspector {name}={module}:Inspector,limit=20.
"""

from tigerfox.inspectors import Answer, Packet, block

LIMIT = 3                            # words of a connection; then its source is blocked
SECONDS = 600


def inspect(packet: Packet) -> Answer | None:
    """Judge one packet: None accepts it, DROP drops it, block(scope, seconds) drops it and what follows."""
    if b"forbidden" not in packet.payload.lower():
        return None
    # packet.flow is a dictionary that is kept for the connection. It is bounded and expires: be ready to find it empty. For
    # another key than the connection there is tigerfox.inspectors.flowstates.States.
    packet.flow["words"] = packet.flow.get("words", 0) + 1
    # packet.src, .dst, .sport, .dport, .time, .sid and .to_server are at hand; packet.ip is what dpkt makes of it.
    if packet.flow["words"] < LIMIT:
        return None
    return block("source", SECONDS)
'''

RULE = '''\
# What the inspector {name} is asked about. Numbers from 1000000 to 1999999 are for rules of your own.

alert tcp any any -> any any (msg:"asks {name}"; flow:established,to_server; content:"forbidden"; \
nocase; noalert; inspect:{name}; sid:1000001; rev:1;)
'''

TEST = '''\
"""pytest {test}: the inspector alone, and with its rule on a capture."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import {module}
from tigerfox.inspectors import Packet

HERE = Path(__file__).resolve().parent
CLIENT, SERVER = b"\\x0a\\0\\0\\1", b"\\x0a\\0\\0\\2"


def tcp(data, seq=1, flags=0x18, answer=False):
    """A TCP packet of the one connection here, from the IP header on."""
    ends = (SERVER, CLIENT) if answer else (CLIENT, SERVER)
    ports = (80, 4000) if answer else (4000, 80)
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 1, 0, 64, 6, 0, *ends)
    return head + struct.pack(">HHIIBBHHH", *ports, seq, 1, 0x50, flags, 8192, 0, 0) + data


def judge(*payloads):
    """What the inspector answers to packets of one connection."""
    flow = {{}}
    return [{module}.inspect(Packet.of(tcp(payload), flow=flow)) for payload in payloads]


def test_other_words_pass():
    assert judge(*[b"a word"] * 10) == [None] * 10


def test_the_third_word_blocks_the_source():
    *before, last = judge(*[b"Forbidden"] * 3)
    assert before == [None, None]
    assert (last.accepts, last.scope, last.seconds) == (False, "source", {module}.SECONDS)


def test_the_rule_hands_them_over(tmp_path):
    packets = [tcp(b"", 0, 0x02), tcp(b"", 0, 0x12, answer=True), *(tcp(b"forbidden", 1 + 9 * number) for number in range(5))]
    capture = struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101)
    for second, packet in enumerate(packets):
        capture += struct.pack("<IIII", 1700000000 + second, 0, len(packet), len(packet)) + packet
    (tmp_path / "made.pcap").write_bytes(capture)
    command = [sys.executable, "-m", "tigerfox", "replay", tmp_path / "made.pcap", "--json", "--rules", HERE / "{module}.rules",
               "--inspector", "{name}={module}:inspect"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    drops = [json.loads(line)["drop"]["reason"] for line in done.stdout.splitlines()]
    assert drops == ["inspector", "blocked_source", "blocked_source"]
'''


def write(name, folder="."):
    """Write the three files of an inspector ``name`` into ``folder`` and return their paths. Raises UsageError, and writes none,
    where the name will not do or a file is there.
    """
    module = _module(name)
    texts = {f"{module}.py": CODE, f"{module}.rules": RULE, f"test_{module}.py": TEST}
    paths = [Path(folder, file) for file in texts]
    if not Path(folder).is_dir():
        raise UsageError(f"there is no folder {folder}. Make it (mkdir -p {folder}), or name another with --folder.")
    if there := [str(path) for path in paths if path.exists()]:
        raise UsageError(f"{' and '.join(there)} would be overwritten. Choose another name, or another place with --folder.")
    for path, text in zip(paths, texts.values(), strict=True):
        try:
            path.write_text(text.format(name=name, module=module, test=f"test_{module}.py"), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}). Name a place of your own with --folder.") from error
    return paths


def _module(name):
    """The module's name for an inspector; UsageError for one that cannot be imported under it, or that hides another."""
    module = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(module):
        raise UsageError(f"{name[:50]!r} is no name for an inspector. Begin with a letter and write letters, digits, - and _, as "
                         "dns-tunnel; not a word of Python.")
    found = importlib.util.find_spec(module)
    if found is not None and Path(found.origin or "").parent != Path.cwd():
        raise UsageError(f"{module}.py would hide Python's own module {module}. Choose another name, as my-{name}.")
    return module


def said(name, paths):
    """Return what to do next, as text."""
    code, rules, test = paths
    return (f"wrote {code}, {rules} and {test}. In {code.parent.resolve()}:\n"
            f"  {'python -m pytest ' + test.name:50}  passes as it is\n"
            f"  tigerfox replay CAPTURE --rules {rules.name} --inspector {name}={code.stem}:inspect")
