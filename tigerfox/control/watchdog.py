"""When a worker counts as stuck, and how long to wait before the next one is forked.

Life is not progress: a process that is stopped, or turns in a circle, is alive and yet no packet gets its verdict. A
worker counts every turn of its loop, with packets or without; the kernel says how many packets wait.
"""


class Progress:
    """Watches the heartbeat of one worker; times are seconds of a monotonic clock."""

    def __init__(self, stuck_seconds, now):
        self.stuck_seconds = stuck_seconds
        self.restart(now)

    def restart(self, now):
        """Begin again, for a new worker."""
        self._heartbeat = None
        self._moved = now
        self._waiting_since = None

    def age(self, now):
        """Return the seconds since the heartbeat was last seen to move."""
        return now - self._moved

    def stuck(self, now, heartbeat, waiting):
        """Return whether packets have waited for ``stuck_seconds`` while the heartbeat stood still."""
        if heartbeat != self._heartbeat:
            self._heartbeat = heartbeat
            self._moved = now
        if not waiting:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = now
        return now - max(self._moved, self._waiting_since) >= self.stuck_seconds


class Backoff:
    """The pause before the next fork: none after the first death, then 0.1 s, doubled each time up to ``longest``.

    A worker that has lived for ``steady`` seconds wipes the slate clean.
    """

    def __init__(self, longest, steady=10.0):
        self.longest = longest
        self.steady = steady
        self.deaths = 0

    def after_death(self, lived):
        """Return the seconds to wait, given for how many seconds the dead worker had lived."""
        if lived >= self.steady:
            self.deaths = 0
        self.deaths += 1
        return 0.0 if self.deaths == 1 else min(0.1 * 2 ** (self.deaths - 2), self.longest)
