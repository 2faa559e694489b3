"""A bounded, expiring dictionary by connection or any other key: the state that inspectors keep."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

CAPACITY = 8192
SECONDS = 300.0


class States:
    """At most ``capacity`` states; one that was not asked for in ``seconds`` is forgotten, and the one that was asked for
    longest ago gives way (``evicted`` counts those). ``make()`` makes a new state. Time is what ``get`` is told: the packets'.
    """

    def __init__(self, capacity: int = CAPACITY, seconds: float = SECONDS, make: Callable[[], Any] = dict) -> None:
        self.capacity = capacity
        self.seconds = seconds
        self.make = make
        self.evicted = 0
        self._states: OrderedDict[Hashable, list[Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: Hashable, now: float) -> Any:
        """Return the state of ``key``, a new one where there is none."""
        found = self._states.get(key)
        self._forget(now)
        if found is None or now - found[0] >= self.seconds:
            found = self._states[key] = [now, self.make()]
            if len(self._states) > self.capacity:
                self._states.popitem(last=False)
                self.evicted += 1
        found[0] = now
        self._states.move_to_end(key)
        return found[1]

    def _forget(self, now: float) -> None:
        """Forget what is over, oldest first, a few at a time."""
        for _ in range(2):
            oldest = next(iter(self._states.values()), None)
            if oldest is None or now - oldest[0] < self.seconds:
                return
            self._states.popitem(last=False)
