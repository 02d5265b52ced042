"""INT, TERM and KILL of supervisor, coordinator and worker at seeded moments: nothing is left, nothing is lost."""
import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from support import (Case, checkpoint, digits, family, listening, processes, rows, run, run_tests, same_checkpoint, start,
                     traces, wait_for)

MOMENTS = 9
SEED = 20261123


def victim_of(job, who):
    if who == "supervisor":
        return job.pid
    below = family(job.pid)
    word = {"coordinator": " serve ", "worker": "lockstep-worker"}[who]
    found = sorted(pid for pid, line in below.items() if word in line and not line.split()[0].endswith("mpirun"))
    return found[-1] if found else None


class Kills(Case):
    def test_killed_at_any_moment_nothing_is_left_and_the_run_goes_on_bitwise(self):
        settings = dict(convergence__max_epochs=6, checkpoint__every_steps=11)
        slow = dict(inject="[{part: other, delay: 4ms}]")
        whole = self.folder / "whole"
        began = time.monotonic()
        run("run", self.small(**settings, **slow), "--workers", 2, "--out", whole)
        length = time.monotonic() - began
        random_moments = random.Random(SEED)
        cases = [(s, w) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL) for w in ("supervisor", "coordinator", "worker")]
        codes = {}
        for k in range(MOMENTS):
            sig, who = cases[k % len(cases)]
            moment = random_moments.uniform(0.02, 0.95) * length
            with self.subTest(k=k, signal=sig.name, who=who, moment=round(moment, 2)):
                codes.setdefault((sig.name, who), []).append(self.one(k, sig, who, moment, whole, settings, slow))
        for (name, who), found in sorted(codes.items()):
            print(f"{name:8} {who:12} exit codes {found}")

    def one(self, k, sig, who, moment, whole, settings, slow):
        out = self.folder / f"cut-{k}"
        before, sockets = traces(), listening()
        began = time.monotonic()
        job = self.start("run", self.small(**settings, **slow), "--workers", 2, "--out", out)
        while time.monotonic() - began < moment and job.poll() is None:
            time.sleep(0.005)  # the seeded moment is the thing under test
        over = job.poll() is not None
        victim = victim_of(job, who)
        if victim is None or over:  # not started yet, or over already
            victim = job.pid
            who = "supervisor"
        everyone = set(family(job.pid)) | {job.pid}
        try:
            os.kill(victim, sig)
        except ProcessLookupError:
            pass
        code = job.wait(60)
        said = job.stdout.read() + job.stderr.read()
        wait_for(lambda: not (everyone & processes().keys()), f"the processes to be gone: {said}", 5)
        self.assertEqual(traces() - before, set(), said)
        self.assertEqual(listening() - sockets, set(), said)
        if over:
            self.assertEqual(code, 0, said)
        elif sig == signal.SIGKILL and who == "supervisor":
            self.assertEqual(code, -signal.SIGKILL)
        elif sig == signal.SIGKILL:
            self.assertIn(code, (0, 1), said)
            if code == 1:
                self.assertRegex(said, rf"({who}|rank).*SIGKILL|SIGKILL.*({who}|rank)")
        else:
            has_checkpoint = checkpoint(out).exists()
            self.assertIn(code, (0, 3) if has_checkpoint else (1, 0, -sig), said)
        if not (out / "config.yaml").exists():
            return code
        resumed = run("run", "--resume", out, "--set", "inject=[]", code=None)
        self.assertEqual(resumed.returncode, 0, said + resumed.stdout + resumed.stderr)
        self.assertIsNone(same_checkpoint(checkpoint(whole), checkpoint(out)))
        run("verify", out)
        shutil.rmtree(out)
        return code

    def test_a_second_ctrl_c_ends_at_once(self):
        out = self.folder / "out"
        before = traces()
        job = self.start("run", self.small(convergence__max_epochs=100000, inject="[{part: forward, delay: 3}]"), "--workers", 2, "--out", out)
        wait_for(lambda: len([1 for line in family(job.pid).values() if "lockstep-worker" in line]) >= 2, "workers")
        everyone = set(family(job.pid))
        job.send_signal(signal.SIGINT)
        time.sleep(0.5)  # a person's second press
        job.send_signal(signal.SIGINT)
        self.assertEqual(job.wait(10), 1)
        wait_for(lambda: not (everyone & processes().keys()), "the processes to be gone", 5)
        self.assertEqual(traces() - before, set())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--moments", type=int, default=MOMENTS)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments, rest = parser.parse_known_args()
    MOMENTS, SEED = arguments.moments, arguments.seed
    run_tests([sys.argv[0], *rest])
