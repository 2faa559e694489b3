"""What a run cost this process: wall time, CPU time, context switches."""

import resource
import time


class Meter:
    """Measures what lies in its ``with`` block."""

    def __enter__(self):
        self._before = resource.getrusage(resource.RUSAGE_SELF)
        self._begin = time.perf_counter_ns()
        return self

    def __exit__(self, *_):
        self.ns = time.perf_counter_ns() - self._begin
        after, before = resource.getrusage(resource.RUSAGE_SELF), self._before
        self.cpu_ns = round(((after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)) * 1e9)
        self.user_ns = round((after.ru_utime - before.ru_utime) * 1e9)
        self.switches = after.ru_nvcsw - before.ru_nvcsw
        self.preempted = after.ru_nivcsw - before.ru_nivcsw

    def figures(self, judged, spins=0, overflowed=0, failed=0):
        """A run's figures; ``judged`` is packets by worker."""
        return {"ns": self.ns, "cpu_ns": self.cpu_ns, "user_ns": self.user_ns, "switches": self.switches,
                "preempted": self.preempted, "judged": judged, "spins": spins, "overflowed": overflowed, "failed": failed}
