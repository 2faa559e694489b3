"""The errors that TigerFox shows to people.

    TigerFoxError            exit 1   the work failed
    ├── UsageError           exit 2   the command or the configuration is wrong
    │   └── ConfigError               ... at a place in the configuration file
    ├── MissingError         exit 3   a privilege or a kernel feature is missing
    │   ├── PrivilegeError
    │   └── KernelError
    ├── RuleError                     rules that were refused, each with file:line:column
    ├── CaptureError                  a capture that cannot be read
    ├── InstanceError                 no such instance, or one that is already running
    │   └── QueueTakenError           a queue number that another process has
    └── SharedMemoryError             a mapped file that is not what its header must say

Every message names the mend. An error raised by the kernel goes through ``from_errno``.
"""

import errno as _errno
import os


class TigerFoxError(Exception):
    """The work failed; the message says why and what mends it."""

    exit_code = 1


class UsageError(TigerFoxError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown or out of range; the message names the file and the key."""


class MissingError(TigerFoxError):
    """This process or this kernel lacks something; the message ends with the command that mends it."""

    exit_code = 3


class PrivilegeError(MissingError):
    """A capability is missing."""


class KernelError(MissingError):
    """A kernel feature is missing."""


class RuleError(TigerFoxError):
    """One or more rules were refused.

    ``problems`` is a list of objects whose ``str()`` is ``file:line:column: what, and what to write instead``.
    """

    def __init__(self, problems):
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CaptureError(TigerFoxError):
    """The file is not a capture, or of a link type that is not read."""


class InstanceError(TigerFoxError):
    """No instance of that name runs, or one runs already."""


class QueueTakenError(InstanceError):
    """Another process owns the queue number."""


class SharedMemoryError(TigerFoxError):
    """A mapped file has the wrong magic, version or size."""


_PRIVILEGE = {_errno.EPERM, _errno.EACCES}
_FEATURE = {_errno.EPROTONOSUPPORT, _errno.EOPNOTSUPP, _errno.EAFNOSUPPORT, _errno.ENOPROTOOPT, _errno.ENOSYS}


def from_errno(number, doing, mend):
    """Return the TigerFoxError for a kernel error.

    ``number`` is an errno value, ``doing`` what was tried ("bind queue 3"), ``mend`` what to do about it.
    """
    text = f"{doing}: {os.strerror(number)}. {mend}"
    if number in _PRIVILEGE:
        return PrivilegeError(text)
    if number in _FEATURE:
        return KernelError(text)
    return TigerFoxError(text)
