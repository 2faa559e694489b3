"""Giving privileges up.

A worker needs CAP_NET_ADMIN for every verdict (the kernel asks for it on each message) and nothing else: it runs as
another user, with that one capability, and can never gain more. capabilities(7), prctl(2), linux/capability.h.
"""

import ctypes
import os
import pwd

from tigerfox.errors import ConfigError, PrivilegeError, from_errno

CAP_DAC_OVERRIDE = 1                 # linux/capability.h
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
PR_SET_PDEATHSIG = 1                 # linux/prctl.h
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_MEND = "Set [privileges] user = \"\" and report this kernel."

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def has_capability(number):
    """Return whether this process has the capability in effect."""
    data = (_Data * 2)()
    header = _Header(_VERSION_3, 0)
    if _libc.capget(ctypes.byref(header), data) != 0:
        return False
    return bool(data[number // 32].effective >> (number % 32) & 1)


def require_net_admin():
    """Raise PrivilegeError unless this process may bind queues."""
    if not has_capability(CAP_NET_ADMIN):
        raise PrivilegeError("binding an NFQUEUE needs CAP_NET_ADMIN. Run it as `sudo tigerfox start …`, "
                             "or in a unit with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW.")


def find_user(name):
    """Return (uid, gid) of the user ``name``; None for the empty name. Raises ConfigError."""
    if not name:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        mend = 'Name one, or "" to stay the caller.'
        raise ConfigError(f"[privileges] user: there is no user {name!r}. {mend}") from error
    return entry.pw_uid, entry.pw_gid


def lower(keep=(CAP_NET_ADMIN,), user=None):
    """Keep the capabilities ``keep`` alone, become ``user`` (uid, gid), and rule out gaining anything again.

    Raises PrivilegeError when the kernel refuses a step.
    """
    held = [number for number in keep if has_capability(number)]
    _drop_bounding(held)
    if user is not None and os.geteuid() == 0:
        _prctl(PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setresgid(user[1], user[1], user[1])
        os.setresuid(user[0], user[0], user[0])
    _set_capabilities(held)
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(signal_number, parent):
    """Have the kernel send ``signal_number`` to this process when its parent ``parent`` (a pid) ends.

    To be called after ``lower``: the kernel forgets it when the user changes.
    """
    _prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal_number)


def _drop_bounding(keep):
    for number in range(64):
        if number not in keep and _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            if ctypes.get_errno() in (1, 22):      # EPERM: without CAP_SETPCAP; EINVAL: beyond the last capability
                return


def _set_capabilities(numbers):
    data = (_Data * 2)()
    for number in numbers:
        data[number // 32].effective |= 1 << (number % 32)
        data[number // 32].permitted |= 1 << (number % 32)
    header = _Header(_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), data) != 0:
        raise from_errno(ctypes.get_errno(), "give up capabilities", _MEND)


def _prctl(option, value):
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise from_errno(ctypes.get_errno(), f"prctl {option}", _MEND)
