"""Which literal of a rule the scan looks for: the one that traffic has least often.

A rule may name it (``fast_pattern``). Else every positive content is weighed: long and varied bytes are worth more than short
and common ones, and texts that every HTTP message or page has are worth little.
"""

from dataclasses import dataclass

from tigerfox.ruleset.buffers import BUFFERS, BY_NAME, HEADERS
from tigerfox.ruleset.rule import Base64, Content

LONGEST = 64                     # bytes of a literal that the scan looks at (scene.pxd: LITERAL_MAX)

# Bytes by how often traffic has them, most frequent first; what is not here is rare.
_FREQUENT = (b"\x00 etaoinsrlhcdu/mp.g-f=:0b12\nyw\r\"3v,4k58679;ESTACx_I&%<>MPONRDLHF\xffBGU?jzq\x01('W)VK+Y*#["
             b"\x02]{|}\x04\x08\x10@")
_RANK = {byte: rank for rank, byte in enumerate(_FREQUENT)}
_RAREST = len(_FREQUENT)
_WEIGHTS = [1 + 1.5 * _RANK.get(byte, _RAREST) / _RAREST for byte in range(256)]
_REPEATED = 0.25                 # weight of a byte that the literal has already
_EVERYWHERE = 0.25               # factor for a text that most messages have

_COMMON = (
    b"get /|post /|http/1.1\r\n| http/1.0|host: www.|\r\n\r\n|user-agent: mozilla/5.0 (windows nt 10.0; win64; x64)|"
    b"mozilla/4.0 (compatible; msie |accept: text/html,application/xhtml+xml|accept-language: en-us,en|"
    b"accept-encoding: gzip, deflate|connection: keep-alive\r\n|connection: close|content-type: text/html; charset=utf-8|"
    b"content-type: application/x-www-form-urlencoded|application/octet-stream|application/json|content-length: |"
    b"content-disposition: form-data; name=|cache-control: no-cache|cookie: |referer: http://|https://www.|index.php?|"
    b".html|.asp|.jsp|.exe|.com|.net|.org|applewebkit/537.36|chrome/|safari/|gecko/20100101 firefox/|server: apache|"
    b"server: nginx|200 ok|<html>|<head>|<body>|<script|</script>|function|document.|this program cannot be run in dos mode|"
    b"multipart/form-data; boundary=|&id=|?id=|x-requested-with"
).split(b"|")


@dataclass(frozen=True, slots=True)
class Literal:
    """What the scan looks for on behalf of a rule: in which of its parts, which bytes, and whether case counts."""

    part: int
    text: bytes
    nocase: bool


def rarest(literal, nocase):
    """Return the index of the byte of a literal that traffic has least often."""
    def rank(index):
        byte = literal[index]
        found = _RANK.get(byte, _RAREST)
        return min(found, _RANK.get(byte ^ 0x20, _RAREST)) if nocase and 97 <= byte <= 122 else found

    return max(range(len(literal)), key=rank)


def strength(literal):
    """Return how much a literal tells: about one for each byte, more for rare ones, less for repeated ones."""
    distinct = set(literal)
    value = sum(map(_WEIGHTS.__getitem__, distinct)) + _REPEATED * (len(literal) - len(distinct))
    lower = literal.lower()
    return value * _EVERYWHERE if any(lower in text for text in _COMMON) else value


def choose(rule):
    """Return the Literal of a rule, or None where no content must be there.

    A rule of an application protocol is named by its protocol's buffers alone, when they are there.
    """
    of_app = any(BUFFERS[BY_NAME[part.buffer]].app for part in rule.parts)
    best, most = None, 0.0
    for number, part in enumerate(rule.parts):
        if of_app and not BUFFERS[BY_NAME[part.buffer]].app or part.buffer in HEADERS:
            continue
        for test in part.tests:
            if isinstance(test, Base64):
                break
            if not isinstance(test, Content) or test.negated:
                continue
            first, length = test.fast or (0, len(test.pattern))
            text = test.pattern[first:first + min(length, LONGEST)]
            if test.fast:
                return Literal(number, text, test.nocase)
            value = strength(text)
            if value > most:
                best, most = Literal(number, text, test.nocase), value
    return best
