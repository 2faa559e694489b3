"""The event writer's process, seen from the supervisor: forked, watched, replaced, told to reopen its file."""

import os
import signal
import time

from tigerfox.control.process import fork
from tigerfox.control.watchdog import Backoff

_LONGEST_PAUSE = 10.0                # seconds
_LOOK_SECONDS = 1.0                  # between two looks at the writer's report


class Scribe:
    """Keeps one event writer alive, where ``eve.file`` asks for one.

    ``eve`` is the configuration's section, ``seats`` those whose rings are drained, ``forget`` is called in the child
    first, ``cpus`` is where it may run.
    """

    def __init__(self, eve, instance, seats, log, forget, cpus):
        self.eve = eve
        self.instance = instance
        self.pages = {seat.number: seat.page for seat in seats}
        self.log = log
        self.forget = forget
        self.cpus = cpus
        self.pid = 0
        self.restarts = 0
        self._due = self._born = self._looked = time.monotonic()
        self._trouble = ""
        self._backoff = Backoff(_LONGEST_PAUSE)

    def start_due(self):
        """Fork the writer when there is to be one, there is none, and its time has come."""
        now = time.monotonic()
        if self.eve.file and not self.pid and self._due <= now:
            from tigerfox.telemetry import eve

            parent = os.getpid()
            self.pid = fork(lambda: eve.run(self.eve, self.instance, self.pages, self.cpus, self.forget, parent))
            self._born = now

    def keep(self):
        """Replace the writer when it has ended."""
        if self.pid:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                now = time.monotonic()
                pause = self._backoff.after_death(now - self._born)
                self.pid, self._due = 0, now + pause
                self.restarts += 1
                self.log.warning("event writer %d ended with status %d; the next one follows in %.1f s",
                                 pid, os.waitstatus_to_exitcode(status), pause)
        self.start_due()
        self._look()

    def _look(self):
        """Say in the log when the file cannot be written, and when it can again."""
        now = time.monotonic()
        if self.pid and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            trouble = self.report().get("error", "")
            if trouble != self._trouble:
                self.log.warning("events to %s: %s", self.eve.file, trouble or "written again")
                self._trouble = trouble

    def reopen(self):
        """Have the writer open its file again, as log rotation needs it."""
        if self.pid:
            os.kill(self.pid, signal.SIGHUP)

    def report(self):
        """Return what the writer counted last."""
        from tigerfox.telemetry.eve import read_report

        return read_report(self.instance) | {"file": self.eve.file, "pid": self.pid, "restarts": self.restarts}

    def stop(self, seconds):
        """Let the writer finish what is in the rings, for at most ``seconds``."""
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
