"""Python inspectors, seen from the supervisor: one seat a queue of theirs, and the process on it.

The queue is NetfilterQueue's, opened by the supervisor and inherited by the process, so that it outlives it: what waits when an
inspector dies waits for the next one. What the dead one had taken gets the verdict of its policy, and so does everything
that comes while a pause keeps the seat empty. A full queue is answered by the kernel: `open` is its fail-open flag.
"""

import contextlib
import errno
import logging.handlers
import os
import signal
import socket
import time
import warnings

from tigerfox.control import pinning, privileges, process, settling
from tigerfox.control.watchdog import Backoff, Progress
from tigerfox.errors import MissingError, UsageError
from tigerfox.inspectors import wanted
from tigerfox.inspectors.desk import Desk, Tally

COPY_RANGE = 65531                   # NetfilterQueue itself asks for no more than 4,016 bytes of a packet
MESSAGE_BYTES = 1 << 17              # room for one message; its own buffer has 4,096
SOCKET_BYTES = 32 << 20              # the queue shall fill before its socket does
NICE = 5                             # where there is no CPU to spare, workers go first
DRAIN_MESSAGES = 4096                # read at one look


def require_package():
    """Return the module netfilterqueue. Raises MissingError with the commands that mend it."""
    try:
        import netfilterqueue
    except ImportError as error:
        raise MissingError(f"inspectors need the package NetfilterQueue ({error}). Install it: "
                           "apt-get install libnetfilter-queue-dev; pip install 'NetfilterQueue>=1.1'") from error
    return netfilterqueue


class InspectorQueue:
    """One queue of an inspector: NetfilterQueue's, with the copy range and flags that the package has no call for."""

    def __init__(self, number, length, passes):
        from tigerfox.dataplane.queue import QueueSocket

        self.number = number
        self.handler = None          # set in the inspector's process
        self._queue = require_package().NetfilterQueue()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")          # of the socket's size: the kernel's own limit holds
            try:
                self._queue.bind(number, self._take, max_len=length, sock_len=SOCKET_BYTES)
            except OSError as error:
                raise UsageError(f"queue {number} cannot be bound for an inspector ({error}). Stop who has it, or choose other "
                                 "numbers with --inspector-queues.") from error
        self.socket = QueueSocket.adopt(self._queue.get_fd(), number, COPY_RANGE, length, passes)

    def _take(self, packet):
        self.handler(packet)

    def fileno(self):
        """The descriptor of its socket."""
        return self.socket.fileno()

    def serve(self, source):
        """Give each message that ``source.recv`` returns to the handler, until that raises BlockingIOError."""
        self._queue.run_socket(source)

    def close(self):
        """Let go of the queue in this process; the kernel keeps it while another one has it."""
        self.socket.close()
        with contextlib.suppress(OSError):
            os.close(self._queue.get_fd())


class Source:
    """The socket as NetfilterQueue reads it: with room for a message of any length, and with a pulse while nothing comes."""

    def __init__(self, peer):
        self._peer = peer

    def recv(self, _):
        """Return the next message; BlockingIOError when none came in a tick."""
        return self._peer.recv(MESSAGE_BYTES)


class Seat:
    """A queue of one inspector, what its process counts, the ``page`` with its events, and that process (``pid`` 0: nobody at
    the moment).
    """

    def __init__(self, wish, queue, watchdog, page=None):
        now = time.monotonic()
        self.wish = wish
        self.queue = queue
        self.page = page
        self.tally = Tally()
        self.pid = 0
        self.due = self.born = now
        self.restarts = 0
        self.progress = Progress(watchdog.stuck_seconds, now)
        self.backoff = Backoff(watchdog.backoff_seconds)

    @property
    def number(self):
        """Its queue's number."""
        return self.queue.number

    @property
    def verdict(self):
        """The policy's."""
        return settling.ACCEPT if self.wish.policy == "open" else settling.DROP


class Inspecting:
    """All inspectors of an instance. ``config`` is the Config, ``log`` takes messages, ``forget`` is called in each child first."""

    def __init__(self, config, log, forget):
        from tigerfox.dataplane.handover import HandoverBook

        self.config = config
        self.log = log
        self.forget = forget
        self.wishes = wanted.read_all(config.inspectors.run, config.inspectors.policy)
        self.seats = []
        self.book = HandoverBook.create(desks(config)) if self.wishes else None
        self.blocks = None
        self.user = self.cpus = None

    def open(self, blocks, user, cpus):
        """Open the queues and start the processes."""
        from tigerfox.dataplane.stats import WorkerPage

        self.blocks, self.user, self.cpus = blocks, user, cpus
        for wish, (first, count, passes) in zip(self.wishes, desks(self.config), strict=True):
            for number in range(first, first + count):
                queue = InspectorQueue(number, self.config.inspectors.length, passes)
                page = WorkerPage.create(None, queue=number, ring_slots=self.config.eve.ring_slots)
                self.seats.append(Seat(wish, queue, self.config.watchdog, page))
                for warning in queue.socket.warnings:
                    self.log.warning("%s", warning)
        self.start_due()

    # Life

    def start_due(self):
        """Fork a process for every empty seat whose time has come."""
        now = time.monotonic()
        for seat in self.seats:
            if not seat.pid and seat.due <= now:
                parent = os.getpid()
                seat.pid = process.fork(lambda seat=seat, parent=parent: self._be(seat, parent))
                seat.born = now
                seat.progress.restart(now)

    def _be(self, seat, parent):
        """Be the inspector's process."""
        forget = [self.forget, *(other.queue.close for other in self.seats if other is not seat)]
        process.settle(f"tigerfox-i{seat.number}", forget)
        pinning.pin_self(self.cpus)
        os.nice(NICE)
        _keep_log(self.log)
        privileges.lower((privileges.CAP_NET_ADMIN,), self.user)
        privileges.die_with_parent(signal.SIGKILL, parent)
        work(seat, self.book, self.blocks, self.log)

    def reap(self, restart=True):
        """Take note of processes that have ended; what they had taken gets the policy's verdict."""
        for seat, code in process.ended(self.seats):
            self._ended(seat, code, restart)

    def _ended(self, seat, code, restart):
        now = time.monotonic()
        pid, seat.pid = seat.pid, 0
        self._settle(seat)
        if restart:
            pause = seat.backoff.after_death(now - seat.born)
            seat.due = now + pause
            seat.restarts += 1
            self.log.warning("inspector %s (pid %d, queue %d) %s; the next one follows in %.1f s", seat.wish.name, pid, seat.number,
                             process.how_ended(code), pause)

    def _settle(self, seat):
        try:
            settling.settle_taken(seat.queue, seat.verdict)
        except OSError as error:
            self.log.error("queue %d: what the inspector had taken cannot be settled: %s", seat.number, error.strerror)

    def turn(self, rows):
        """Keep all going; ``rows`` is what queue_rows() says."""
        now = time.monotonic()
        self.reap()
        self.start_due()
        for seat in self.seats:
            waiting = rows.get(seat.number, {}).get("waiting", 0)
            if seat.pid and seat.progress.stuck(now, seat.tally.counts()["heartbeat"], waiting):
                self.log.error("inspector %s (pid %d, queue %d) has not answered for %.1f s while %d packets wait; killing it",
                               seat.wish.name, seat.pid, seat.number, seat.progress.age(now), waiting)
                seat.progress.restart(now)
                os.kill(seat.pid, signal.SIGKILL)
            elif not seat.pid and waiting:
                self._drain(seat)

    def _drain(self, seat):
        """Nobody is there: give what waits the policy's verdict."""
        with socket.socket(fileno=os.dup(seat.queue.fileno())) as peer:
            for _ in range(DRAIN_MESSAGES):
                try:
                    peer.recv(64, socket.MSG_DONTWAIT)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        break
        self._settle(seat)

    # What is known

    def names(self):
        """Return the names that rules may say, in the order of their numbers."""
        return [wish.name for wish in self.wishes]

    def report(self, rows):
        """Return one row a process, for the status."""
        return [self._row(seat, rows.get(seat.number, {})) for seat in self.seats]

    def _row(self, seat, row):
        counts, given, waiting = seat.tally.counts(), self.book.given(seat.number), row.get("waiting", 0)
        decided = counts["accepted"] + counts["dropped"]
        return {"name": seat.wish.name, "queue": seat.number, "pid": seat.pid, "state": "running" if seat.pid else "down",
                "policy": seat.wish.policy, "given": given, "waiting": waiting,
                "policy_verdicts": max(given - decided - waiting, 0),
                "restarts": seat.restarts, **{name: counts[name] for name in counts if name != "heartbeat"}}

    # The end

    def stop(self, seconds):
        """Let the inspectors answer what waits, for at most ``seconds``; then end them, and settle by policy."""
        from tigerfox.dataplane.queue import queue_rows

        deadline = time.monotonic() + seconds
        while self.seats and time.monotonic() < deadline:
            rows = queue_rows()
            if not any(rows.get(seat.number, {}).get("waiting", 0) for seat in self.seats if seat.pid):
                break
            time.sleep(0.01)
            self.reap(restart=False)
        for seat in self.seats:
            if seat.pid:
                os.kill(seat.pid, signal.SIGKILL)
                os.waitpid(seat.pid, 0)
                seat.pid = 0
            self._drain(seat)
            seat.queue.close()

    def close(self):
        """Let go of all queues in a forked child."""
        for seat in self.seats:
            seat.queue.close()


def desks(config):
    """Return (first queue, number of queues, whether its policy is open) of each inspector. Raises UsageError."""
    from tigerfox.config import queue_numbers

    number, found = config.inspectors.first_queue, []
    for wish in wanted.read_all(config.inspectors.run, config.inspectors.policy):
        found.append((number, wish.processes, wish.policy == "open"))
        number += wish.processes
    taken = set(queue_numbers(config.queues.numbers)) & set(range(config.inspectors.first_queue, number))
    if taken or number > 65536:
        raise UsageError(f"queue {min(taken, default=number)} cannot be both a worker's and an inspector's, or is over 65535. "
                         "Choose other numbers with --inspector-queues.")
    return found


def prove(config):
    """Raise MissingError or UsageError where the inspectors of ``config`` could not run."""
    desks(config)
    for wish in wanted.read_all(config.inspectors.run, config.inspectors.policy):
        require_package()
        wish.make()


def _keep_log(log):
    """Go on writing to the log file that is open: the inspector's user may not be able to look at it by name."""
    for handler in log.handlers:
        if isinstance(handler, logging.handlers.WatchedFileHandler):
            still = logging.StreamHandler(handler.stream)
            still.setFormatter(handler.formatter)
            log.handlers[log.handlers.index(handler)] = still


def work(seat, book, blocks, log):
    """Serve a seat's queue; returns when the socket fails, with OSError."""
    try:
        function = seat.wish.make()
    except UsageError as error:
        log.error("%s (it runs as the workers' user, who may not be allowed what root is)", error)
        raise
    desk = Desk(seat.wish.name, function, seat.wish.policy, book, blocks, seat.tally, log, seat.page)

    def handle(packet):
        passes = desk.judge(packet.get_payload(), packet.get_timestamp() or time.time())
        if passes:
            packet.accept()
        else:
            packet.drop()

    seat.queue.handler = handle
    with socket.socket(fileno=os.dup(seat.queue.fileno())) as peer:
        source = Source(peer)
        while True:
            seat.queue.serve(source)
            seat.tally.turn()


