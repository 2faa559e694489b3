"""Which CPU each worker runs on.

``auto`` gives every worker a CPU of its own and, where there are more CPUs than workers, leaves the first ones to the
supervisor and the event writer: CPU 0 takes most interrupts of a machine that nobody tuned. With more workers than
CPUs the plan wraps round.
"""

from dataclasses import dataclass

from tigerfox.config import cpu_list
from tigerfox.errors import UsageError

NOT_PINNED = 0xffffffff              # in WorkerStats.cpu


@dataclass(frozen=True)
class Plan:
    """CPU by worker (None: not pinned), in the order of the queues; and the CPUs of everything else."""

    workers: tuple
    housekeeping: tuple


def usable_cpus():
    """Return the CPUs this process may run on, in order."""
    import psutil

    return tuple(sorted(psutil.Process().cpu_affinity()))


def plan(pin, count, cpus):
    """Return the Plan for ``count`` workers: ``pin`` is "auto", "none" or a CPU list, ``cpus`` what may be used.

    Raises UsageError when the list names a CPU that is not there.
    """
    cpus = tuple(cpus)
    if pin == "none":
        return Plan((None,) * count, cpus)
    if pin == "auto":
        chosen = cpus[-count:] if len(cpus) > count else cpus
    else:
        chosen = cpu_list(pin)
        missing = sorted(set(chosen) - set(cpus))
        if missing:
            names = ", ".join(map(str, missing))
            raise UsageError(f"--pin {pin}: CPU {names} cannot be used here. Choose from {', '.join(map(str, cpus))}.")
    rest = tuple(cpu for cpu in cpus if cpu not in chosen)
    return Plan(tuple(chosen[i % len(chosen)] for i in range(count)), rest or cpus)


def pin_self(cpus):
    """Bind this process to ``cpus``, a CPU number or several; nothing to do for None."""
    import psutil

    if cpus is not None:
        psutil.Process().cpu_affinity([cpus] if isinstance(cpus, int) else list(cpus))
