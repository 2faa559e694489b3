"""A reload: compiled beside the traffic, taken up by each worker between two of its batches, reported when all have it.
"""

import contextlib
import os
import selectors
import time

from tigerfox.control import loading
from tigerfox.errors import RuleError, TigerFoxError

TAKE_UP_SECONDS = 20.0               # a worker that has not swapped by then is reported, not waited for


class Reloading:
    """The one reload that may be under way; belongs to a Supervisor, whose loop calls ``turn``."""

    def __init__(self, supervisor):
        self._supervisor = supervisor
        self._client = None
        self._work = None
        self._watch = None
        self._report = None
        self._deadline = 0.0

    def begin(self, client):
        """Start a reload for ``client``, who gets an answer when all is done or has failed."""
        if self._client is not None:
            client.answer({"error": "a reload is under way. Wait for it.", "code": 1})
            return
        self._client = client
        supervisor = self._supervisor
        try:
            config = supervisor.reread()
            self._work = loading.Compilation(config.rules, config.blocks.seconds, supervisor.child_forgets(),
                                             supervisor.inspecting.names())
        except (TigerFoxError, OSError) as error:
            self._fail(error)
            return
        self._deadline = self._work.started + supervisor.config.watchdog.compile_seconds
        self._watch = os.pidfd_open(self._work.pid)
        supervisor.selector.register(self._watch, selectors.EVENT_READ, self._compiled)

    def _compiled(self, _):
        status = os.waitpid(self._work.pid, 0)[1]
        self._unwatch()
        work, self._work = self._work, None
        loaded = None
        try:
            loaded = work.finish(status)
            self._supervisor.use(loaded)
        except (TigerFoxError, OSError) as error:
            if loaded is not None:
                loaded.close()
            self._fail(error)
            return
        self._report = {"ok": True, "generation": self._supervisor.generation, "rules": loaded.rules,
                        "compile_seconds": round(loaded.seconds, 3), "refused": loaded.refused,
                        "left_out": loaded.left_out, "warnings": loaded.warnings, "started": work.started}
        self._deadline = time.monotonic() + TAKE_UP_SECONDS

    def turn(self):
        """Look how far it is."""
        now = time.monotonic()
        if self._work is not None and now > self._deadline:
            self._deadline = float("inf")
            self._supervisor.log.error("the rule compiler takes too long; killing it")
            self._work.kill()
        elif self._report is not None:
            behind = self._supervisor.crew.behind()
            if not behind or now > self._deadline:
                self._done(behind, now)

    def _done(self, behind, now):
        report, self._report = self._report, None
        report["behind"] = behind
        self._supervisor.bypass.turn(self._supervisor.crew, self._supervisor.blocks)
        report["seconds"] = round(now - report.pop("started"), 3)
        self._supervisor.log.info("reloaded: generation %d, %d rules, %.3f s", report["generation"], report["rules"],
                                  report["seconds"])
        self._answer(report)

    def _fail(self, error):
        text = str(error)
        self._supervisor.log.error("reload refused, the old rules stay in force: %s", text)
        answer = {"error": text, "code": error.exit_code if isinstance(error, TigerFoxError) else 1}
        if isinstance(error, RuleError):
            answer["problems"] = [str(problem) for problem in error.problems]
        self._answer(answer)

    def _answer(self, answer):
        client, self._client = self._client, None
        client.answer(answer)

    def _unwatch(self):
        if self._watch is not None:
            with contextlib.suppress(KeyError):
                self._supervisor.selector.unregister(self._watch)
            os.close(self._watch)
            self._watch = None

    def abandon(self):
        """End a reload that is under way when the instance stops."""
        if self._work is not None:
            self._work.kill()
            os.waitpid(self._work.pid, 0)
            self._work.discard()
            self._work = None
            self._unwatch()
        if self._client is not None:
            self._answer({"error": "the instance stops.", "code": 1})
