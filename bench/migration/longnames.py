"""Sources that ask for too many long names; filter.rules says which packets come here."""

from tigerfox.inspectors import Answer, Packet, block
from tigerfox.inspectors.flowstates import States

MOST, SECONDS = 10_000, 600
asked = States()                     # by source; bounded, and forgotten after 300 s without a question


def inspect(packet: Packet) -> Answer | None:
    """Block a source at its question number MOST + 1."""
    state = asked.get(packet.src, packet.time)
    state["names"] = state.get("names", 0) + 1
    return block("source", SECONDS) if state["names"] > MOST else None
