"""pcre: the expression, its flags, and the buffer that a flag may name.

PCRE2 itself judges the expression when the compiled inspection engine is there (``inspect.expression_error``).
"""

import importlib
import re
from functools import cache

from tigerfox.ruleset.rule import Pcre, Refusal

_FORM = re.compile(r'(?<!\\)/(.*(?<!(?<!\\)\\))/([^"]*)\Z', re.S)
_CAPTURES = re.compile(r"\s*,\s*(?:(?:flow|pkt|alert):\s*\w+\s*(?:,\s*|\Z))+\Z")
_UPPER = re.compile(r"(?<!\\)[A-Z]")
OPTIONS = "ismxAEG"
BUFFERS = {
    "U": ("http.uri", "http"), "I": ("http.uri.raw", "http"), "H": ("http.header", "http"), "D": ("http.header.raw", "http"),
    "M": ("http.method", "http"), "C": ("http.cookie", "http"), "P": ("http.request_body", "http"), "Q": ("file.data", ""),
    "Y": ("http.stat_msg", "http"), "S": ("http.stat_code", "http"), "V": ("http.user_agent", "http"),
    "W": ("http.host", "http"), "Z": ("http.host.raw", "http"),
}
_KNOWN = "i s m x A E G R B O " + " ".join(BUFFERS)


@cache
def _judge():
    """Return the function that asks PCRE2, or None where this build has none."""
    try:
        return getattr(importlib.import_module("tigerfox.dataplane.inspect"), "expression_error", None)
    except ImportError:
        return None


@cache
def expression_error(pattern, flags):
    """Return what PCRE2 says is wrong with an expression (bytes), or None."""
    judge = _judge()
    return judge(pattern, flags) if judge else None


def pcre(draft, value):
    """`[!]"/EXPRESSION/FLAGS"`."""
    match = _FORM.search(value)
    if not match:
        raise Refusal(f"{value[:60]!r} is not an expression; write \"/EXPRESSION/FLAGS\"")
    flags, at = _without_captures(match[2]), match.start(2)
    options, buffer, relative = "", None, False
    for index, flag in enumerate(flags):
        if flag in OPTIONS:
            options += flag if flag not in options else ""
        elif flag == "R":
            relative = True
        elif flag in BUFFERS or flag == "B":
            if buffer is not None:
                raise Refusal(f"{flag} names a second buffer; write one of the letters {' '.join(BUFFERS)} B", at + index)
            buffer = flag
        elif flag != "O":
            raise Refusal(f"{flag!r} is not a flag; write some of {_KNOWN}", at + index)
    pattern = match[1].encode("utf-8", "surrogateescape")
    _check_expression(pattern, options, match)
    test = Pcre(pattern, options, draft.negated, relative)
    _place(draft, test, buffer, match)


def _without_captures(flags):
    """The flags without `, flow:NAME` and `, pkt:NAME`, which name what a group caught for Suricata's log."""
    cut = flags.find(",")
    if cut >= 0 and _CAPTURES.match(flags, cut) and "alert:" not in flags:
        return flags[:cut].rstrip()
    return flags.rstrip()


def _check_expression(pattern, options, match):
    error = expression_error(pattern, options)
    if error:
        found = re.search(r"offset (\d+)", error)
        place = len(pattern[:int(found[1])].decode("utf-8", "replace")) if found else 0
        raise Refusal(f"PCRE2 refuses the expression: {error}; write one that it takes (\\ before . * ( [ and the like that are "
                      "meant)", match.start(1) + min(place, len(match[1])))


def _place(draft, test, letter, match):
    body = draft.body
    buffer, app = BUFFERS.get(letter, (None, ""))
    if letter == "B":
        buffer = "payload"
    if body.sticky and buffer and buffer != body.sticky:
        raise Refusal(f"the flag {letter} means {buffer}, but {body.sticky} is set; "
                      "write pkt_data before it, or take the flag away", match.start(2))
    if letter == "W" and "i" not in test.flags and _UPPER.search(match[1]):
        raise Refusal("http.host is in lower case, this expression is not; write it in lower case", match.start(1))
    if app:
        draft.set_app(app)
    if body.sticky:
        chain = body.current()
    else:
        chain = body.chain_of(buffer) if buffer else body.current()
    step = body.add("pcre", test, draft.option, chain)
    before = body.before(step) if test.relative else None
    if before is None and test.relative and not body.sticky:
        raise Refusal("R counts from the match before, and there is none in this buffer; write a content before it, or no R",
                      match.start(2))
    if before is not None and before.kind == "content" and before.test.only:
        raise Refusal("the content before it has fast_pattern:only, which leaves no place to count from; write fast_pattern there")
