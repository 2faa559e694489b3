"""The packet as an inspector sees it."""

from typing import Any

from tigerfox.dataplane.handover import HandoverBook, Seen

TCP, UDP = 6, 17


class Packet:
    """One packet that a rule has handed over.

    ``data``: its bytes from the IP header on. ``src``, ``dst``: addresses as text. ``sport``, ``dport``: 0 where the protocol
    has none. ``proto``: IP protocol number. ``version``: 4 or 6, 0 where the bytes are no IP packet. ``tcp_flags``: as in the
    header. ``sid``: of the rule that chose this inspector, 0 where the note of it was lost. ``to_server``: True, False, or None
    where nobody knows. ``flow_id``: of its connection, both directions alike. ``time``: Unix time of its arrival.
    ``flow``: a dictionary that is kept for the connection (bounded and expiring: it may be empty again).
    """

    __slots__ = ("_decoded", "_seen", "data", "dport", "dst", "flow", "flow_id", "proto", "sid", "sport", "src", "tcp_flags",
                 "time", "to_server", "version")

    def __init__(self, data: bytes, seen: Seen, time: float, flow: dict[str, Any] | None = None) -> None:
        self.data = data
        self.time = time
        self.flow: dict[str, Any] = {} if flow is None else flow
        self.version, self.proto = seen.version, seen.proto
        self.src, self.dst, self.sport, self.dport = seen.src, seen.dst, seen.sport, seen.dport
        self.tcp_flags, self.sid, self.flow_id = seen.tcp_flags, seen.sid, seen.flow_id
        self.to_server: bool | None = {0: True, 1: False}.get(seen.side)
        self._seen = seen
        self._decoded: Any = None

    @classmethod
    def of(cls, data: bytes, time: float = 0.0, flow: dict[str, Any] | None = None) -> "Packet":
        """Return the packet of these bytes, from the IP header on, as if a rule had handed it over: for tests."""
        return cls(data, HandoverBook.create([(1, 1, True)]).read(data), time, flow)

    @property
    def payload(self) -> bytes:
        """What the transport carries."""
        return self.data[self._seen.payload_at:self._seen.payload_at + self._seen.payload_length]

    @property
    def ip(self) -> Any:
        """The packet as dpkt decodes it (``dpkt.ip.IP`` or ``dpkt.ip6.IP6``), decoded when first asked for.

        Raises dpkt.UnpackError for bytes that dpkt refuses.
        """
        if self._decoded is None:
            import dpkt

            self._decoded = (dpkt.ip6.IP6 if self.version == 6 else dpkt.ip.IP)(self.data)
        return self._decoded

    def __repr__(self) -> str:
        return (f"<Packet {self.src}:{self.sport} > {self.dst}:{self.dport} proto {self.proto}, {len(self.data)} bytes, "
                f"sid {self.sid}>")
