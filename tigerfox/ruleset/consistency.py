"""What the tests of a rule say together: whether they can hold at once, in which direction, in packets or in the stream.

Each check takes the finished Draft and refuses at the option that is wrong, as Suricata 7.0 does.
"""

import re

from tigerfox.ruleset.buffers import HEADERS
from tigerfox.ruleset.rule import Flow, Refusal

EITHER_END = frozenset(("tls.cert_subject", "tls.cert_issuer", "tls.cert_serial", "tls.cert_fingerprint", "tls.certs"))
_NUMBERS = re.compile(r"([0-9]+)\s*(k|m|g)?i?b?\s*\Z", re.I)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def check(draft):
    """Note everything that is wrong in the Draft, and settle the direction and what the payload is."""
    draft.body.check_opened(draft)
    for chain in draft.body.chains:
        _check_values(draft, chain)
        _check_transforms(draft, chain)
        _check_bsize(draft, chain)
        _check_urilen(draft, chain)
    _check_dsize(draft)
    _settle_direction(draft)
    _settle_payload(draft)


def _refuse(draft, option, message):
    draft.refuse(Refusal(message), option.offset, option.name)


def _check_values(draft, chain):
    """Buffers whose text has one form take no content of another."""
    verify = _VALUES.get(chain.buffer)
    if verify is None:
        return
    for found, option in chain.patterns():
        try:
            if option.name != "tls.fingerprint":
                verify(found)
        except Refusal as refusal:
            draft.refuse(refusal, option.offset, option.name)


def _host(found):
    if found.nocase:
        raise Refusal("http.host is in lower case, so nocase says nothing; take it away")
    if found.pattern != found.pattern.lower():
        raise Refusal("http.host is in lower case; write the content in lower case")


def _method(found):
    if found.pattern[:1] in b" \t" or found.pattern[-1:] in b" \t":
        raise Refusal("a method has no blank before or behind it; take the blank away")


def _ja3(found):
    found.pattern = found.pattern.lower()
    size = len(found.pattern)
    if size != 32:
        raise Refusal(f"a JA3 hash has 32 characters, this has {size}; write the whole hash")


def _fingerprint(found):
    found.pattern = found.pattern.lower()
    if len(found.pattern) != 59 or b":" not in found.pattern:
        raise Refusal("a fingerprint is 20 pairs of digits with a : between; write all 59 characters")


def _serial(found):
    found.pattern = found.pattern.upper()
    found.nocase = False
    if b":" not in found.pattern and len(found.pattern) > 2:
        raise Refusal("a serial number is written in pairs of digits with a : between; write it like 0A:1B")


_VALUES = {"http.host": _host, "http.method": _method, "ja3.hash": _ja3, "ja3s.hash": _ja3, "tls.cert_fingerprint": _fingerprint,
           "tls.cert_serial": _serial}


def _check_transforms(draft, chain):
    for name in chain.transforms:
        wrong = _TRANSFORMED.get(name)
        for found, option in chain.patterns() if wrong else ():
            if wrong(found.made().pattern):
                _refuse(draft, option, f"{name} leaves no such bytes in the buffer; write the content as it looks after {name}")


_TRANSFORMED = {
    "to_lowercase": lambda pattern: pattern != pattern.lower(),
    "to_uppercase": lambda pattern: pattern != pattern.upper(),
    "strip_whitespace": lambda pattern: bool(re.search(rb"\s", pattern)),
    "compress_whitespace": lambda pattern: bool(re.search(rb"\s\s", pattern)),
}


def largest(value):
    """Return the largest size that a comparison's text names, or None where there is no bound."""
    match = _NUMBERS.search(value)
    if not match or value.startswith((">", "!")):
        return None
    return int(match[1]) * _UNITS[(match[2] or "").lower()]


def _needed(chain, most):
    """Return the bytes that the contents need; one that may not be there counts by its distance and within, as in Suricata."""
    end = needed = 0
    for found, _ in chain.patterns():
        distance = found.distance if isinstance(found.distance, int) else 0
        if found.negated:
            within = found.within if isinstance(found.within, int) else 0
            if end + distance + within > most:
                return end + distance + within
            continue
        start = end + distance if found.relative else found.offset if isinstance(found.offset, int) else 0
        end = start + len(found.pattern)
        needed = max(needed, end)
    return needed


def _check_bsize(draft, chain):
    for step in chain.steps:
        if step.kind == "bsize":
            most = largest(step.option.value)
            if most is None:
                continue
            needed = _needed(chain, most)
            if needed > most:
                _refuse(draft, step.option, f"the contents of {chain.buffer} need {needed} bytes, so it never matches; "
                        f"write bsize:{needed} or more")


def _check_urilen(draft, chain):
    """No content of the URI may be longer than its length; a negated one neither, as in Suricata."""
    for step in chain.steps:
        most = largest(step.option.value.split(",")[0].strip()) if step.kind == "urilen" else None
        if most is None:
            continue
        most += step.test.high != most
        needed = max((len(found.pattern) for found, _ in chain.patterns()), default=0)
        if needed > most:
            _refuse(draft, step.option, f"a content of {chain.buffer} has {needed} bytes, so it never matches; "
                    f"write urilen:{needed} or more")


def _check_dsize(draft):
    if "dsize" not in draft.keywords:
        return
    option = draft.keywords["dsize"][1][0]
    most = largest(option.value or ">")
    for chain in draft.body.chains:
        if chain.buffer == "payload" and most is not None:
            needed = _needed(chain, most)
            if needed > most:
                _refuse(draft, option, f"the contents need {needed} bytes, so it never matches; "
                        f"write dsize:{needed} or more")


def _sides(draft):
    """Return a buffer of each side that the rule has, and its first option: {side: (buffer, option)}."""
    found = {}
    for chain in draft.body.chains:
        found.setdefault("both" if chain.buffer in EITHER_END else chain.row.side, (chain.buffer, chain.steps[0].option))
    if draft.body.answered:
        found.setdefault("response", ("http.response_body", draft.body.answered))
    return found


def _settle_direction(draft):
    """A rule with buffers of requests alone goes to the server, with those of responses to the client."""
    sides = _sides(draft)
    if "request" in sides and "response" in sides:
        (other, _), (buffer, option) = sorted((sides["request"], sides["response"]), key=lambda one: one[1].offset)
        _refuse(draft, option, f"{buffer} and {other} never stand in one message; write two rules, with flowbits between them")
        return
    for side, direction in (("request", "to_server"), ("response", "to_client")):
        if side in sides:
            buffer, option = sides[side]
            said = draft.flow.direction if draft.flow else None
            if said not in (None, direction):
                _refuse(draft, option, f"{buffer} is in {side}s alone, but flow says {said}; write flow:{direction}")
            elif said is None:
                flow = draft.flow or Flow()
                draft.flow = Flow(direction, flow.state, flow.data, flow.fragments)
    if draft.flow and draft.flow.direction == "to_server":
        _warn_certificates(draft)


def _warn_certificates(draft):
    for chain in draft.body.chains:
        if chain.buffer in EITHER_END:
            draft.option = chain.steps[0].option
            draft.warn(f"{chain.buffer}: certificates of clients are not read yet, so a rule to the server never matches; "
                       "write flow:to_client", "never matches")
            return


def _of_packet(draft):
    """Return the first option that tests a packet's header."""
    found = [options[0] for row, options in draft.keywords.values() if row.field]
    found += [chain.steps[0].option for chain in draft.body.chains if chain.buffer in HEADERS]
    return min(found, key=lambda option: option.offset)


def _settle_payload(draft):
    """Packets or stream: as Suricata's flags for it come about."""
    headers = any(chain.buffer in HEADERS for chain in draft.body.chains)
    unstreamed = draft.flow is not None and draft.flow.data == "no_stream"
    packet = headers or bool(draft.conditions) or draft.payload == "packet" or unstreamed
    stream = draft.payload == "stream" or draft.flow is not None and draft.flow.data == "only_stream"
    if packet and stream:
        where = draft.keywords["flow"][1][0] if draft.flow and draft.flow.data else _of_packet(draft)
        _refuse(draft, where, "tests of packets do not go with tcp-stream or flow:only_stream; take one of the two away")
    apps = [chain for chain in draft.body.chains if chain.row.app]
    if packet and apps:
        _refuse(draft, apps[0].steps[0].option,
                f"{apps[0].buffer} is put together from the stream and does not go with tests of one packet (flags, dsize, ttl "
                "and the like, tcp-pkt, no_stream); take those away")
    if packet:
        draft.payload = "packet"
    elif stream:
        draft.payload = "stream"
    else:
        anchored = any(found.absolute for chain in draft.body.chains if chain.buffer == "payload" for found, _ in chain.patterns())
        sized = draft.stream_sizes and any(chain.buffer == "payload" for chain in draft.body.chains)
        draft.payload = "both" if anchored or sized else "any"
