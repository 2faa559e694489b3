"""The workers of an instance, seen from the supervisor: one seat a queue, and who sits on it.

A seat outlives its worker: it holds the queue's socket and the page of statistics. A worker that ends is replaced, the
first time at once; the kernel keeps the packets in the meantime. A worker that does not move while packets wait is
killed, and then replaced like any other. A worker that was at work when somebody else killed it is replaced at once,
however often; one that ends by itself is replaced ever more slowly, and after the third time what it had taken is
dropped.
"""

import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass, field

from tigerfox.control import settling, worker
from tigerfox.control.loading import map_image
from tigerfox.control.process import ended, fork, how_ended
from tigerfox.control.watchdog import Backoff, Progress
from tigerfox.dataplane.image import CompiledRules
from tigerfox.dataplane.queue import queue_rows

SUSPECT_DEATHS = 3                   # so many in a row, not killed from outside, and the packets at hand are suspect


@dataclass
class Job:
    """All that a forked worker needs; ``forget`` are calls that close what is not its own."""

    number: int
    queue: object
    page: object
    flows: object
    sessions: object
    blocks: object
    rates: object
    control: object
    replies: object
    failure: object
    depth: int
    bypass_mark: int
    rules: object
    copy_range: int
    settle_to: int
    cpu: int | None
    user: tuple | None
    channel: socket.socket
    parent: int
    book: object                 # of the Python inspectors, or None
    forget: list = field(default_factory=list)


class Seat:
    """A queue, its page, its flows and their sessions, and the worker on it (``pid`` 0: nobody at the moment)."""

    def __init__(self, number, queue, page, flows, sessions, cpu, watchdog):
        now = time.monotonic()
        self.number = number
        self.queue = queue
        self.page = page
        self.flows, self.sessions = flows, sessions
        self.cpu = cpu
        self.copy_range = queue.copy_range     # bytes of a packet asked of the kernel; never less again
        self.pid = 0
        self.due = now
        self.born = now
        self.channel = None
        self.first_heartbeat = 0
        self.killed = False          # by the watchdog
        self.suspect = False         # its workers seem to die of a packet
        self.taken = False           # there was a worker before
        self.progress = Progress(watchdog.stuck_seconds, now)
        self.backoff = Backoff(watchdog.backoff_seconds)

    @property
    def state(self):
        """``running``, or ``down`` while nobody sits here."""
        return "running" if self.pid else "down"

    def close(self):
        """Give the queue and the channel up."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.queue.close()


class Crew:
    """All seats. ``shared`` gives a Job what all have in common; ``log`` takes messages; ``forget`` is called in each
    child.
    """

    def __init__(self, seats, shared, user, log, forget):
        self.seats = seats
        self.shared = shared
        self.user = user
        self.log = log
        self.forget = forget
        self.rules = None
        self.generation = 0

    # Life

    def start_due(self):
        """Fork a worker on every empty seat whose time has come."""
        now = time.monotonic()
        for seat in self.seats:
            if not seat.pid and seat.due <= now:
                self._fork(seat, now)

    def _fork(self, seat, now):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        self._settle(seat)
        forget = [self.forget, ours.close, *(other.close for other in self.seats if other is not seat)]
        job = Job(seat.number, seat.queue, seat.page, seat.flows, seat.sessions, rules=self.rules,
                  copy_range=seat.copy_range, cpu=seat.cpu, settle_to=self._given_out(seat), user=self.user, channel=theirs,
                  parent=os.getpid(), forget=forget, **self.shared)
        seat.first_heartbeat = seat.page.heartbeat
        try:
            seat.pid = fork(lambda: worker.run(job))
        except OSError as error:
            self.log.error("worker on queue %d: %s; trying again", seat.number, error.strerror)
            seat.due = now + 1.0
            ours.close()
            return
        finally:
            theirs.close()
        seat.channel, seat.born, seat.killed, seat.taken, seat.suspect = ours, now, False, True, False
        seat.progress.restart(now)

    def _given_out(self, seat):
        """Return the packet id that the kernel gave out last, when this seat had a worker before; else 0."""
        return queue_rows().get(seat.number, {}).get("id_sequence", 0) if seat.taken else 0

    def reap(self, restart=True):
        """Take note of workers that have ended; with ``restart`` they get successors."""
        for seat, code in ended(self.seats):
            self._ended(seat, code, restart)

    def _ended(self, seat, code, restart):
        now = time.monotonic()
        pid, seat.pid = seat.pid, 0
        seat.channel.close()
        seat.channel = None
        if not restart:
            return
        pause = self._pause(seat, code, now)
        seat.due = now + pause
        seat.page.count_restart()
        self.log.warning("worker %d on queue %d %s; the next one follows in %.1f s", pid, seat.number, how_ended(code), pause)

    @staticmethod
    def _pause(seat, code, now):
        """Return how long the seat stays empty: not at all when the worker was at work and somebody else killed it."""
        by_others = code == -signal.SIGKILL and not seat.killed
        if by_others and seat.page.heartbeat != seat.first_heartbeat:
            return 0.0
        pause = seat.backoff.after_death(now - seat.born)
        seat.suspect = not by_others and seat.backoff.deaths >= SUSPECT_DEATHS
        return pause

    def _settle(self, seat):
        """Before a successor: a verdict for what the dead worker had taken, where it is not to be judged again."""
        if seat.suspect:
            verdict, why = settling.DROP, "it may be what killed its workers"
        elif seat.killed and self.shared["failure"].worker_stuck == "open":
            verdict, why = settling.ACCEPT, "policy worker_stuck is open"
        else:
            return
        try:
            last = settling.settle_taken(seat.queue, verdict)
        except OSError as error:
            self.log.error("queue %d: what the dead worker had taken cannot be settled: %s", seat.number,
                           error.strerror)
        else:
            self.log.warning("queue %d: what the dead worker had taken is %s, up to packet %s: %s", seat.number,
                             "accepted" if verdict else "dropped", last, why)

    def watch(self, rows):
        """Kill workers that do not move while packets wait; ``rows`` is what queue_rows() says."""
        now = time.monotonic()
        for seat in self.seats:
            waiting = rows.get(seat.number, {}).get("waiting", 0)
            if seat.pid and not seat.killed and seat.progress.stuck(now, seat.page.heartbeat, waiting):
                self.log.error("worker %d on queue %d has not moved for %.1f s while %d packets wait; killing it",
                               seat.pid, seat.number, seat.progress.age(now), waiting)
                seat.killed = True
                self._kill(seat)

    def _kill(self, seat):
        with contextlib.suppress(ProcessLookupError):
            os.kill(seat.pid, signal.SIGKILL)

    # Rules

    def use(self, loaded, generation):
        """Make this the rule set of every worker, those that live and those to come."""
        self.rules, self.generation = CompiledRules.from_buffer(map_image(loaded.image), generation), generation
        for seat in self.seats:
            seat.copy_range = max(seat.copy_range, loaded.copy_range)
            if seat.channel is not None:
                try:
                    worker.hand_over(seat.channel, loaded.image, generation)
                except OSError as error:
                    self.log.error("worker %d on queue %d does not take new rules (%s); replacing it",
                                   seat.pid, seat.number, error.strerror)
                    self._kill(seat)

    def behind(self):
        """Return the queue numbers whose worker does not run the newest generation yet."""
        return [seat.number for seat in self.seats if not seat.pid or seat.page.generation != self.generation]

    # The end

    def stop(self, seconds):
        """Wait until the workers, told to stop, have ended; kill those who take longer than ``seconds``."""
        deadline = time.monotonic() + seconds
        self.reap(restart=False)
        while any(seat.pid for seat in self.seats) and time.monotonic() < deadline:
            time.sleep(0.01)
            self.reap(restart=False)
        for seat in self.seats:
            if seat.pid:
                self.log.warning("worker %d on queue %d does not stop; killing it", seat.pid, seat.number)
                self._kill(seat)
                os.waitpid(seat.pid, 0)
                self._ended(seat, 0, restart=False)

    def close(self):
        """Give all queues up."""
        for seat in self.seats:
            seat.close()
