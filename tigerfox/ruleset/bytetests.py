"""Tests of sizes and numbers in a buffer: isdataat, bsize, urilen, byte_test, byte_jump, byte_extract, byte_math.

Every function takes the Draft and the option's value, and raises Refusal with the offset in it.
"""

import re

from tigerfox.ruleset.conditions import U16, U32, compare
from tigerfox.ruleset.contents import number_or_name
from tigerfox.ruleset.rule import MOST_VARIABLES, Base64, ByteExtract, ByteJump, ByteMath, ByteTest, IsDataAt, Refusal, Size

MOST_BYTES, MOST_DIGITS = 8, 23
FARTHEST = (1 << 31) - 1
_BASES = {"hex": 16, "dec": 10, "oct": 8}
_IS_DATA_AT = re.compile(r"(!?)\s*([^,\s]+)\s*(,\s*relative)?\s*(,\s*rawbytes)?\s*\Z")
_URILEN = re.compile(r"(.*?)\s*(?:,\s*(raw|norm))?\s*\Z", re.S)
_DECODE = re.compile(r"\s*(?:(bytes|offset)\s+([0-9]{1,5})|(relative))\s*\Z")
_OP = re.compile(r"(!?)\s*(<=|>=|<|>|=|&|\^)?\Z")
_NAME = re.compile(r"[A-Za-z][\w.-]*\Z")
_VALUE = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})\Z")
_MASK = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,8})\Z")
_WORDS = re.compile(r"\s*(\S+)(?:\s+(\S+))?\s*\Z")
_PLAIN = ("relative", "big", "little", "string", "hex", "dec", "oct")
_CHOICES = (("oper", ("+", "-", "*", "/", "<<", ">>")), ("endian", ("big", "little", "dce")), ("string", tuple(_BASES)))
_TEXTS = {"byte_test": "byte_test:2,>,100,0,relative", "byte_jump": "byte_jump:2,0,relative",
          "byte_extract": "byte_extract:2,0,name,relative",
          "byte_math": "byte_math:bytes 2, offset 0, oper +, rvalue 4, result name"}


def isdataat(draft, value):
    """`[!]NUMBER[, relative][, rawbytes]`."""
    match = _IS_DATA_AT.match(value)
    if not match:
        raise Refusal(f"{value[:60]!r} does not fit; write isdataat:10, isdataat:!1,relative or the like")
    relative = bool(match[3])
    at = _placed(match.start(2), number_or_name, draft, match[2], 0, U16, "a place")
    if relative and match[1] and at == 1:
        last = draft.body.last(("content", "pcre", "byte_test", "byte_jump", "byte_extract", "byte_math"))
        if last is not None and last.kind == "content":
            last.test.endswith = True
            return
    draft.body.add("isdataat", IsDataAt(at, bool(match[1]), relative), draft.option, draft.body.anchored(relative))


def bsize(draft, value):
    """The size of the sticky buffer."""
    if draft.body.sticky is None:
        raise Refusal("no sticky buffer stands before it; write e.g. http.uri; bsize:10;")
    draft.body.add("bsize", _size(value, U32), draft.option)


def urilen(draft, value):
    """The size of the URI; `, raw` of the one as it was sent."""
    match = _URILEN.match(value)
    draft.set_app("http")
    chain = draft.body.chain_of("http.uri.raw" if match[2] == "raw" else "http.uri")
    draft.body.add("urilen", _size(match[1], U16, empty=True), draft.option, chain)


def _size(value, most, empty=False):
    found = compare("size", most, empty)(value)[0]
    return Size(found.a, found.b, found.negated)


def base64_decode(draft, value):
    """`[bytes NUMBER][, offset NUMBER][, relative]`."""
    found = {}
    for piece, at in _cut(value):
        match = _DECODE.match(piece)
        if piece and (not match or (match[1] or match[3]) in found):
            raise Refusal(f"{piece[:40]!r} does not fit; write base64_decode:bytes 20, offset 4, relative, or some of these", at)
        if match:
            number, least = int(match[2] or 0), match[1] == "bytes"
            if not least <= number <= U16:
                raise Refusal(f"{piece[:40]!r} is out of bounds; write {match[1]} {int(least)} to {U16}", at)
            found[match[1] or match[3]] = number
    made = Base64(found.get("bytes", 0), found.get("offset", 0), "relative" in found)
    draft.body.add("base64_decode", made, draft.option, draft.body.anchored(True))


def _cut(value):
    """Return the pieces of a value between its commas, and where each begins."""
    pieces, at = [], 0
    for piece in value.split(","):
        pieces.append((piece.strip(), at + len(piece) - len(piece.lstrip())))
        at += len(piece) + 1
    return pieces


class _Pieces:
    """A value cut at its commas; every piece knows its place."""

    def __init__(self, keyword, value, least):
        self.pieces = _cut(value)
        if len(self.pieces) < least or any(not piece for piece, _ in self.pieces[:least]):
            raise Refusal(f"at least {least} values, separated by commas; write e.g. {_TEXTS[keyword]}")

    def __getitem__(self, index):
        return self.pieces[index][0]

    def offset(self, index):
        return self.pieces[index][1]

    def options(self, first, plain, valued):
        """Return {name: (text, offset)} of what stands from piece `first` on."""
        found = {}
        for piece, at in self.pieces[first:]:
            match = _WORDS.match(piece)
            name = match[1].lower() if match else ""
            if name not in plain and name not in valued:
                known = " ".join((*plain, *valued))
                raise Refusal(f"{piece[:40]!r} is not one of its options; write some of {known}", at)
            if name in found:
                raise Refusal(f"{name} stands twice; write it once", at)
            if (match[2] is not None) != (name in valued):
                mend = "one value; write it behind a blank" if name in valued else "no value; take it away"
                raise Refusal(f"{name} takes {mend}", at)
            found[name] = match[2], at + (match.start(2) if match[2] else 0)
        return found


def _shape(found, count, at):
    """Return little and base; checks what goes together."""
    bases = [name for name in _BASES if name in found]
    if len(bases) > 1:
        raise Refusal(f"{' and '.join(bases)}: a number has one base; take one away", found[bases[1]][1])
    if bases and "string" not in found:
        raise Refusal(f"{bases[0]} goes with string alone; write string,{bases[0]}", found[bases[0]][1])
    if "big" in found and "little" in found:
        raise Refusal("big and little; take one away", found["little"][1])
    most = MOST_DIGITS if "string" in found else MOST_BYTES
    if isinstance(count, int) and count > most:
        raise Refusal(f"{count} bytes are too many; write at most {most}", at)
    base = _BASES[bases[0]] if bases else 10 if "string" in found else 0
    return "little" in found, base


def _refuse_dce(pieces, first):
    for piece, at in pieces.pieces[first:]:
        if piece.lower() == "dce":
            raise Refusal("dce: DCE/RPC is not supported yet by this version; write big or little", at,
                          "dce: not supported yet")


def _mask(found):
    if "bitmask" not in found:
        return 0
    text, at = found["bitmask"]
    match = _MASK.match(text)
    if not match or not int(match[1], 16):
        raise Refusal(f"{text[:40]!r} is not a mask; write one like 0x0F", at)
    return int(match[1], 16)


def _integer(found, name, low, high, default):
    if name not in found:
        return default
    text, at = found[name]
    if not _VALUE.match(text) or not low <= _number(text) <= high:
        raise Refusal(f"{name} {text[:40]!r} is not a number from {low} to {high}; write one", at)
    return _number(text)


def _number(text):
    return int(text, 16 if "x" in text.lower() else 10)


def _placed(at, parse, *given):
    """Return parse(*given), the parser of a piece that begins at `at`."""
    try:
        return parse(*given)
    except Refusal as refusal:
        raise Refusal(refusal.message, refusal.offset + at, refusal.kind) from None


def _keep(draft, name, at):
    """The variable holds from here on."""
    draft.body.names.add(name)
    if len(draft.body.names) > MOST_VARIABLES:
        raise Refusal(f"more than {MOST_VARIABLES} variables in a rule; write fewer, or use a name again", at)


def byte_test(draft, value):
    """`BYTES, [!]OP, VALUE, OFFSET[, relative][, big|little][, string, hex|dec|oct][, bitmask MASK]`."""
    pieces = _Pieces("byte_test", value, 4)
    _refuse_dce(pieces, 4)
    found = pieces.options(4, _PLAIN, ("bitmask",))
    chain = draft.body.anchored("relative" in found)
    count = _count(draft, pieces)
    match = _OP.match(pieces[1])
    if not match or not (match[1] or match[2]):
        raise Refusal(f"{pieces[1][:20]!r} is not a comparison; write one of < > = <= >= & ^, or ! before it", pieces.offset(1))
    wanted = _placed(pieces.offset(2), _operand, draft, pieces[2])
    offset = _offset(draft, pieces, 3)
    little, base = _shape(found, count, pieces.offset(0))
    made = ByteTest(count, match[2] or "=", wanted, offset, bool(match[1]), "relative" in found, little, base, _mask(found))
    draft.body.add("byte_test", made, draft.option, chain)


def _count(draft, pieces):
    return _placed(pieces.offset(0), number_or_name, draft, pieces[0], 0, MOST_DIGITS, "a number of bytes")


def _offset(draft, pieces, index):
    return _placed(pieces.offset(index), number_or_name, draft, pieces[index], -FARTHEST, FARTHEST, "an offset")


def _operand(draft, text):
    if text[:1].isalpha():
        return number_or_name(draft, text, 0, 0, "a value")
    if not text.isascii() or not _VALUE.match(text):
        raise Refusal(f"{text[:40]!r} is not a value; write a number like 100 or 0x64, or a variable's name")
    return _number(text) & 0xFFFFFFFFFFFFFFFF


def byte_jump(draft, value):
    """`BYTES, OFFSET[, relative][, multiplier N][, big|little][, string, base][, align][, from_beginning|from_end]...`."""
    pieces = _Pieces("byte_jump", value, 2)
    _refuse_dce(pieces, 2)
    found = pieces.options(2, (*_PLAIN, "align", "from_beginning", "from_end"), ("multiplier", "post_offset", "bitmask"))
    chain = draft.body.anchored("relative" in found)
    count, offset = _count(draft, pieces), _offset(draft, pieces, 1)
    if "from_beginning" in found and "from_end" in found:
        raise Refusal("from_beginning and from_end; take one away", found["from_end"][1])
    little, base = _shape(found, count, pieces.offset(0))
    origin = "beginning" if "from_beginning" in found else "end" if "from_end" in found else "here"
    made = ByteJump(count, offset, "relative" in found, _integer(found, "multiplier", 1, U16, 1), little, base, "align" in found,
                    origin, _integer(found, "post_offset", -U16, U16, 0), _mask(found))
    draft.body.add("byte_jump", made, draft.option, chain)


def byte_extract(draft, value):
    """`BYTES, OFFSET, NAME[, relative][, multiplier N][, big|little][, string, base][, align 2|4]`."""
    pieces = _Pieces("byte_extract", value, 3)
    _refuse_dce(pieces, 3)
    found = pieces.options(3, _PLAIN, ("multiplier", "align"))
    chain = draft.body.anchored("relative" in found)
    count = _plain_number(pieces, 0, 1, MOST_DIGITS)
    offset = _plain_number(pieces, 1, -U16, U16)
    name = _variable(pieces[2], pieces.offset(2))
    little, base = _shape(found, count, pieces.offset(0))
    align = _integer(found, "align", 2, 4, 0)
    if align == 3:
        raise Refusal("align 3 is neither 2 nor 4; write align 4", found["align"][1])
    if base and ("little" in found or "big" in found):
        raise Refusal("big and little do not go with string; take one away", found["string"][1])
    made = ByteExtract(count, offset, name, "relative" in found, _integer(found, "multiplier", 1, U16, 1), little, base, align)
    draft.body.add("byte_extract", made, draft.option, chain)
    _keep(draft, name, pieces.offset(2))


def _plain_number(pieces, index, low, high):
    text = pieces[index]
    if not text.isascii() or not _VALUE.match(text) or not low <= _number(text) <= high:
        raise Refusal(f"{text[:40]!r} is not a number from {low} to {high}; write one", pieces.offset(index))
    return _number(text)


def _variable(text, at):
    if not _NAME.match(text):
        raise Refusal(f"{text[:40]!r} is not a name; write letters, digits and _ that begin with a letter", at)
    return text


def byte_math(draft, value):
    """`bytes N, offset N, oper OP, rvalue N, result NAME[, relative][, endian E][, string BASE][, bitmask MASK]`."""
    pieces = _Pieces("byte_math", value, 5)
    found = pieces.options(0, ("relative", "dce"), ("bytes", "offset", "oper", "rvalue", "result", "endian", "string", "bitmask"))
    missing = [name for name in ("bytes", "offset", "oper", "rvalue", "result") if name not in found]
    if missing:
        raise Refusal(f"{' and '.join(missing)} is missing; write e.g. {_TEXTS['byte_math']}")
    for name, choices in _CHOICES:
        if name in found and found[name][0] not in choices:
            raise Refusal(f"{name} {found[name][0][:20]!r} is unknown; write one of {' '.join(choices)}", found[name][1])
    if "dce" in found or found.get("endian", ("",))[0] == "dce":
        at = found["dce" if "dce" in found else "endian"][1]
        raise Refusal("dce: DCE/RPC is not supported yet by this version; write endian big or little", at, "dce: not supported yet")
    chain = draft.body.anchored("relative" in found)
    counts = {}
    for name, low, high in (("bytes", 1, 10), ("rvalue", 0, U32)):
        text, at = found[name]
        counts[name] = _placed(at, number_or_name, draft, text, low, high, "a number")
    if counts["rvalue"] == 0:
        raise Refusal("rvalue 0 changes nothing, or divides by nothing; write 1 or more", found["rvalue"][1])
    base = _BASES[found["string"][0]] if "string" in found else 0
    if not base and isinstance(counts["bytes"], int) and counts["bytes"] > MOST_BYTES:
        raise Refusal(f"more than {MOST_BYTES} bytes without string; write at most {MOST_BYTES}", found["bytes"][1])
    name = _variable(*found["result"])
    made = ByteMath(counts["bytes"], _integer(found, "offset", -U16, U16, 0), found["oper"][0], counts["rvalue"], name,
                    "relative" in found, found.get("endian", ("big",))[0] == "little", base, _mask(found))
    draft.body.add("byte_math", made, draft.option, chain)
    _keep(draft, *found["result"])
