"""The supervisor: it owns what must outlive a worker, and decides nothing about packets.

What it owns
    The queues' sockets, the shared memory, the run directory, the control socket, and every process of the instance:
    one worker a queue, the event writer and the block offload.

Order
    Up: rules compiled, run directory claimed, queues bound, memory mapped, workers at work, and only then iptables.
    Down, on every way out that can be caught: iptables first, then what waits in the queues is judged, then workers,
    event writer, block table, sockets. A step that fails is reported and does not keep the next one from running.

What happens when it breaks
    Workers and helpers end with it (the kernel kills them), the queues are gone, and the policy `worker_dead`
    holds: iptables passes the packets on (open) or drops them (closed). The next start clears what was left in the run
    directory.
"""

import json
import os
import selectors
import signal
import socket
import time
from dataclasses import replace

from tigerfox._version import __version__
from tigerfox.config import as_dict, mark_value, queue_numbers
from tigerfox.control import pinning, privileges
from tigerfox.control.bypass import Bypass
from tigerfox.control.crew import Crew, Seat
from tigerfox.control.inspecting import Inspecting
from tigerfox.control.instance import write_atomically
from tigerfox.control.offload import Offloader
from tigerfox.control.reloading import Reloading
from tigerfox.control.scribe import Scribe
from tigerfox.control.service import Service
from tigerfox.errors import TigerFoxError

TICK = 0.1                           # seconds between two looks at everything
SWEEP_TICKS = 100                    # the whole block table is swept once in so many ticks
READY_SECONDS = 10.0
DRAIN_SECONDS = 1.0
STOP_SECONDS = 3.0


class Supervisor:
    """One running instance.

    ``config`` is a Config, ``instance`` its Instance, ``loaded`` the compiled rules (a loading.Loaded, now ours),
    ``log`` a logger, ``reread`` a call that gives the Config as it would be read now, for `reload`.
    """

    def __init__(self, config, instance, loaded, log, reread):
        self.config = config
        self.instance = instance
        self.loaded = loaded
        self.log = log
        self.reread = reread
        self.generation = 0
        self.started = time.time()
        self.stopping = None
        self.reopen = False
        self.hooked = False
        self.blocks = self.rates = self.control = self.crew = self.scribe = self.offloader = self.service = None
        self.seats = []
        self.replies = ()
        self.selector = selectors.DefaultSelector()
        self.reloading = Reloading(self)
        self.bypass = Bypass(config.netfilter, log)
        self.inspecting = Inspecting(config, log, self._forget_workers)
        self._swept = 0
        self._rows = {}
        self._handlers = {}
        self._wake = ()

    # Up

    def run(self, ready=lambda: None):
        """Bring everything up, call ``ready``, serve until asked to stop, take everything down."""
        try:
            self._catch_signals()
            self._open()
            self._wait_until_ready()
            self._hook()
            ready()
            self.log.info("ready: queues %s, %d rules", self.config.queues.numbers, self.loaded.rules)
            while self.stopping is None:
                self._turn()
            self.log.info("stopping: %s", self.stopping)
        finally:
            self._close()

    def _catch_signals(self):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._wake = (ours, theirs)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self.selector.register(ours, selectors.EVENT_READ, lambda mask: ours.recv(4096))
        for number, act in ((signal.SIGTERM, self._asked), (signal.SIGINT, self._asked), (signal.SIGHUP, self._hung_up),
                            (signal.SIGCHLD, lambda *_: None)):
            self._handlers[number] = signal.signal(number, act)

    def _asked(self, number, _):
        if self.stopping is None:
            self.stopping = signal.Signals(number).name

    def _hung_up(self, *_):
        self.reopen = True

    def _open(self):
        user = privileges.find_user(self.config.privileges.user)
        left = self._left_blocks()
        self.instance.claim()
        cpus = pinning.usable_cpus()
        numbers = queue_numbers(self.config.queues.numbers)
        plan = pinning.plan(self.config.cpu.pin, len(numbers), cpus)
        self._open_queues(numbers, plan)
        self._open_memory(left)
        self._open_replies()
        self._begin_bypass()
        pinning.pin_self(plan.housekeeping if self.config.cpu.pin != "none" else None)
        shared = {"blocks": self.blocks, "rates": self.rates, "control": self.control, "replies": self.replies,
                  "failure": self.config.failure, "depth": self.config.flows.depth, "bypass_mark": self.bypass.mask,
                  "book": self.inspecting.book}
        self.crew = Crew(self.seats, shared, user, self.log, self.forget)
        self.scribe = Scribe(self.config.eve, self.instance, self.seats, self.log, self._forget_all, plan.housekeeping)
        self.offloader = Offloader(self.config.netfilter, self.instance, self.blocks, self.log, self._forget_all,
                                   plan.housekeeping)
        self.service = Service(str(self.instance.socket), self.selector, self._request)
        self.use(self.loaded)
        self.inspecting.open(self.blocks, user, plan.housekeeping)
        self.scribe.also(self.inspecting.seats)
        self.crew.start_due()
        self.scribe.start_due()

    def _open_queues(self, numbers, plan):
        from tigerfox.dataplane.flow import Flows
        from tigerfox.dataplane.queue import QueueSocket
        from tigerfox.dataplane.session import SessionTable
        from tigerfox.dataplane.stats import WorkerPage

        part = self.config.queues
        reach = max(self.loaded.copy_range, 0 if part.copy_range == "auto" else part.copy_range)
        for number, cpu in zip(numbers, plan.workers, strict=True):
            queue = QueueSocket(number, copy_range=reach, max_length=part.length, gso=part.gso,
                                fail_open=self.config.failure.queue_full == "open",
                                receive_buffer=part.receive_buffer or None)
            for warning in queue.warnings:
                self.log.warning("%s", warning)
            page = WorkerPage.create(str(self.instance.page(number)), queue=number,
                                     ring_slots=self.config.eve.ring_slots)
            flows = Flows.create(None, self.config.flows.capacity, self.config.flows.midstream)
            sessions = SessionTable.create(self.config.flows.sessions)
            self.seats.append(Seat(number, queue, page, flows, sessions, cpu, self.config.watchdog))

    def _left_blocks(self):
        """The live block table of a supervisor that died without saving it; it stays mapped when its file is removed."""
        from tigerfox.dataplane.blocks import Blocks

        if not self.config.blocks.persist or self.instance.running() or not self.instance.blocks.exists():
            return None
        try:
            return Blocks.open(str(self.instance.blocks))
        except (OSError, TigerFoxError) as error:
            self.log.warning("the block table that a dead instance left cannot be used: %s", error)
            return None

    def _open_memory(self, left):
        from tigerfox.dataplane.blockbulk import copy_blocks
        from tigerfox.dataplane.blocks import Blocks
        from tigerfox.dataplane.control import ControlPage
        from tigerfox.dataplane.rates import Rates

        self.control = ControlPage.create(str(self.instance.control))
        self.blocks = Blocks.create(str(self.instance.blocks), self.config.blocks.capacity)
        self.rates = Rates.create(str(self.instance.rates), self.config.rates.capacity)
        if left is not None:         # it had begun with the saved table: what was removed since must stay removed
            self.log.info("%d blocks taken over from an instance that died", copy_blocks(left, self.blocks)[0])
        elif self.config.blocks.persist:
            self._load_blocks()

    def _load_blocks(self):
        from tigerfox.control.blocklist import load_table

        try:
            if self.instance.saved_blocks.exists():
                load_table(self.instance.saved_blocks, self.blocks)
        except (OSError, TigerFoxError) as error:
            aside = f"{self.instance.saved_blocks}.damaged"
            os.replace(self.instance.saved_blocks, aside)
            self.log.warning("the saved block table cannot be used (%s); it is kept as %s", error, aside)

    def _begin_bypass(self):
        """Leave nothing to the kernel where it cannot be taken back."""
        if not self.bypass.begin():
            self.log.warning("--bypass is off: this kernel does not list its connections")
            self.config = replace(self.config, netfilter=replace(self.config.netfilter, bypass="off"))
            self.bypass = Bypass(self.config.netfilter, self.log)

    def _open_replies(self):
        from tigerfox.dataplane.reply import open_reply_sockets

        self.replies = open_reply_sockets(mark_value(self.config.netfilter.skip_mark))

    def _wait_until_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while self.stopping is None and self.crew.behind():
            if time.monotonic() > deadline or any(seat.backoff.deaths > 2 for seat in self.seats):
                queues = ", ".join(map(str, self.crew.behind()))
                raise TigerFoxError(f"the workers of queues {queues} do not come up. Their messages stand above; "
                                    "`tigerfox doctor` checks this machine.")
            self._turn(0.01)

    def _hook(self):
        from tigerfox.control import netfilter

        if self.config.netfilter.install and self.stopping is None:
            self.hooked = True
            self._write_settings()       # a supervisor that is killed leaves word of its chain
            self.offloader.hooked = netfilter.up_with_offload(self.config, self.log)
            self.offloader.start_due()

    # The loop

    def _turn(self, pause=TICK):
        for key, mask in self.selector.select(pause):
            key.data(mask)
        self.crew.reap()
        self.crew.start_due()
        self.scribe.keep()
        self.offloader.keep()
        if self.reopen:
            self.reopen = False
            self.scribe.reopen()
        self._watch()
        self._sweep()
        self.bypass.turn(self.crew, self.blocks)
        self.reloading.turn()
        self.service.expire()

    def _watch(self):
        from tigerfox.dataplane.queue import queue_rows

        try:
            self._rows = queue_rows()
        except (OSError, TigerFoxError) as error:
            self.log.error("the state of the queues cannot be read: %s", error)
            self._rows = {}
        self.crew.watch(self._rows)
        self.inspecting.turn(self._rows)

    def _sweep(self):
        step = -(-self.blocks.slots // SWEEP_TICKS)
        self.blocks.sweep(first=self._swept, count=step)
        self._swept = self._swept + step if self._swept + step < self.blocks.slots else 0

    def use(self, loaded):
        """Put a compiled rule set into force, for the workers there are and those to come.

        Where it raises OSError or TigerFoxError, the old rules are still in force.
        """
        generation = self.generation + 1
        write_atomically(self.instance.metadata(generation), json.dumps(loaded.metadata))
        self.crew.use(loaded, generation)
        self.generation, old, self.loaded = generation, self.loaded, loaded
        loaded.metadata.clear()
        self.control.set_generation(generation)
        try:
            self._write_settings()
        except OSError as error:
            self.log.error("%s cannot be written: %s", self.instance.settings, error.strerror)
        if old is not loaded:
            old.close()
        self.instance.metadata(self.generation - 3).unlink(missing_ok=True)

    def _write_settings(self):
        write_atomically(self.instance.settings, json.dumps(self.about() | {"settings": as_dict(self.config)}))

    def _fanout(self):
        """How our own chain deals packets to the queues; None where it is not ours."""
        netfilter = self.config.netfilter
        if not self.hooked or netfilter.fanout != "flow":
            return netfilter.fanout if self.hooked else None
        return "hash" if netfilter.mark_mask == "none" else "flow"

    def about(self):
        """Return what is known here and in no shared memory."""
        return {"version": __version__, "pid": os.getpid(), "started": self.started, "generation": self.generation,
                "rules": self.loaded.rules, "left_out": self.loaded.refused, "hooked": self.hooked,
                "fanout": self._fanout(),
                "queues": [seat.number for seat in self.seats]}

    # Requests

    def _request(self, request, client):
        acts = {"status": self._status, "stop": self._stop, "reload": self.reloading.begin}
        act = acts.get(str(request.get("do")))
        if act is None:
            client.answer({"error": f"unknown request {request.get('do')!r}", "code": 2})
        else:
            act(client)

    def _status(self, client):
        from tigerfox.telemetry.status import collect

        states = {seat.number: {"state": seat.state, "age": seat.progress.age(time.monotonic())} for seat in self.seats}
        pages = {seat.number: seat.page for seat in self.seats}
        reports = {"eve": self.scribe.report(), "offload": self.offloader.report(),
                   "inspectors": self.inspecting.report(self._rows)}
        client.answer(collect(self.about(), pages, self.blocks, self.rates, self._rows, reports, states))

    def _stop(self, client):
        self.stopping = self.stopping or "`tigerfox stop`"
        client.answer({"ok": True, "pid": os.getpid()})

    # Down

    def forget(self):
        """Close in a worker what belongs to the supervisor and the inspectors."""
        self._forget_own()
        self.inspecting.close()

    def _forget_own(self):
        self.instance.forget()
        for end in self._wake:
            end.close()
        self.selector.close()
        if self.service is not None:
            self.service.forget()

    def _forget_workers(self):
        """Close in a child that is neither worker nor the supervisor what belongs to those."""
        self._forget_own()
        for seat in self.seats:
            seat.close()
        for descriptor in self.replies:
            os.close(descriptor)

    def _forget_all(self):
        self._forget_workers()
        self.inspecting.close()

    def child_forgets(self):
        """Return the calls by which a helper process lets go of queues and sockets."""
        return [self._forget_all]

    def _close(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)      # what we call inherits it: a second Ctrl-C breaks nothing off
        for step in (self._unhook, self.bypass.end, self._drain, self._end_workers, self._end_inspectors, self._end_scribe,
                     self._save_blocks,
                     self._close_rest, self.instance.release, self._restore_signals):
            try:
                step()
            except Exception as error:
                self.log.error("while stopping: %s", error)

    def _unhook(self):
        from tigerfox.control import netfilter

        if self.offloader is not None:
            self.offloader.stop(STOP_SECONDS)
            self.offloader.hooked = False
        if self.hooked:
            netfilter.down(self.config)
            self.hooked = False

    def _drain(self):
        """Let the workers judge what waits, now that nothing more comes."""
        from tigerfox.dataplane.queue import queue_rows

        deadline = time.monotonic() + DRAIN_SECONDS
        ours = {seat.number for seat in self.seats if seat.pid}
        while self.config.netfilter.install and time.monotonic() < deadline:
            if not any(row["waiting"] for number, row in queue_rows().items() if number in ours):
                return
            time.sleep(0.01)

    def _end_workers(self):
        self.reloading.abandon()
        if self.control is not None:
            self.control.set_stop()
        if self.crew is not None:
            self.crew.stop(STOP_SECONDS)
        for seat in self.seats:
            seat.close()

    def _end_inspectors(self):
        self.inspecting.stop(DRAIN_SECONDS)

    def _end_scribe(self):
        if self.scribe is not None:
            self.scribe.stop(STOP_SECONDS)

    def _save_blocks(self):
        from tigerfox.control.blocklist import save_table

        if self.blocks is not None and self.config.blocks.persist:
            self.instance.make_state_dir()
            save_table(self.blocks, self.instance.saved_blocks)

    def _close_rest(self):
        if self.service is not None:
            self.service.flush(1.0)
            self.service.close()
        for descriptor in self.replies:
            os.close(descriptor)
        self.loaded.close()

    def _restore_signals(self):
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for end in self._wake:
            end.close()
        self.selector.close()
