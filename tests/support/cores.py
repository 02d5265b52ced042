"""Whether a machine's cores are equally fast at the moment, and its own: another's work beside a virtual machine slows down one of them,
or takes it away for a while, unseen by it."""
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


class Stolen:
    """While it is entered: the share of the processors' time that others' machines had."""

    def __enter__(self):
        self._before = self._ticks()
        return self

    def __exit__(self, *_):
        now = self._ticks()
        self.share = (now[7] - self._before[7]) / max(1, sum(now) - sum(self._before))

    @staticmethod
    def _ticks():
        """user, nice, system, idle, iowait, irq, softirq, steal"""
        with open("/proc/stat") as stat:
            return [int(word) for word in stat.readline().split()[1:9]]
