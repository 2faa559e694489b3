"""The event writer's process, seen from the supervisor."""

import os
import signal

from tigerfox.control.helper import Helper


class Scribe(Helper):
    """Keeps one event writer alive, where ``eve.file`` asks for one, and tells it to reopen its file.

    ``eve`` is the configuration's section, ``seats`` those whose rings are drained, ``forget`` is called in the child
    first, ``cpus`` is where it may run.
    """

    def __init__(self, eve, instance, seats, log, forget, cpus):
        super().__init__(f"events to {eve.file}", log)
        self.eve = eve
        self.instance = instance
        self.pages = {seat.number: seat.page for seat in seats}
        self.forget = forget
        self.cpus = cpus

    def also(self, seats):
        """Drain the rings of these too; before the first start."""
        self.pages |= {seat.number: seat.page for seat in seats}

    def wanted(self):
        return bool(self.eve.file)

    def run(self, parent):
        """Be the writer, in its own process."""
        from tigerfox.telemetry import eve

        return eve.run(self.eve, self.instance, self.pages, self.cpus, self.forget, parent)

    def reopen(self):
        """Have the writer open its file again, as log rotation needs it."""
        if self.pid:
            os.kill(self.pid, signal.SIGHUP)

    def report(self):
        """Return what the writer counted last."""
        from tigerfox.telemetry.eve import read_report

        return read_report(self.instance) | {"file": self.eve.file, "pid": self.pid, "restarts": self.restarts}
