"""Whether a machine's cores are equally fast at the moment: another's work beside a virtual machine slows down one of them, unseen by it."""
import os
import struct
import time

import numpy

SECONDS = 0.4
FLOATS = 1 << 20  # of 4 MB: more than a core keeps to itself


def _passes_a_second(core):
    """Over memory and back, on this core."""
    os.sched_setaffinity(0, {core})
    ones, sums, passes = numpy.ones(FLOATS, numpy.float32), numpy.zeros(FLOATS, numpy.float32), 0
    began = now = time.monotonic()
    while now - began < SECONDS or not passes:
        sums += ones
        passes, now = passes + 1, time.monotonic()
    return passes / (now - began)


def unevenness(most=2):
    """How many times as fast as the slowest core the fastest one is, so many of them at work."""
    children = []
    for core in sorted(os.sched_getaffinity(0))[:most]:
        there, here = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(here, struct.pack("d", _passes_a_second(core)))
            finally:
                os._exit(0)
        os.close(here)
        children.append((child, there))
    pace = []
    for child, there in children:
        pace.append(struct.unpack("d", os.read(there, 8))[0])
        os.close(there)
        os.waitpid(child, 0)
    return max(pace) / min(pace)
