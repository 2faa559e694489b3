"""Compiling rules in a process of their own.

A set of rules is compiled beside the traffic: in a child, so that neither its memory nor a crash of it touches the
supervisor. What comes back is an immutable image in sealed anonymous memory, whose descriptor is handed to the workers,
and what the rules say in events.
"""

import fcntl
import json
import mmap
import os
import signal
import time
from dataclasses import dataclass, field

from tigerfox import errors
from tigerfox.control.privileges import die_with_parent
from tigerfox.control.process import fork, settle
from tigerfox.control.rulefiles import compile_files

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@dataclass(frozen=True)
class Loaded:
    """A compiled rule set: ``image`` is a descriptor of sealed memory, to be closed by ``close``."""

    image: int
    size: int
    rules: int
    copy_range: int
    seconds: float
    metadata: list = field(repr=False)
    refused: int
    left_out: list = field(repr=False)
    warnings: list = field(repr=False)

    def close(self):
        """Give the memory back; workers that have mapped it keep it."""
        os.close(self.image)


def map_image(descriptor):
    """Return the image behind ``descriptor`` as a read-only mapping.

    Private, because kernels before 6.7 refuse to share sealed memory; without a write the pages are the same ones.
    """
    return mmap.mmap(descriptor, os.fstat(descriptor).st_size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)


class Compilation:
    """A child that compiles; ``pid`` ends by itself, then ``finish`` has the result."""

    def __init__(self, rules, block_seconds, forget=(), inspectors=()):
        """Fork the child. ``rules`` is the configuration's section, ``forget`` is called in the child first, ``inspectors`` are
        the names that rules may say.
        """
        self.started = time.monotonic()
        self.image = os.memfd_create("tigerfox-rules", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.answer = os.memfd_create("tigerfox-answer", os.MFD_CLOEXEC)
        parent = os.getpid()
        self.pid = fork(lambda: self._child(rules, block_seconds, parent, forget, list(inspectors)))

    def _child(self, rules, block_seconds, parent, forget, inspectors):
        settle("tigerfox-rules", forget)
        die_with_parent(signal.SIGKILL, parent)
        os.nice(5)
        answer = self._compile(rules, block_seconds, inspectors)
        with open(self.answer, "w", encoding="utf-8", closefd=False) as stream:
            json.dump(answer, stream)

    def _compile(self, rules, block_seconds, inspectors):
        try:
            made = compile_files(rules.files, rules.variables, rules.lenient, block_seconds, rules.cache, inspectors)
        except errors.RuleError as error:
            return {"error": "RuleError", "problems": [str(problem) for problem in error.problems]}
        except errors.TigerFoxError as error:
            return {"error": type(error).__name__, "text": str(error)}
        except MemoryError:
            text = "compiling the rules took more memory than there is. Load fewer rules."
            return {"error": "TigerFoxError", "text": text}
        with open(self.image, "wb", closefd=False) as stream:
            stream.write(made.image)
        return {"rules": made.count, "metadata": made.metadata, "refused": made.refused, "left_out": made.left_out,
                "copy_range": made.copy_range, "warnings": made.warnings}

    def overdue(self, seconds):
        """Return whether the child has taken longer than ``seconds``."""
        return time.monotonic() - self.started > seconds

    def kill(self):
        """End the child; ``finish`` is still to be called."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        """Wait for the child and return its Loaded; raises what ``finish`` raises."""
        try:
            return self.finish(os.waitpid(self.pid, 0)[1])
        except BaseException:
            self.discard()
            raise

    def discard(self):
        """Close what is still open."""
        for name in ("image", "answer"):
            descriptor, _ = getattr(self, name), setattr(self, name, -1)
            if descriptor >= 0:
                os.close(descriptor)

    def finish(self, status):
        """Return the Loaded of an ended child, given its wait status; raises RuleError or another TigerFoxError."""
        try:
            code = os.waitstatus_to_exitcode(status)
            if code != 0:
                raise errors.TigerFoxError(f"the rule compiler ended with status {code} and no word. "
                                           "Check the rules with `tigerfox rules check`.")
            size = os.lseek(self.answer, 0, os.SEEK_END)
            answer = json.loads(os.pread(self.answer, size, 0))
            _raise_error(answer)
            return self._loaded(answer)
        finally:
            self.discard()

    def _loaded(self, answer):
        fcntl.fcntl(self.image, fcntl.F_ADD_SEALS, _SEALS)
        image, self.image = self.image, -1
        return Loaded(image, os.fstat(image).st_size, answer["rules"], answer["copy_range"],
                      time.monotonic() - self.started, answer["metadata"], answer["refused"], answer["left_out"],
                      answer["warnings"])


def _raise_error(answer):
    name = answer.get("error")
    if name == "RuleError":
        raise errors.RuleError(answer["problems"])
    if name is not None:
        raise getattr(errors, name)(answer["text"])
