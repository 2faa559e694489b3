from typing import NamedTuple

DEFAULT_SLOTS: int

class Seen(NamedTuple):
    version: int
    proto: int
    src: str
    dst: str
    sport: int
    dport: int
    payload_at: int
    payload_length: int
    tcp_flags: int
    sid: int
    flow_id: int
    side: int

class HandoverBook:
    @staticmethod
    def create(desks: list[tuple[int, int, bool]], slots: int = ...) -> HandoverBook: ...
    def given(self, queue: int) -> int: ...
    @property
    def crowded(self) -> int: ...
    def read(self, data: bytes) -> Seen: ...
    def note(self, inspector: int, data: bytes, sid: int = 0) -> int: ...
