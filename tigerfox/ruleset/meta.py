"""The keywords that do not test a packet: what a rule is called, how often it speaks, what its drop blocks.

Every function takes the Draft of the rule and the option's value, without quotes and blanks around it, sets what it
read and raises Refusal.
"""

import re

from tigerfox.ruleset.classtypes import CLASSTYPES
from tigerfox.ruleset.groups import nearest
from tigerfox.ruleset.rule import Block, Inspect, Rate, Refusal
from tigerfox.ruleset.source import readable

U32 = 0xFFFFFFFF
SCOPES = ("connection", "source", "destination", "pair", "none")
LONGEST_BLOCK = 10 * 365 * 86400
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})\s*([smhd]?)\Z")
_ESCAPE = re.compile(r"\\(.?)", re.S)
_REFERENCE = re.compile(r"([A-Za-z0-9]+)\s*,\s*(.*\S)\s*\Z", re.S)
_CLASS = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]*\Z")
_INSPECTOR = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,31}\Z")
_PAIR = re.compile(r"\s*([a-z]+)\s+(\S+)\s*\Z")
_TRACKS = {"threshold": ("by_src", "by_dst", "by_both", "by_rule"), "detection_filter": ("by_src", "by_dst")}
_EXAMPLES = {
    "threshold": "type limit, track by_src, count 1, seconds 60",
    "detection_filter": "track by_src, count 10, seconds 60",
}


def msg(draft, value):
    """The text of the alert; a backslash hides the meaning of the character behind it."""
    draft.msg = readable(_ESCAPE.sub(r"\1", value))


def _number(value, low, high, what):
    if not (value.isascii() and value.isdigit() and len(value) < 21) or not low <= int(value) <= high:
        raise Refusal(f"{value[:40]!r} is not a {what}; write {low} to {high}")
    return int(value)


def sid(draft, value):
    """Signature number."""
    draft.sid = _number(value, 1, U32 - 1, "signature id")


def rev(draft, value):
    """Revision."""
    draft.rev = _number(value, 1, U32 - 1, "revision")


def gid(draft, value):
    """Group number."""
    draft.gid = _number(value, 0, U32 - 1, "group id")


def priority(draft, value):
    """1 is the highest; goes over the class type's. Of several, the highest holds."""
    number = _number(value, 1, 255, "priority")
    draft.priority = min(number, draft.priority or number)


def classtype(draft, value):
    """The class of the alert; of several, the one with the highest priority holds."""
    if not _CLASS.match(value):
        raise Refusal(f"{value[:40]!r} is not a class type; write a name like attempted-recon")
    name = value.lower()
    row = CLASSTYPES.get(name)
    if row is None:
        draft.warn(f"classtype {value}: not in the table, so its priority is 3{nearest(name, CLASSTYPES)}",
                   "unknown classtype")
        draft.classtype = draft.classtype or value
    elif draft.category is None or row.priority < draft.category.priority:
        draft.classtype, draft.category = name, row


def reference(draft, value):
    """`TYPE,WHERE`."""
    match = _REFERENCE.match(value)
    if not match:
        raise Refusal(f"{value[:60]!r} is not a reference; write one like url,example.org/advisory or cve,2024-1234")
    draft.references.append((match[1], readable(match[2])))


def metadata(draft, value):
    """`KEY VALUE, KEY VALUE ...`."""
    for pair in value.split(","):
        key, _, text = pair.strip().partition(" ")
        if key:
            draft.metadata.append((readable(key), readable(text.strip())))


def target(draft, value):
    """Which end is the one attacked."""
    if value not in ("src_ip", "dest_ip"):
        raise Refusal(f"{value[:40]!r} is not an end; write src_ip or dest_ip")
    draft.target = value


def noalert(draft, value):
    """The rule acts, but writes no alert."""
    draft.noalert = True


def alert(draft, value):
    """The rule writes an alert, a pass rule too, whatever a noalert before it says."""
    draft.noalert = False


def threshold(draft, value):
    """`type T, track BY, count N, seconds S`, in any order."""
    pairs = _pairs(value, ("type", "track", "count", "seconds"), "threshold")
    _set_rate(draft, _choice(pairs, "type", ("limit", "threshold", "both"), "threshold"), pairs, "threshold")


def detection_filter(draft, value):
    """`track BY, count N, seconds S`, in any order: fires from the match after the Nth on."""
    _set_rate(draft, "detection_filter", _pairs(value, ("track", "count", "seconds"), "detection_filter"),
              "detection_filter")


def _pairs(value, names, keyword):
    """Return {name: (text, offset)} of `name text, name text`; every name must be there once."""
    pairs, offset = {}, 0
    for piece in value.split(","):
        match = _PAIR.match(piece)
        at = offset + len(piece) - len(piece.lstrip())
        if not match or match[1] not in names:
            what = match[1] if match else piece.strip()
            raise Refusal(f"{what[:40]!r} is not part of it in Suricata 7.0; write {_EXAMPLES[keyword]}", at)
        if match[1] in pairs:
            raise Refusal(f"{match[1]} stands twice; write it once", at)
        pairs[match[1]] = match[2], offset + match.start(2)
        offset += len(piece) + 1
    missing = [name for name in names if name not in pairs]
    if missing:
        raise Refusal(f"{' and '.join(missing)} is missing; write {_EXAMPLES[keyword]}")
    return pairs


def _choice(pairs, name, choices, keyword):
    text, offset = pairs[name]
    if text not in choices:
        raise Refusal(f"{name} {text[:40]!r} is not in Suricata 7.0's {keyword}; write {name} {' or '.join(choices)}",
                      offset)
    return text


def _set_rate(draft, kind, pairs, keyword):
    if draft.rate is not None:
        raise Refusal("only one threshold or detection_filter in a rule; take one away")
    numbers = []
    for name in ("count", "seconds"):
        text, offset = pairs[name]
        if not (text.isascii() and text.isdigit() and len(text) < 11 and 1 <= int(text) <= U32):
            raise Refusal(f"{name} {text[:40]!r} is not a number from 1 to {U32}; write one", offset)
        numbers.append(int(text))
    draft.rate = Rate(kind, _choice(pairs, "track", _TRACKS[keyword], keyword), *numbers)


def _two(value):
    """Return what stands before and behind the comma (None where there is none), and where the second begins."""
    first, comma, second = value.partition(",")
    return (first.strip(), second.strip() if comma else None), len(value) - len(second.lstrip())


def block(draft, value):
    """`SCOPE[, TIME]`: what a drop puts into the block table. TigerFox's own."""
    (scope, time), at = _two(value)
    if scope not in SCOPES:
        raise Refusal(f"{scope[:40]!r} is not a scope{nearest(scope, SCOPES)}; write {' or '.join(SCOPES)}")
    seconds = None
    if time is not None:
        match = _DURATION.match(time)
        seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
        if not 1 <= seconds <= LONGEST_BLOCK:
            raise Refusal(f"{time[:40]!r} is not a time; write one like 30s, 10m, 2h or 7d, up to 3650d", at)
        if scope == "none":
            raise Refusal("none blocks nothing, so no time goes with it; write block:none", at)
    draft.block = Block(scope, seconds)


def inspect(draft, value):
    """`NAME[, flow]`: the Python inspector that is asked about the packet. TigerFox's own."""
    (name, extent), at = _two(value)
    if not _INSPECTOR.match(name):
        raise Refusal(f"{name[:40]!r} is not an inspector's name; write letters, digits, - and _, as dns-tunnel")
    if extent not in (None, "flow"):
        raise Refusal(f"{extent[:40]!r} is not part of it; write inspect:{name} or inspect:{name}, flow", at)
    draft.inspect = Inspect(name, extent is not None)
