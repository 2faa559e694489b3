"""Where a running instance keeps its files, and who runs it.

    run_dir/            0700, gone after stop
        pid             the supervisor's pid, locked by it as long as it lives
        control.sock    requests of the command line
        settings.json   the settings in force
        control         what the supervisor tells all workers (shared memory)
        blocks, rates   the shared tables
        worker-N        statistics and event ring of the worker on queue N
        rules-G.json    what the rules of generation G say in events
        offload.json    what is mirrored into the kernel
        telemetry.json  what the event writer counted
    state_dir/          0700, outlives a stop
        blocks.saved    the block table
"""

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from tigerfox.errors import InstanceError, PrivilegeError

RUN_DIR = "/run/tigerfox"
STATE_DIR = "/var/lib/tigerfox"
_OURS = ("pid", "control.sock", "settings.json", "control", "blocks", "rates", "telemetry.json", "offload.json")
_OURS_BY_NUMBER = ("worker-*", "rules-*.json", "*.new")


class Instance:
    """The files of one instance, running or not.

    ``run_dir`` and ``state_dir`` default to the environment (TIGERFOX_RUN_DIR, TIGERFOX_STATE_DIR), then to
    /run/tigerfox and /var/lib/tigerfox.
    """

    def __init__(self, run_dir=None, state_dir=None):
        self.run_dir = Path(run_dir or os.environ.get("TIGERFOX_RUN_DIR") or RUN_DIR)
        self.state_dir = Path(state_dir or os.environ.get("TIGERFOX_STATE_DIR") or STATE_DIR)
        self.pid_file = self.run_dir / "pid"
        self.socket = self.run_dir / "control.sock"
        self.settings = self.run_dir / "settings.json"
        self.control = self.run_dir / "control"
        self.blocks = self.run_dir / "blocks"
        self.rates = self.run_dir / "rates"
        self.offload = self.run_dir / "offload.json"
        self.telemetry = self.run_dir / "telemetry.json"
        self.saved_blocks = self.state_dir / "blocks.saved"
        self._lock = None

    def page(self, queue):
        """Return the file of the worker on ``queue``."""
        return self.run_dir / f"worker-{queue}"

    def metadata(self, generation):
        """Return the file that says what the rules of ``generation`` write into events."""
        return self.run_dir / f"rules-{generation}.json"

    def pages(self):
        """Return the worker files by queue number, in order."""
        found = {int(path.name[7:]): path for path in self.run_dir.glob("worker-*") if path.name[7:].isdecimal()}
        return dict(sorted(found.items()))

    def running(self):
        """Return the pid of the living supervisor, or None. Raises PrivilegeError."""
        try:
            descriptor = os.open(self.pid_file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise PrivilegeError(f"{self.run_dir}: only its owner may look at this instance. Use sudo.") from error
        except OSError as error:
            raise InstanceError(f"{self.pid_file}: {error.strerror}; no instance made that. Remove it, "
                                "or give another --run-dir.") from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except OSError:
            return int(os.read(descriptor, 32) or 0)
        finally:
            os.close(descriptor)

    def require(self):
        """Return the pid of the living supervisor; raises InstanceError when there is none."""
        pid = self.running()
        if pid is None:
            raise InstanceError(f"no instance runs in {self.run_dir}. Start one with `tigerfox start`, "
                                "or name its --run-dir.")
        return pid

    # The supervisor's side

    def claim(self):
        """Make the run directory ours until ``release``; what a dead instance left there is removed.

        Raises InstanceError when an instance lives there, PrivilegeError when the directory cannot be made.
        """
        pid = self.running()
        if pid is not None:
            raise InstanceError(f"an instance runs in {self.run_dir} (pid {pid}). `tigerfox stop` it, "
                                "or give another --run-dir.")
        try:
            self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.check_owner()
            with self.alone():
                self._remove_files()
                self._lock = os.open(self.pid_file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(self._lock, f"{os.getpid()}\n".encode())
        except PermissionError as error:
            mend = "Use sudo, or give a --run-dir of your own."
            raise PrivilegeError(f"{self.run_dir}: {error.strerror}. {mend}") from error
        except OSError as error:
            mend = "Make that possible, or give another --run-dir."
            raise InstanceError(f"{error.filename or self.run_dir}: {error.strerror}. {mend}") from error

    @contextlib.contextmanager
    def alone(self):
        """Hold the directory's own lock while the claim is staked or what a dead instance left is cleared, so that of
        two starters one wins and none takes down what the other puts up.

        Raises InstanceError where an instance lives, OSError where there is no directory.
        """
        descriptor = os.open(self.run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            pid = self.running()
            if pid is not None:
                raise InstanceError(f"an instance starts in {self.run_dir} (pid {pid}). Give another --run-dir.")
            yield
        finally:
            os.close(descriptor)

    def check_owner(self):
        """Raise InstanceError unless the run directory is ours alone and holds nothing foreign."""
        status = self.run_dir.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise InstanceError(f"{self.run_dir}: not a directory that belongs to us alone. Remove it, "
                                "or give another --run-dir.")
        foreign = [path.name for path in self.run_dir.iterdir() if not self._is_ours(path)]
        if foreign:
            raise InstanceError(f"{self.run_dir}: it holds {foreign[0]!r}, which is none of ours. "
                                "Give another --run-dir.")
        self.run_dir.chmod(0o700)

    @staticmethod
    def _is_ours(path):
        return path.name in _OURS or any(path.match(pattern) for pattern in _OURS_BY_NUMBER)

    def forget(self):
        """Let go of the lock file in a forked child; the lock stays with the parent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def release(self):
        """Remove the run directory and give the claim back."""
        if self._lock is None:
            return
        self._remove_files()
        with contextlib.suppress(OSError):
            self.run_dir.rmdir()
        self.forget()

    def _remove_files(self):
        names = [self.run_dir / name for name in _OURS]
        names += [path for pattern in _OURS_BY_NUMBER for path in self.run_dir.glob(pattern)]
        for path in names:
            path.unlink(missing_ok=True)

    def make_state_dir(self):
        """Make the state directory, mode 0700 where it is new."""
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_atomically(path, content):
    """Replace the file ``path`` (mode 0600) by the text ``content`` in one step."""
    new = Path(f"{path}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(content)
    os.replace(new, path)
