"""Python inspectors: functions that judge the packets which rules with ``inspect: NAME;`` hand over.

    from tigerfox.inspectors import DROP, Answer, Packet, block

    def inspect(packet: Packet) -> Answer | None:
        if b"secret" in packet.payload:
            return block("source", 600)
        return None                  # accept

An inspector is such a function, or a class whose objects are called like one; a class gets the options of its
``--inspector`` as keywords, as text. docs/inspectors.md says how they run.
"""

from tigerfox.inspectors.answer import ACCEPT, DROP, Answer, block
from tigerfox.inspectors.packet import Packet

__all__ = ["ACCEPT", "DROP", "Answer", "Packet", "block"]
