"""A process beside the workers, seen from the supervisor: forked, watched, replaced with growing pauses, ended."""

import os
import signal
import time

from tigerfox.control.process import fork
from tigerfox.control.watchdog import Backoff

_LONGEST_PAUSE = 10.0                # seconds
_LOOK_SECONDS = 1.0                  # between two looks at the report


class Helper:
    """Keeps one process alive while ``wanted()``; subclasses say what ``run(parent)`` does in it, and its ``report()``.

    ``name`` is what the log calls it.
    """

    def __init__(self, name, log):
        self.name = name
        self.log = log
        self.pid = 0
        self.restarts = 0
        self._due = self._born = self._looked = time.monotonic()
        self._trouble = ""
        self._backoff = Backoff(_LONGEST_PAUSE)

    def start_due(self):
        """Fork the process when there is to be one, there is none, and its time has come."""
        now = time.monotonic()
        if self.wanted() and not self.pid and self._due <= now:
            parent = os.getpid()
            self.pid = fork(lambda: self.run(parent))
            self._born = now

    def keep(self):
        """Replace the process when it has ended; say in the log when it is in trouble, and when no longer."""
        if self.pid:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                now = time.monotonic()
                pause = self._backoff.after_death(now - self._born)
                self.pid, self._due = 0, now + pause
                self.restarts += 1
                self.log.warning("%s %d ended with status %d; the next one follows in %.1f s", self.name,
                                 pid, os.waitstatus_to_exitcode(status), pause)
        self.start_due()
        now = time.monotonic()
        if self.pid and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            trouble = self.report().get("error", "")
            if trouble != self._trouble:
                self.log.warning("%s: %s", self.name, trouble or "well again")
                self._trouble = trouble

    def stop(self, seconds):
        """Let the process finish, for at most ``seconds``."""
        if not self.pid:
            return
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
                return
            time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0
