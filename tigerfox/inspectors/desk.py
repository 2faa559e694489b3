"""A desk: one inspector at work on one queue's packets, live or from a capture. It never raises, whatever the inspector does."""

import mmap
import time
import traceback

from tigerfox.dataplane.events import DROP
from tigerfox.dataplane.reason import reason_number
from tigerfox.inspectors.answer import ACCEPT, Answer
from tigerfox.inspectors.flowstates import States
from tigerfox.inspectors.packet import Packet

COUNTERS = ("heartbeat", "accepted", "dropped", "blocked", "blocks_refused", "raised", "notes_lost", "flows_evicted")
_BUCKETS = 168                       # of times: four for each doubling of a nanosecond
_REASON = reason_number("inspector")
_LOG_SECONDS = 5.0                   # between two tracebacks


class Tally:
    """What one desk counts, in shared memory: its process writes, the supervisor reads."""

    def __init__(self):
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._words = memoryview(self._memory).cast("Q")

    def add(self, name, count=1):
        """Count."""
        self._words[COUNTERS.index(name)] += count

    def turn(self):
        """The inspector's process is alive."""
        self._words[0] += 1

    def took(self, ns):
        """Count one packet's time in the inspector."""
        bits = max(ns, 8).bit_length()
        self._words[len(COUNTERS) + min(bits * 4 + (max(ns, 8) >> bits - 3 & 3), _BUCKETS - 1)] += 1

    def counts(self):
        """Return the counters by name, and the time per packet, p50 and p99 in microseconds (None before the first)."""
        found = dict(zip(COUNTERS, self._words[:len(COUNTERS)], strict=True))
        times = self._words[len(COUNTERS):len(COUNTERS) + _BUCKETS].tolist()
        return found | {"p50_us": _percentile(times, 0.5), "p99_us": _percentile(times, 0.99)}


def _percentile(times, share):
    """The upper end of the bucket in which the share lies, in microseconds."""
    total, wanted = 0, sum(times) * share
    for bucket, count in enumerate(times):
        total += count
        if count and total >= wanted:
            bits, quarter = divmod(bucket, 4)
            return round((5 + quarter) * 2.0 ** (bits - 3) / 1000, 1)
    return None


class Desk:
    """``function`` judges; ``policy`` ("open" or "closed") where it raises or answers what is no Answer.

    ``book`` is the HandoverBook, ``blocks`` the block table, ``log`` takes messages; ``page`` is the WorkerPage whose event ring
    gets what is dropped, None where somebody else writes events.
    """

    def __init__(self, name, function, policy, book, blocks, tally, log, page=None):
        self.name = name
        self.function = function
        self.passes = policy == "open"
        self.book = book
        self.blocks = blocks
        self.tally = tally
        self.log = log
        self.page = page
        self.flows = States()
        self._logged = -_LOG_SECONDS
        self._unlogged = 0

    def judge(self, data, now):
        """Return whether the packet passes; ``data`` from the IP header on, ``now`` is its Unix time."""
        started = time.perf_counter_ns()
        seen = self.book.read(data)
        passes = self._judge(seen, data, now, started)
        if not passes and self.page is not None:
            self._tell(seen, data, now)
        return passes

    def _judge(self, seen, data, now, started):
        if not seen.sid:
            self.tally.add("notes_lost")
        try:
            answer = self._ask(Packet(data, seen, now, self._flow(seen.flow_id, now)))
            if answer.scope:
                self._block(answer, seen, now)
        except Exception:
            self.tally.add("raised")
            self._log_traceback()
            return self.passes
        finally:
            self.tally.took(time.perf_counter_ns() - started)
            self.tally.turn()
        self.tally.add("accepted" if answer.accepts else "dropped")
        return answer.accepts

    def _flow(self, number, now):
        """The dictionary of a connection."""
        before = self.flows.evicted
        found = self.flows.get(number, now)
        self.tally.add("flows_evicted", self.flows.evicted - before)
        return found

    def _tell(self, seen, data, now):
        """Write an event: the packet was dropped."""
        if seen.version:
            self.page.push(DROP, seen.src, seen.dst, time_ns=int(now * 1e9), sport=seen.sport, dport=seen.dport, proto=seen.proto,
                           sid=seen.sid, reason=_REASON, ip_len=len(data), ttl=data[8 if seen.version == 4 else 7])

    def _ask(self, packet):
        answer = self.function(packet)
        if answer is None:
            return ACCEPT
        if not isinstance(answer, Answer):
            raise TypeError(f"{self.name} answered {answer!r}; return ACCEPT, DROP, block(scope, seconds) or None")
        return answer

    def _block(self, answer, seen, now):
        added = self.blocks.insert(answer.scope, seen.src, seen.dst, seen.sport, seen.dport, seen.proto,
                                   expires=min(int(now) + answer.seconds, 0xfffffffe), sid=seen.sid, now=int(now))
        self.tally.add("blocked" if added else "blocks_refused")

    def _log_traceback(self):
        now = time.monotonic()
        if now - self._logged < _LOG_SECONDS:
            self._unlogged += 1
            return
        more = f" ({self._unlogged} more since the last one that is shown)" if self._unlogged else ""
        self._logged, self._unlogged = now, 0
        self.log.error("inspector %s raised%s; the packet is %s by its policy\n%s", self.name, more,
                       "accepted" if self.passes else "dropped", traceback.format_exc().rstrip())
