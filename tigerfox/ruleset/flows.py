"""What a rule asks of the flow: direction and state, flowbits, sizes of the streams, the application protocol.

Every function takes the Draft and the option's value, and raises Refusal.
"""

import re

from tigerfox.ruleset.groups import nearest
from tigerfox.ruleset.protocols import APPS, NOT_YET
from tigerfox.ruleset.rule import MOST_ASKED, AppProtocol, Flow, Flowbit, Refusal, StreamSize

_WORDS = {
    "to_server": ("direction", "to_server"), "from_client": ("direction", "to_server"),
    "to_client": ("direction", "to_client"), "from_server": ("direction", "to_client"),
    "established": ("state", "established"), "not_established": ("state", "not_established"), "stateless": ("state", "stateless"),
    "only_stream": ("data", "only_stream"), "no_stream": ("data", "no_stream"),
    "only_frag": ("fragments", "only_frag"), "no_frag": ("fragments", "no_frag"),
}
_BITS = re.compile(r"([a-z]+)\s*(?:,\s*(.*\S)\s*)?\Z", re.S)
_OPS = ("set", "unset", "toggle", "isset", "isnotset")
_STREAM = re.compile(r"\s*([a-z]+)\s*,\s*(<=|>=|!=|<|>|=)\s*,?\s*([0-9]{1,10})\s*\Z")
_STREAM_SIDES = ("server", "client", "both", "either")


def flow(draft, value):
    """Up to three words."""
    found, at = {}, 0
    for piece in value.split(","):
        word, offset = piece.strip().lower(), at + len(piece) - len(piece.lstrip())
        at += len(piece) + 1
        if word not in _WORDS:
            raise Refusal(f"{piece.strip()[:40]!r} says nothing of a flow{nearest(word, _WORDS)}; write some of {' '.join(_WORDS)}",
                          offset)
        name, meaning = _WORDS[word]
        if name in found:
            raise Refusal(f"{word} does not go with {found[name]}; take one of the two away", offset)
        if len(found) == 3:
            raise Refusal("more than three words; take one away", offset)
        found[name] = meaning
    draft.flow = Flow(**found)


def flowbits(draft, value):
    """`noalert`, or `OP, NAME[|NAME...]`."""
    match = _BITS.match(value)
    if not match or match[1] not in (*_OPS, "noalert"):
        word = value.split(",")[0].strip()
        raise Refusal(f"{word[:40]!r} is not done with flowbits{nearest(word, _OPS)}; write one of {' '.join(_OPS)}, or noalert")
    op, text = match[1], match[2]
    if op == "noalert":
        if text:
            raise Refusal("noalert takes no name; write flowbits:noalert", match.start(2))
        draft.noalert = True
        return
    if not text:
        raise Refusal(f"the name is missing; write flowbits:{op},NAME")
    names = tuple(name.strip() for name in text.split("|"))
    if not all(names):
        raise Refusal("a | without a name beside it; write NAME|NAME", match.start(2))
    if len(names) > 1 and op not in ("isset", "isnotset"):
        raise Refusal(f"{op} takes one name; write a flowbits for each", match.start(2))
    draft.flowbits.append(Flowbit(op, names))
    if sum(len(one.names) for one in draft.flowbits) > MOST_ASKED:
        raise Refusal(f"more than {MOST_ASKED} names of flow bits in a rule; write fewer", match.start(2))


def stream_size(draft, value):
    """`SIDE, OP, BYTES`."""
    match = _STREAM.match(value)
    if not match or match[1] not in _STREAM_SIDES or int(match[3]) > 0xFFFFFFFF:
        raise Refusal(f"{value[:40]!r} does not fit; write client, server, both or either, then < > = != <= or >=, then bytes: "
                      "stream_size:server,<,1000")
    draft.stream_sizes.append(StreamSize(match[1], match[2], int(match[3])))
    if len(draft.stream_sizes) > MOST_ASKED:
        raise Refusal(f"more than {MOST_ASKED} of them in a rule; take this away")


def app_layer_protocol(draft, value):
    """`[!]PROTOCOL`, or failed."""
    negated, name = value.startswith("!"), value.removeprefix("!").strip().lower()
    if name not in APPS and name != "failed":
        if name in NOT_YET:
            raise Refusal(f"{name}: this protocol is not supported yet by this version; leave the rule out",
                          kind=f"app-layer-protocol {name}: not supported yet")
        raise Refusal(f"{name[:40]!r} is not a protocol{nearest(name, APPS)}; write one of {' '.join(APPS)} failed")
    found = AppProtocol(APPS.get(name, name), negated)
    if draft.app:
        raise Refusal(f"the rule is one of {draft.app} already; take this away")
    for other in draft.apps:
        if not (negated and other.negated) or "failed" in (found.name, other.name):
            raise Refusal("the protocol is said already; take one of the two away")
    if found in draft.apps:
        raise Refusal(f"{value} stands twice; write it once")
    draft.apps.append(found)
