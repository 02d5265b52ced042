"""Whether a machine's cores are equally fast at the moment: another's work beside a virtual machine slows down one of them, unseen by it."""
import os
import struct
import time

import numpy

SECONDS = 0.4
FLOATS = 1 << 20  # of 4 MB: more than a core keeps to itself


def _passes(core, until):
    """Over memory and back, on this core."""
    os.sched_setaffinity(0, {core})
    ones, sums, passes = numpy.ones(FLOATS, numpy.float32), numpy.zeros(FLOATS, numpy.float32), 0
    while time.monotonic() < until:
        sums += ones
        passes += 1
    return passes


def unevenness():
    """How many times as fast as the slowest core the fastest one is, all of them at work."""
    until, children = time.monotonic() + SECONDS, []
    for core in sorted(os.sched_getaffinity(0)):
        there, here = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(here, struct.pack("q", _passes(core, until)))
            os._exit(0)
        os.close(here)
        children.append((child, there))
    passes = []
    for child, there in children:
        passes.append(struct.unpack("q", os.read(there, 8))[0])
        os.close(there)
        os.waitpid(child, 0)
    return max(passes) / max(1, min(passes))
