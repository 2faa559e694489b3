"""What an inspector may answer: ACCEPT (or None), DROP, or ``block(scope, seconds)``."""

from dataclasses import dataclass

SCOPES = ("connection", "source", "destination", "pair")
LONGEST = 10 * 365 * 86400           # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """``accepts``: whether the packet passes. ``scope`` and ``seconds``: what goes into the block table; "" is nothing."""

    accepts: bool
    scope: str = ""
    seconds: int = 0


ACCEPT = Answer(True)
DROP = Answer(False)


def block(scope: str, seconds: int) -> Answer:
    """Drop the packet, and block its "connection", "source", "destination" or "pair" for ``seconds``, in every worker at once.

    Source and destination are those of the packet. Raises ValueError for another scope or time.
    """
    if scope not in SCOPES:
        raise ValueError(f"{scope!r} is not a scope; write {' or '.join(SCOPES)}")
    if not 1 <= seconds <= LONGEST:
        raise ValueError(f"{seconds!r} seconds will not do; write 1 to {LONGEST}")
    return Answer(False, scope, int(seconds))
