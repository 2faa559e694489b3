"""The worker process: one queue, one CPU, one capability.

It is forked by the supervisor with everything already open and mapped; all it does in Python is to lower itself, to run
the compiled loop, and to take a new rule set from its channel when that loop says that there is one.
"""

import gc
import json
import os
import signal
import socket
import time

from tigerfox import _fast
from tigerfox.control import pinning, privileges, process
from tigerfox.control.loading import map_image
from tigerfox.dataplane.detect import Detection
from tigerfox.dataplane.image import CompiledRules

EXIT_STOPPED = 0


def run(job):
    """Be the worker of ``job`` (a crew.Job); returns the exit status."""
    process.settle(f"tigerfox-q{job.number}", job.forget)
    pinning.pin_self(job.cpu)
    privileges.lower((privileges.CAP_NET_ADMIN,), job.user)
    privileges.die_with_parent(signal.SIGKILL, job.parent)
    gc.freeze()
    gc.disable()
    return _turn(job)


def _turn(job):
    worker = _fast.Worker(job.queue.fileno(), job.number, job.copy_range, job.page, job.blocks, job.rates, job.rules,
                          policies(job.failure), job.replies, job.control, Detection(job.flows, job.sessions, job.depth),
                          job.bypass_mark, job.book)
    job.page.begin(os.getpid(), job.cpu, time.time_ns())
    settle_to = job.settle_to
    while True:
        reason = worker.run(settle_to)
        settle_to = 0
        if reason == _fast.STOP:
            return EXIT_STOPPED
        if reason != _fast.RELOAD:
            raise OSError(worker.error)
        found = newest(job.channel)
        if found is not None:
            descriptor, generation = found
            worker.set_rules(CompiledRules.from_buffer(map_image(descriptor), generation))
            os.close(descriptor)


def policies(failure):
    """Return the failure policies that the data plane knows, as it names them."""
    words = {"open": "accept", "closed": "drop"}
    return {name: words[getattr(failure, name)] for name in ("malformed", "unparsed", "no_verdict")}


# The channel: one datagram for each rule set, with the image's descriptor beside it

def hand_over(channel, image, generation):
    """Send a rule set to a worker."""
    socket.send_fds(channel, [json.dumps({"generation": generation}).encode()], [image])


def newest(channel):
    """Return (descriptor, generation) of the newest rule set that waits in the non-blocking channel, or None; older
    ones are closed.
    """
    found = None
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(channel, 256, 1)
        except BlockingIOError:
            return found
        if not message or not descriptors:
            return found
        if found is not None:
            os.close(found[0])
        found = descriptors[0], json.loads(message)["generation"]
