"""The control page: the few words by which a supervisor steers its workers.

What it owns
    One mapped page; the supervisor creates it before the first fork and removes it at the end.

Layout
    | SharedHeader 128 | wanted_generation 8 | stop 4 | log_level 4 |

Invariants
    Each word is aligned and stored at once; workers read it at every turn of their loop, at most 100 ms apart.

Who may write what
    wanted_generation, stop: the supervisor. log_level: supervisor or command line. Workers only read.

What happens when full or broken
    Nothing fills up. A file with another magic, kind or layout is refused (SharedMemoryError).
"""

from tigerfox.dataplane.shared cimport SHARED_CONTROL

CONTROL_LAYOUT = 1
CONTROL_SIZE = 4096

# ---- Public API


cdef class ControlPage:
    """``ControlPage.create(path)`` (``None``: anonymous, shared through fork) or ``ControlPage.open(path)``.

    Raises FileExistsError (create), FileNotFoundError and SharedMemoryError (open).
    """

    @staticmethod
    def create(path=None):
        cdef ControlPage page = ControlPage.__new__(ControlPage)
        page.region = Region.create(path, SHARED_CONTROL, CONTROL_LAYOUT, CONTROL_SIZE)
        page.control = <Control *>page.region.base
        return page

    @staticmethod
    def open(path, bint writable=False):
        cdef ControlPage page = ControlPage.__new__(ControlPage)
        page.region = Region.open(path, SHARED_CONTROL, CONTROL_LAYOUT, writable)
        page.control = <Control *>page.region.base
        return page

    def _writable(self):
        if not self.region.writable:
            raise PermissionError("this control page was opened read-only: open it with writable=True")

    @property
    def generation(self):
        """The rule set generation that every worker should use."""
        return control_wanted(self.control)

    def set_generation(self, uint64_t generation):
        """Ask every worker to take up this generation: its ``run`` returns RELOAD between two batches."""
        self._writable()
        (<volatile uint64_t *>&self.control.wanted_generation)[0] = generation

    @property
    def stop(self):
        """Whether the workers are asked to end."""
        return bool(control_stopped(self.control))

    def set_stop(self, bint stop=True):
        """Ask every worker to end after its batch: its ``run`` returns STOP."""
        self._writable()
        (<volatile uint32_t *>&self.control.stop)[0] = stop

    @property
    def log_level(self):
        """A level of Python's logging module."""
        return self.control.log_level

    def set_log_level(self, uint32_t level):
        """Change the level for all processes of the instance at once."""
        self._writable()
        self.control.log_level = level
