"""Block offload: the block table mirrored into nf_tables sets, so that what is blocked never reaches a queue.

A process beside the workers. Ten times a second it asks the table's change count and the kernel's transaction number:
what changed in the table goes to the kernel in one transaction for thousands of entries, and when somebody else changed
something there, our sets are read back and put right. An element carries the time that its entry has left, so the
kernel forgets it by itself. What does not fit, or has no ports to match, stays in user space, where every entry is
enforced anyway. With nothing to drop the table is dormant: no packet passes its hooks.
"""

import contextlib
import errno
import json
import os
import signal
import struct
import time

from tigerfox.control.helper import Helper
from tigerfox.control.instance import write_atomically
from tigerfox.control.nftables import Link

TICK = 0.1                           # seconds between two looks at the table
RECONCILE_SECONDS = 30.0             # between two reconciliations when nobody else changed anything
PAUSE_SECONDS = 1.0                  # between two reconciliations in any case
REPORT_SECONDS = 1.0
BATCH = 8192                         # entries in one transaction
TOLERANCE = 2.5                      # seconds by which a time left may differ
NEVER = 0xffffffff
PORTS = (6, 17, 132)                 # TCP, UDP, SCTP: the ports are the first four bytes
SCOPES = {1: "connection", 2: "source", 3: "destination", 4: "pair"}
SETS = tuple(f"{scope}{version}" for scope in SCOPES.values() for version in (4, 6))
_RECORD = struct.Struct("=II40s")
_TAIL = struct.Struct("=HHBBH")


def elements(key):
    """Return (set, keys of its elements) for the 40-byte key of an entry; no keys where the kernel cannot match it."""
    sport, dport, proto, version, scope = _TAIL.unpack_from(key, 32)
    width = 16 if version == 6 else 4
    name = f"{SCOPES.get(scope, '?')}{version}"
    one, two = key[:width], key[16:16 + width]
    if scope in (2, 3):
        return name, (one,)
    if scope == 4:
        return name, tuple(dict.fromkeys((one + two, two + one)))
    if scope != 1 or proto not in PORTS:
        return name, ()
    there, back = (struct.pack("!B3xH2xH2x", proto, *ports) for ports in ((sport, dport), (dport, sport)))
    return name, tuple(dict.fromkeys((one + two + there, two + one + back)))


class Mirror:
    """Brings the sets of a Link into agreement with a block table and keeps them so; ``room`` is entries a set."""

    def __init__(self, blocks, link, room):
        from tigerfox.dataplane.blockchanges import BlockChanges

        self._changes = BlockChanges(blocks)
        self._link = link
        self._room = room
        self._slots = {}             # slot: (key, expires), as the table was told
        self._held = {}              # key: expires, of what is in the kernel
        self._used = dict.fromkeys(SETS, 0)
        self._crowded = set()        # keys that found their set full
        self._count = None
        self._generation = None
        self._reconciled = -RECONCILE_SECONDS
        self._dirty = True
        self._dormant = True         # as up.sh makes it; looked at again in each reconciliation
        self.reconciliations = 0
        self.error = ""

    @property
    def declared(self):
        return len(self._slots)

    @property
    def enforced(self):
        return len(self._held)

    @property
    def no_room(self):
        """How many blocks are not in the kernel because their set is full."""
        return len(self._crowded)

    def turn(self):
        """Look once; return whether something was to do. What the kernel refuses is kept in ``error`` and tried again."""
        try:
            busy = self._follow()
            since = time.monotonic() - self._reconciled
            foreign = self._link.generation() != self._generation
            if since >= PAUSE_SECONDS and (self._dirty or foreign or since >= RECONCILE_SECONDS):
                self._reconcile()
                busy = True
            if self._held and self._dormant:
                self._rest(False)
            self.error = ""
            return busy
        except OSError as error:
            self._dirty = True
            self.error = ("the table is not there: run up.sh again, or start again" if error.errno == errno.ENOENT and
                          not self._there() else str(error))
            return True

    def _there(self):
        with contextlib.suppress(OSError):
            self._link.counters()
            return bool(self._link.elements(SETS[0])) or True
        return False

    def _follow(self):
        """Take over what changed in the table since the last look."""
        count = self._changes.count()
        if count == self._count:
            return False
        fresh, gone = self._read()
        self._count = count
        if self._dirty:
            return True              # the reconciliation does all of it
        now = time.time()
        self._crowded -= gone
        jobs = [(key, self._held[key], 0) for key in gone if key in self._held]
        jobs += [(key, self._held.get(key, 0), expires) for key, expires in fresh.items()
                 if expires > now and self._held.get(key) != expires]
        self._do(jobs, now)
        return True

    def _read(self):
        """Return {key: expires} of what is new or prolonged, and the keys that went."""
        fresh, gone = {}, set()
        for part in self._changes.slices():
            for slot, expires, key in _RECORD.iter_unpack(part):
                old = self._slots.pop(slot, None)
                if old:
                    gone.add(old[0])
                if expires:
                    self._slots[slot] = (key, expires)
                    fresh[key] = max(expires, fresh.get(key, 0))
        return fresh, gone - fresh.keys()

    def _do(self, jobs, now):
        """Carry out (key, expires in the kernel or 0, expires wanted or 0), thousands in one transaction."""
        for first in range(0, len(jobs), BATCH):
            removed, added, after = [], [], []
            for key, had, wanted in jobs[first:first + BATCH]:
                name, parts = elements(key)
                if had > now:
                    removed += [(name, part) for part in parts]
                self._used[name] -= had > 0
                fits = wanted > now and parts and self._used[name] < self._room
                self._used[name] += bool(fits)
                left = None if wanted == NEVER else max(int((wanted - now) * 1000), 1)
                if fits:
                    added += [(name, part, left) for part in parts]
                after.append((key, wanted if fits else 0))
                (self._crowded.add if wanted > now and parts and not fits else self._crowded.discard)(key)
            self._commit(removed, added)
            for key, expires in after:
                if expires:
                    self._held[key] = expires
                else:
                    self._held.pop(key, None)

    def _rest(self, dormant):
        """Hang the table's chains in, at once with the first block, or out."""
        self._transact(lambda: self._link.set_dormant(dormant))
        self._dormant = dormant

    def _commit(self, removed, added):
        self._transact(lambda: self._link.change(removed, added))

    def _transact(self, change):
        """One transaction; the kernel's transaction number says whether somebody else had one meanwhile."""
        before = self._link.generation()
        change()
        after = self._link.generation()
        if before == self._generation and after == before + 1:
            self._generation = after

    def _reconcile(self):
        """Read the sets back and put right what differs: what is missing, what is too much, what ends at another time."""
        self._reconciled = time.monotonic()
        self._generation = self._link.generation()
        found = {name: self._link.elements(name) for name in SETS}
        now = time.time()
        wanted, jobs = {}, []
        for key, expires in self._slots.values():
            if expires > now:
                wanted[key] = max(expires, wanted.get(key, 0))
        self._held, self._used, self._crowded, removed = {}, dict.fromkeys(SETS, 0), set(), []
        for key, expires in wanted.items():
            name, parts = elements(key)
            lefts = [found[name].pop(part, 0) for part in parts]
            right = bool(parts) and all(self._agrees(left, expires - now, expires) for left in lefts)
            if right and self._used[name] < self._room:
                self._held[key] = expires
                self._used[name] += 1
                continue
            removed += [(name, part) for part, left in zip(parts, lefts, strict=True) if left != 0]
            jobs.append((key, 0, expires))
        removed += [(name, part) for name, left in found.items() for part, rest in left.items() if rest is None or rest > 50]
        self._remove(removed)
        self._do(jobs, now)
        self._dormant = self._link.dormant()
        if not self._held and not self._dormant:
            self._rest(True)
        self._dirty = False
        self.reconciliations += 1

    @staticmethod
    def _agrees(left, seconds, expires):
        if expires == NEVER or left is None:
            return expires == NEVER and left is None
        return left > 0 and abs(left / 1000 - seconds) <= TOLERANCE

    def _remove(self, removed):
        for first in range(0, len(removed), BATCH):
            self._commit(removed[first:first + BATCH], [])


def read_report(instance):
    """Return the process's last report from the run directory; empty where there is none."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(instance.offload.read_text(encoding="utf-8"))
    return {}


def _report(mirror, link, instance):
    counters = {}
    with contextlib.suppress(OSError):
        counters = link.counters()
    packets = {name: counters.get(name, (0, 0))[0] for name in SCOPES.values()}
    content = {"declared": mirror.declared, "enforced": mirror.enforced, "no_room": mirror.no_room, "packets": packets,
               "bytes": sum(count[1] for count in counters.values()), "reconciliations": mirror.reconciliations,
               "error": mirror.error, "pid": os.getpid()}
    with contextlib.suppress(OSError):
        write_atomically(instance.offload, json.dumps(content))


def run(config, instance, blocks, cpus, forget, parent):
    """Be the mirroring process until SIGTERM. It leaves the sets as they are: down.sh takes them away."""
    from tigerfox.control import pinning, privileges, process

    asked = set()
    process.settle("tigerfox-block", [forget])
    signal.signal(signal.SIGTERM, lambda got, _: asked.add(got))
    pinning.pin_self(cpus)
    os.nice(5)
    privileges.lower((privileges.CAP_NET_ADMIN,), None)
    privileges.die_with_parent(signal.SIGKILL, parent)
    link = Link(config.chain)
    mirror = Mirror(blocks, link, config.offload_entries)
    reported = 0.0
    while not asked:
        busy = mirror.turn()
        if busy or time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            _report(mirror, link, instance)
        time.sleep(TICK)


class Offloader(Helper):
    """Keeps the mirroring process alive once ``hooked`` says that the sets are there.

    ``config`` is the section [netfilter], ``forget`` is called in the child first, ``cpus`` is where it may run.
    """

    def __init__(self, config, instance, blocks, log, forget, cpus):
        super().__init__("block offload", log)
        self.config = config
        self.instance = instance
        self.blocks = blocks
        self.forget = forget
        self.cpus = cpus
        self.hooked = False

    def wanted(self):
        return self.hooked

    def run(self, parent):
        """Be the process, in its own."""
        return run(self.config, self.instance, self.blocks, self.cpus, self.forget, parent)

    def report(self):
        """Return what the process counted last."""
        return read_report(self.instance) | {"on": self.hooked, "pid": self.pid, "restarts": self.restarts}
