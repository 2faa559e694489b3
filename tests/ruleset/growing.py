"""Messages that grow segment by segment, and messages that are cut: makers of the captures, the rules that look at them."""

import gzip
import struct
import sys
from pathlib import Path

from exchanges import question

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
import hellos  # noqa: E402

POST = b"POST /form HTTP/1.1\r\nHost: www.example.org\r\n"
GET = b"GET /form HTTP/1.1\r\nHost: www.example.org\r\nAccept: */*\r\n\r\n"
OK = (False, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")
HELLO = hellos.record(hellos.client_hello(hellos.sni(b"evil.example.org")))
QUERY = struct.pack("!H", len(question("evil.example.org"))) + question("evil.example.org")
PAGE = gzip.compress(b"<html>" + b"hello " * 2000 + b"bad</html>", mtime=0)

RULES = {
    1: ("http", 'http.request_body; content:!"evil";'),
    2: ("http", 'http.request_body; content:"user"; content:!"evil";'),
    3: ("http", 'http.request_body; content:"user"; content:!"evil"; distance:0; within:30;'),
    4: ("http", 'http.request_body; content:"user"; pcre:!"/evil/";'),
    5: ("http", 'http.request_body; content:"user"; isdataat:!10,relative;'),
    6: ("http", "http.request_body; bsize:<9;"),
    7: ("http", 'http.request_body; content:"evil"; endswith;'),
    8: ("http", 'http.uri; content:"/form"; http.request_body; content:!"user";'),
    9: ("http", 'file.data; content:"<html"; content:!"</html>";'),
    10: ("http", 'http.response_body; content:!"bad";'),
    11: ("http", 'http.request_line; content:"GET";'),
    12: ("http", 'http.uri; content:!"evil";'),
    13: ("http", 'flow:to_server; http.header; content:!"X-Evil";'),
    14: ("http", 'http.header; content:"Accept";'),
    15: ("http", 'http.host; content:"example";'),
    16: ("http", 'http.stat_code; content:"200";'),
    21: ("tcp", 'content:"user"; content:!"evil";'),
    22: ("tcp", 'content:"user"; content:!"evil"; distance:0; within:20;'),
    23: ("tcp", 'flow:to_server; content:"="; content:!"user";'),
    24: ("tcp", 'content:"user"; pcre:!"/evil/R";'),
    31: ("tls", 'tls.sni; content:!"good";'),
    32: ("tls", 'tls.sni; content:"example.org"; endswith;'),
    33: ("tls", 'ja3.hash; content:!"00000000000000000000000000000000";'),
    34: ("dns", 'dns.query; content:!"good";'),
    35: ("ssh", 'ssh.software; content:!"good";'),
}


def rules_text():
    """The rules, those on the stream for port 9000 alone."""
    return "".join(f'alert {protocol} any any -> any any (msg:"{sid}"; {options} sid:{sid};)\n' if protocol != "tcp" else
                   f'alert tcp any any <> any 9000 (msg:"{sid}"; {options} sid:{sid};)\n'
                   for sid, (protocol, options) in RULES.items())


def http(*turns):
    return "tcp", 80, False, list(turns)


def body(*pieces, size=None, answer=True):
    """A POST whose body comes in pieces, each a segment of its own; ``size`` is what its head says."""
    size = sum(map(len, pieces)) if size is None else size
    turns = [(True, POST + b"Content-Length: %d\r\n\r\n" % size), *((True, piece) for piece in pieces)]
    return http(*turns, *([OK] if answer else []))


def chunked(*pieces):
    """The same in chunks, as they are given."""
    return http((True, POST + b"Transfer-Encoding: chunked\r\n\r\n"), *((True, piece) for piece in pieces))


def page(*pieces, head=b"", size=None):
    """A response in pieces; without ``size`` it goes on to the connection's end."""
    length = b"" if size is None else b"Content-Length: %d\r\n" % size
    return http((True, GET), (False, b"HTTP/1.1 200 OK\r\n" + head + length + b"\r\n"), *((False, piece) for piece in pieces))


def packed(*pieces):
    return page(*pieces, head=b"Content-Encoding: gzip\r\n", size=len(PAGE))


def client(port, *pieces):
    """What a client sends, in pieces."""
    return "tcp", port, False, [(True, piece) for piece in pieces]
