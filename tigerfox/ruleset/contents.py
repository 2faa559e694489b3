"""content and what stands behind it: where it may lie, how it is compared, which buffer it is looked for in.

Every function takes the Draft and the option's value without its quotes, and raises Refusal. What is refused follows Suricata
7.0; a modifier belongs to the content before it.
"""

import re

from tigerfox.ruleset.body import Pattern
from tigerfox.ruleset.rule import Refusal

FARTHEST = 1 << 20               # distance and within
LONGEST = 0xFFFF                 # depth, offset and the pattern itself
_ESCAPE = re.compile(r"\\(.?)|\"", re.S)
_NOT_HEX = re.compile(r"[^0-9a-fA-F ,]")
_NUMBER = re.compile(r"[-+]?[0-9]{1,10}\Z")
_CHOP = re.compile(r"([0-9]{1,5})\s*,\s*([0-9]{1,5})\Z")
_CONTENT = frozenset(("content",))
_MIXED = "distance and within do not go with depth, offset and startswith on one content; take the one or the other away"


def read_pattern(text):
    """Return the bytes of a content's text: |41 42| are hexadecimal, \\ stands before ; : \" and itself."""
    if "|" not in text and "\\" not in text and '"' not in text:
        return text.encode("utf-8", "surrogateescape")
    pieces, made, at = text.split("|"), b"", 0
    if len(pieces) % 2 == 0:
        raise Refusal("this | has no second one; write |41 42| for bytes and |7C| for a | itself", text.rindex("|"))
    for index, piece in enumerate(pieces):
        made += _hexadecimal(piece, at) if index % 2 else _plain(piece, at)
        at += len(piece) + 1
    return made


def _hexadecimal(piece, at):
    wrong = _NOT_HEX.search(piece)
    if wrong:
        raise Refusal(f"{wrong[0]!r} between | and | is not hexadecimal; write two digits 0-9 a-f for each byte",
                      at + wrong.start())
    digits = piece.replace(" ", "").replace(",", "")
    if len(digits) % 2:
        raise Refusal(f"{piece[:40]!r} has half a byte; write two hexadecimal digits for each byte", at)
    return bytes.fromhex(digits)


def _plain(piece, at):
    def one(match):
        if match[0] == '"':
            raise Refusal('a " inside the quotes; write \\" or |22|', at + match.start())
        if not match[1] or match[1] not in ';:"\\':
            raise Refusal(f"{match[0]!r}: a \\ stands before ; : \" and \\ alone; write |5C| for a \\ that is meant",
                          at + match.start())
        return match[1]

    return _ESCAPE.sub(one, piece).encode("utf-8", "surrogateescape")


def content(draft, value):
    """`[!]"BYTES"`."""
    draft.body.add("content", _pattern(draft, value), draft.option)


def _pattern(draft, value):
    pattern = read_pattern(value)
    if not pattern:
        raise Refusal(f'nothing is looked for; write bytes between the quotes, e.g. {draft.option.name}:"abc"')
    if len(pattern) > LONGEST:
        raise Refusal(f"{len(pattern)} bytes are too many; write at most {LONGEST}")
    return Pattern(pattern, draft.negated)


def uricontent(draft, value):
    """The old name of content with http_uri."""
    if draft.body.sticky:
        raise Refusal(f"does not go with the sticky buffer {draft.body.sticky}; write http.uri; content:\"...\"")
    draft.set_app("http")
    draft.body.add("content", _pattern(draft, value), draft.option, draft.body.chain_of("http.uri"))


def _target(draft, name):
    """The content that a modifier belongs to, as a Step."""
    step = draft.body.last(_CONTENT)
    if step is None:
        raise Refusal(f"no content stands before it; write content:\"...\"; {name}...; in this order")
    return step


def _position(draft, name, relative):
    step = _target(draft, name)
    found = step.test
    if getattr(found, name) is not None:
        raise Refusal(f"stands twice behind one content; write one {name}")
    if found.absolute if relative else found.relative:
        raise Refusal(_MIXED)
    if found.startswith:
        raise Refusal(f"{name} does not go with startswith; take one of the two away")
    if found.only:
        raise Refusal("does not go with fast_pattern:only; write fast_pattern alone")
    if found.negated and found.fast:
        raise Refusal("does not go with fast_pattern on a negated content; take fast_pattern away")
    return step


def number_or_name(draft, value, low, high, what):
    """Return an integer, or the name of a variable that a byte_extract or byte_math before it sets."""
    if value[:1].isalpha():
        if value not in draft.body.names:
            raise Refusal(f"{value[:40]!r} is set nowhere before it; write a number, or byte_extract:...,{value[:40]}; before it")
        return value
    number = int(value) if value.isascii() and _NUMBER.match(value) else high + 1
    if not low <= number <= high:
        raise Refusal(f"{value[:40]!r} is not {what}; write a number from {low} to {high}, or a variable's name")
    return number


def depth(draft, value):
    """The pattern lies within this many bytes, from the offset on."""
    step = _position(draft, "depth", False)
    found = number_or_name(draft, value, 0, LONGEST, "a depth")
    _check_room(found, step.test, "depth")
    step.test.depth = found


def offset(draft, value):
    """The pattern does not begin before this byte."""
    step = _position(draft, "offset", False)
    step.test.offset = number_or_name(draft, value, 0, LONGEST, "an offset")


def distance(draft, value):
    """The pattern begins at least this far behind the end of the match before."""
    step = _position(draft, "distance", True)
    step.test.distance = number_or_name(draft, value, -FARTHEST, FARTHEST, "a distance")
    _check_before(draft, step)


def within(draft, value):
    """The pattern lies within this many bytes behind the match before (and its distance)."""
    step = _position(draft, "within", True)
    found = number_or_name(draft, value, -FARTHEST, FARTHEST, "a number of bytes")
    _check_room(found, step.test, "within")
    step.test.within = found
    _check_before(draft, step)


def _check_room(found, pattern, name):
    size = len(pattern.pattern)
    if isinstance(found, int) and found < size:
        raise Refusal(f"{found} is smaller than the content's {size} bytes, so it never matches; write {name}:{size} or more")


def _check_before(draft, step):
    other = draft.body.before(step)
    if other is not None and other.kind == "content" and other.test.only:
        raise Refusal("the content before it has fast_pattern:only, which leaves no place to count from; "
                      "write fast_pattern there")


def startswith(draft, value):
    """The pattern stands at the beginning."""
    found = _target(draft, "startswith").test
    if found.startswith:
        raise Refusal("stands twice behind one content; write it once")
    if found.absolute or found.relative:
        raise Refusal("does not go with depth, offset, distance and within; take them away")
    found.startswith = True


def endswith(draft, value):
    """The pattern stands at the end."""
    _target(draft, "endswith").test.endswith = True


def nocase(draft, value):
    """Upper and lower case are equal."""
    found = _target(draft, "nocase").test
    if found.nocase:
        raise Refusal("stands twice behind one content; write it once")
    found.nocase = True


def rawbytes(draft, value):
    """Nothing in Suricata 7: the payload is always as it was sent."""
    found = _target(draft, "rawbytes").test
    if draft.body.sticky:
        raise Refusal(f"does not go with the sticky buffer {draft.body.sticky}; take it away")
    if found.raw:
        raise Refusal("stands twice behind one content; write it once")
    found.raw = True


def fast_pattern(draft, value):
    """Nothing, `only`, or `FIRST,LENGTH`: this content (or a part of it) is what the scan looks for."""
    step = _target(draft, "fast_pattern")
    found, size = step.test, len(step.test.pattern)
    if found.negated and (found.relative or found.absolute):
        raise Refusal("a negated content with depth, offset, distance or within cannot be it; write it behind another content")
    for other in draft.body.steps:
        if other.kind == "content" and other.test.fast:
            raise Refusal("one content of a rule alone can be it; take this or the other fast_pattern away")
    if not value:
        found.fast = 0, size
    elif value == "only":
        if found.negated or found.relative or found.absolute:
            raise Refusal("only does not go with a negated content, nor with depth, offset, distance and within; "
                          "write fast_pattern alone")
        found.fast, found.only = (0, size), True
    else:
        found.fast = _chopped(value, size)


def _chopped(value, size):
    match = _CHOP.match(value)
    if not match:
        raise Refusal(f"{value[:40]!r} is not a part of the content; "
                      f"write fast_pattern, fast_pattern:only or fast_pattern:0,{size}")
    first, length = int(match[1]), int(match[2])
    if first + length > size or not length:
        raise Refusal(f"{first},{length} is not inside the content's {size} bytes; write fast_pattern:0,{size} or less")
    return first, length


def prefilter(draft, value):
    """The test before it is what is looked for first: a hint, which a content alone can follow."""
    last = draft.last_keyword
    if last is None:
        raise Refusal("no test stands before it; write it behind one")
    if last not in PREFILTERS:
        raise Refusal(f"does not go with {last}; write it behind one of {' '.join(sorted(PREFILTERS))}")
    step = draft.body.last(_CONTENT)
    if last in ("content", "uricontent") and not any(one.kind == "content" and one.test.fast for one in draft.body.steps):
        if not (step.test.negated and (step.test.relative or step.test.absolute)):
            step.test.fast = 0, len(step.test.pattern)


PREFILTERS = frozenset(
    """content uricontent flags itype icode icmp_id icmp_seq id seq ack window ttl dsize fragbits fragoffset ipopts tos sameip
    app-layer-protocol stream_size""".split()
)


def modifier(buffer, app):
    """Return the parser of a legacy keyword that puts the content before it into a buffer."""

    def parse(draft, value):
        body = draft.body
        if body.sticky:
            raise Refusal(f"does not go with the sticky buffer {body.sticky}; write pkt_data before the content, or {buffer}; "
                          "before it in place of this")
        payload = next((chain for chain in body.chains if chain.buffer == "payload"), None)
        step = body.last(_CONTENT, payload) if payload else None
        if step is None:
            raise Refusal(f"no content stands before it; write content:\"...\"; {draft.option.name};")
        if step.test.raw:
            raise Refusal("does not go with rawbytes; take rawbytes away")
        draft.set_app(app)
        body.move(step, buffer)

    return parse


