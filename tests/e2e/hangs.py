"""A rank that dies, stops or is cut off, at seeded moments: the others end in time with an error that names it, nothing
is left behind, and the run goes on from its last checkpoint."""
import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

from support import BIN, ROOT, Case, family, processes, run, run_tests, start, status, step_now, traces, wait_for

sys.path.insert(0, str(ROOT / "tests" / "support"))

from lab import Lab, why_not  # noqa: E402

MOMENTS = 1
SEED = 20261125
TIMEOUT = 3  # communication.timeout
BOUND = TIMEOUT + 5  # from the moment of the signal to the run's end
WORKERS = 3
GO_ON = r"last checkpoint: step \d+; go on with: lockstep run --resume \S+\n"


def sockets():
    """Names of abstract sockets that are ours."""
    lines = pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]
    return {line.split()[-1] for line in lines if line.split()[-1].startswith("@lockstep")}


def workers_of(folder):
    """Rank to pid, once all have joined and a step is done."""
    if step_now(folder) < 1:
        return None
    told = status(folder) or {}
    found = {w.get("rank", 0): int(w["pid"]) for w in told.get("workers", []) if w.get("pid")}
    return found if len(found) == WORKERS else None


class OneHost(Case):
    def settings(self, algorithm, **more):
        return self.small(communication__algorithm=algorithm, communication__timeout=TIMEOUT, checkpoint__every_steps=20,
                          convergence__max_epochs=100000, **more)

    def hit(self, algorithm, number, k):
        """Sends the signal to a random rank of a run at a random moment; checks how the run ends, and goes on with it."""
        chance = random.Random(f"{SEED} {algorithm} {number} {k}")
        out = self.folder / f"{algorithm}-{number.name}-{k}"
        before = traces(), sockets()
        job = self.start("run", self.settings(algorithm), "--workers", WORKERS, "--out", out)
        pids = wait_for(lambda: workers_of(out), "the first step")
        everyone = set(family(job.pid)) | {job.pid}
        rank = chance.randrange(WORKERS)
        time.sleep(chance.uniform(0, 1.5))  # the seeded moment is the thing under test
        began = time.monotonic()
        os.kill(pids[rank], number)
        try:
            code = job.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.fail(f"{algorithm}, {number.name} to rank {rank}: the run has not ended within {BOUND} s")
        took = time.monotonic() - began
        job.stdout.read()
        said = job.stderr.read()
        self.assertEqual(code, 1, said)
        self.assertRegex(said, r"\Alockstep: .*\n\Z", "one line")
        if number == signal.SIGKILL:
            self.assertRegex(said, rf"worker {rank} \(pid {pids[rank]}\) was killed by SIGKILL")
        else:
            self.assertRegex(said, rf"rank {rank} does not answer; rank {rank} is on \S+ \(pid {pids[rank]}\); {GO_ON}")
        wait_for(lambda: not (everyone & processes().keys()), f"the processes to be gone: {said}", 5)
        self.assertEqual((traces() - before[0], sockets() - before[1]), (set(), set()), said)
        print(f"{algorithm:7} {number.name} rank {rank} after {took:4.1f} s: {said.strip()}", flush=True)
        self.go_on(out)

    def go_on(self, out):
        last = json.loads((out / "checkpoints" / "latest" / "state.json").read_text())
        step = int(last["cursor"].get("step", 0))
        run("run", "--resume", out, "--set", f"convergence.max_steps={step + 5}")
        shutil.rmtree(out)

    def test_a_killed_or_stopped_rank_ends_the_run_in_time_and_is_named(self):
        for k in range(MOMENTS):
            for algorithm in ("mpi", "ring", "shared"):
                for number in (signal.SIGSTOP, signal.SIGKILL):
                    with self.subTest(algorithm=algorithm, signal=number.name, k=k):
                        self.hit(algorithm, number, k)

    def test_a_rank_that_computes_for_too_long_is_told_from_one_that_does_not_answer(self):
        for algorithm in ("ring", "shared"):
            config = self.settings(algorithm, inject="[{part: forward, rank: 1, delay: 60, first_step: 30}]")
            with self.subTest(algorithm):
                done = run("run", config, "--workers", WORKERS, "--out", self.folder / algorithm, code=1)
                self.assertRegex(done.stderr, r"\Alockstep: rank [02] failed at step \d+: .*rank 1 is there but .*; rank 1 is on \S+ \(pid \d+\); " + GO_ON + r"\Z")


def workers_in(lab):
    """Rank to pid of the lab's workers: of the programs themselves, not of what started them."""
    found = {}
    for pid in lab.processes():
        try:
            if pathlib.Path(f"/proc/{pid}/cmdline").read_text().startswith(f"{BIN}/lockstep-worker\0"):
                words = pathlib.Path(f"/proc/{pid}/environ").read_text()
                found[int(re.search(r"\0OMPI_COMM_WORLD_RANK=(\d+)", words)[1])] = pid
        except OSError:
            pass  # it has ended
    return found


def silent(ranks):
    return f"ranks {', '.join(map(str, ranks))} do not answer" if len(ranks) > 1 else f"rank {ranks[0]} does not answer"


@unittest.skipIf(why_not(), why_not())
class SeveralHosts(Case):
    def launch(self, lab, algorithm, ranks, out):
        """The coordinator on host 1, workers on every host in turn, each with a log of its own."""
        config = self.small(communication__algorithm=algorithm, communication__timeout=TIMEOUT, convergence__max_epochs=100000)
        serve = lab.start(1, BIN / "lockstep", "serve", config, "--workers", ranks, "--listen", f"{lab.address(1)}:0", "--out", out,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(serve)
        says = serve.stdout.readline() + serve.stdout.readline()
        address, credentials = re.search(r"waiting at (\S+) for", says)[1], re.search(r"LOCKSTEP_CREDENTIALS=(\S+)", says)[1]
        worker = f"exec {BIN}/lockstep-worker --coordinator {address} 2> {out}.rank.$OMPI_COMM_WORLD_RANK"
        passed = {"LOCKSTEP_CREDENTIALS": credentials, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.folder)}
        mpirun = subprocess.Popen(lab.mpirun(ranks, *(word for name in passed for word in ("-x", name)), "bash", "-c", worker),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=lab.mpirun_environment(**passed))
        self.started.append(mpirun)
        return serve

    def one_loss(self, algorithm, hosts, ranks, k, host=None):
        """The link of a host is cut, or else one rank stopped."""
        what = f"{algorithm}-{host or 'stop'}-{k}"
        chance = random.Random(f"{SEED} {what}")
        out = self.folder / what
        before = traces(), sockets()
        with Lab(hosts) as lab:
            self.lose(lab, algorithm, hosts, ranks, host, chance, out, what)
        self.assertEqual((traces() - before[0], sockets() - before[1]), (set(), set()))

    def lose(self, lab, algorithm, hosts, ranks, host, chance, out, what):
        serve = self.launch(lab, algorithm, ranks, out)
        wait_for(lambda: step_now(out) >= 1, "the first step")
        pids = workers_in(lab)
        self.assertEqual(set(pids), set(range(ranks)))
        lost = [chance.randrange(ranks)] if host is None else [rank for rank in range(ranks) if rank % hosts == host - 1]
        others = [rank for rank in range(ranks) if rank not in lost]
        time.sleep(chance.uniform(0, 1.5))  # the seeded moment is the thing under test
        began = time.monotonic()
        if host is None:
            os.kill(pids[lost[0]], signal.SIGSTOP)
        else:
            lab.cut(host)
        try:
            code = serve.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.fail(f"{what}: ranks {lost} lost, and the coordinator has not ended within {BOUND} s")
        took = time.monotonic() - began
        serve.stdout.read()
        said = serve.stderr.read()
        print(f"{what}, ranks {lost} lost, after {took:4.1f} s: {said.strip()}", flush=True)
        wait_for(lambda: not workers_in(lab), "the workers to be gone", max(0.1, BOUND - took))
        logs = {rank: pathlib.Path(f"{out}.rank.{rank}").read_text() for rank in range(ranks)}
        print("".join(logs.values()), flush=True)
        self.assertEqual(code, 1, said)
        beyond = others if host == 1 else lost  # for the coordinator, which is on host 1
        self.assertRegex(said, silent(beyond) + ".*; " + ", ".join(rf"rank {r} (is )?on host{r % hosts + 1} \(pid \d+\)" for r in beyond))
        self.assertTrue(any(silent(lost) in logs[rank] for rank in others), logs)
        if host is not None:
            self.assertTrue(any(silent(others) in logs[rank] for rank in lost), logs)

    def test_a_stopped_rank_of_several_hosts_that_share_memory_is_named(self):
        for k in range(MOMENTS):
            with self.subTest(k=k):
                self.one_loss("hierarchical", 2, 4, k)

    def test_ranks_on_both_sides_of_a_link_that_is_cut_name_those_beyond_it(self):
        for k in range(MOMENTS):
            for algorithm, hosts, ranks in (("mpi", 3, 3), ("ring", 3, 3), ("hierarchical", 2, 4)):
                for host in (hosts, 1):
                    with self.subTest(algorithm=algorithm, host=host, k=k):
                        self.one_loss(algorithm, hosts, ranks, k, host)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--moments", type=int, default=MOMENTS)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments, rest = parser.parse_known_args()
    MOMENTS, SEED = arguments.moments, arguments.seed
    run_tests([sys.argv[0], *rest])
