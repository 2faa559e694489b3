"""What every forked process of an instance does first: signals, its name, and letting go of what is not its own."""

import contextlib
import os
import signal

EXIT_SETUP = 4                       # a forked process could not even begin

_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


def fork(child):
    """Run ``child()`` in a forked process and return its pid; no signal comes through before the child has chosen its
    own way.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
    try:
        pid = os.fork()
        if pid == 0:
            _be(child)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)


def _be(child):
    """Call ``child`` and end the process, whatever happens: nothing may return into the parent's code."""
    code = EXIT_SETUP
    try:
        code = child() or 0
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(2, f"tigerfox: {_name()}: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def ended(seats):
    """Yield (seat, exit code) for each of the ``seats`` whose process (``pid``, 0: none) has ended; a signal is below 0."""
    for seat in seats:
        if seat.pid:
            pid, status = os.waitpid(seat.pid, os.WNOHANG)
            if pid:
                yield seat, os.waitstatus_to_exitcode(status)


def how_ended(code):
    """Return an exit code as words."""
    return f"killed by signal {-code}" if code < 0 else f"ended with status {code}"


def settle(name, forget=()):
    """Begin a forked process: forget the parent's signal handling, close what is the parent's, take a name.

    SIGINT, SIGTERM and SIGHUP are ignored: a Ctrl-C reaches the whole process group, and who ends is the supervisor's
    to say.
    """
    signal.set_wakeup_fd(-1)
    for number in _OURS:
        signal.signal(number, signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)
    for step in forget:
        step()
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as stream:
        stream.write(name[:15])


def _name():
    with contextlib.suppress(OSError), open("/proc/self/comm", encoding="ascii") as stream:
        return stream.read().strip()
    return "process"
