"""The benchmarks' own machinery, and each of them once over with little data: they run, and say what they have to."""
import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

import made_run  # noqa: E402
from lab import Lab, labs, sweep, why_not  # noqa: E402
from rounds import Ratio, RobustRatio, _signed_ranks95, alternate, student_t95, table  # noqa: E402

BIN = pathlib.Path(os.environ.get("LOCKSTEP_BIN", HERE.parents[1] / "build" / "bin"))
SECONDS = 120  # that anything here may take


def call(*command, code=0, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=SECONDS, **options)
    if done.returncode != code:
        raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}")
    return done


def wait_for(condition, what):
    until = time.monotonic() + SECONDS
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"{what}: not within {SECONDS} s")
        time.sleep(0.02)  # between two looks at a condition that has a deadline
    return value


class Rounds(unittest.TestCase):
    def test_a_ratio_is_the_geometric_mean_of_pairs_with_its_interval(self):
        ratio = Ratio([1, 4], [1, 1])
        self.assertAlmostEqual(ratio.mean, 2)
        self.assertAlmostEqual(math.log(ratio.high / 2), 12.706 * math.log(4) / 2)
        self.assertAlmostEqual(ratio.low * ratio.high, 4)
        self.assertEqual(str(Ratio([2, 4, 6], [1, 2, 3])), "2.000 (2.000 … 2.000)")
        with self.assertRaises(ValueError):
            Ratio([1], [1])

    def test_a_robust_ratio_lies_between_means_of_two_by_wilcoxons_table(self):
        ratio = RobustRatio([math.exp(x) for x in [1, 2, 3, 4, 5, 6, 7, 8, 9, 100]], [math.exp(0)] * 10)
        means = sorted((a + b) / 2 for k, a in enumerate([1, 2, 3, 4, 5, 6, 7, 8, 9, 100]) for b in [1, 2, 3, 4, 5, 6, 7, 8, 9, 100][:k + 1])
        self.assertAlmostEqual(math.log(ratio.mean), means[27])
        self.assertAlmostEqual(math.log(ratio.low), means[8])  # of 10 values sums of 8 and less have 2.4%
        self.assertAlmostEqual(math.log(ratio.high), means[-9])
        self.assertEqual([_signed_ranks95(count) for count in (6, 7, 8, 10, 20, 25, 50)], [1, 3, 4, 9, 53, 90, 435])
        self.assertAlmostEqual(_signed_ranks95(51), 455, delta=3)
        with self.assertRaises(ValueError):
            RobustRatio([1] * 5, [1] * 5)

    def test_students_t_goes_on_beyond_its_table(self):
        self.assertAlmostEqual(student_t95(30), 2.042)
        self.assertAlmostEqual(student_t95(31), 2.0395, delta=2e-4)
        self.assertAlmostEqual(student_t95(120), 1.9799, delta=2e-4)

    def test_sides_take_turns_and_every_other_round_goes_backwards(self):
        order = []
        results = alternate(3, {name: lambda name=name: order.append(name) or len(order) for name in "abc"})
        self.assertEqual("".join(order), "abccbaabc")
        self.assertEqual(results, {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]})

    def test_a_table_is_for_people_or_for_a_readme(self):
        self.assertEqual(table(["a", "long"], [["name", 1]]), "a     long\nname     1")
        self.assertEqual(table(["a", "b"], [["c", 1]], markdown=True), "| a | b |\n| --- | --- |\n| c | 1 |")


@unittest.skipIf(why_not(), why_not())
class Cluster(unittest.TestCase):
    def lab(self, hosts, rate="none", **options):
        lab = Lab(hosts, rate, **options)
        self.addCleanup(lab.down)
        lab.up()
        return lab

    def test_labs_stand_side_by_side_and_what_runs_in_one_ends_with_it(self):
        one, other = self.lab(1), self.lab(2, name="other.lab")
        sleepers = [lab.start(1, "sleep", "1000") for lab in (one, other)]
        job = subprocess.Popen(other.mpirun(2, "sleep", "1000"), env=Lab.mpirun_environment(), stderr=subprocess.DEVNULL)
        wait_for(lambda: len(other.processes(2)) >= 2, "a rank on the second host")
        everyone = other.processes()
        other.down()
        self.assertEqual((sleepers[1].wait(SECONDS), job.wait(SECONDS) != 0), (-signal.SIGKILL, True))
        self.assertEqual([pid for pid in everyone if pathlib.Path(f"/proc/{pid}/exe").exists()], [])
        self.assertNotIn("other.lab", labs())
        self.assertFalse(other.scratch.exists())
        self.assertIsNone(sleepers[0].poll())
        one.down()
        sleepers[0].wait(SECONDS)

    def test_the_lab_of_a_program_that_died_is_swept_away(self):
        code = "import os, lab\nl = lab.Lab(1)\nl.up()\nl.start(1, 'sleep', '1000', stdout=-3, stderr=-3)\nprint(l.name, flush=True)\nos._exit(1)"
        name = call(sys.executable, "-c", code, code=1, cwd=HERE.parent / "support").stdout.strip()
        self.assertIn(name, labs())
        sweep()
        self.assertNotIn(name, labs())

    def test_an_all_reduce_is_measured_against_the_link_between_hosts(self):
        lab = self.lab(2, "100mbit")
        command = lab.mpirun(4, BIN / "lockstep-worker", "--bench", "allreduce", "--sizes", "1K,100000", "--seconds", "0.001", "--json")
        bench = json.loads(call(*command, env=Lab.mpirun_environment()).stdout)
        self.assertEqual((bench["world"], bench["hosts"]), (4, 2))
        self.assertTrue(0 < bench["link_bytes_per_s"] < 1.2 * 12.5e6, bench)
        self.assertEqual([row["algorithm"] for row in bench["results"][:4]], ["MPI_Allreduce", "mpi", "ring", "hierarchical"])

    def test_vs_ddp_launches_ours_by_hand_on_a_lab(self):
        rows = json.loads(call(HERE / "vs_ddp", "--bin", BIN, "--peer", "none", "--places", "2x2@1gbit", "--models", "logistic", "--rounds", "2",
                               "--steps", "5", "--json").stdout)
        self.assertGreater(rows[0]["of_link"]["low"], 0)
        self.assertEqual((rows[0]["place"], rows[0]["ranks"]), ("2 hosts, 4 ranks, 1gbit", 4))


class Benchmarks(unittest.TestCase):
    def test_a_rank_that_stops_ends_the_bench_with_an_error_in_time(self):
        bench = subprocess.Popen([BIN / "lockstep", "bench", "allreduce", "--algorithms", "mpi", "--sizes", "1K", "--seconds", "100000",
                                  "--timeout", "3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(bench.kill)
        self.assertIn("2 ranks on 1 host", bench.stdout.readline())
        children = [task.read_text().split() for task in pathlib.Path(f"/proc/{bench.pid}/task").glob("*/children")]
        os.kill(int(sum(children, [])[-1]), signal.SIGSTOP)
        _, said = bench.communicate(timeout=SECONDS)
        self.assertEqual(bench.returncode, 1, said)
        # In the library's call, in ours, or between: wherever it was stopped.
        self.assertRegex(said, r"lockstep-worker: .*(MPI_Allreduce of 1024 bytes has not come back within|the other ranks did not come within) ")

    def test_wrong_flags_are_told_once(self):
        done = call(BIN / "lockstep", "bench", "allreduce", "--sizes", "1K,big", code=2)
        self.assertEqual((done.stdout, done.stderr),
                         ("", "lockstep-worker: --sizes: 'big' is no size; write bytes, as 65536, 64K, 25M or 1G\n"))

    def test_vs_allreduce_compares_with_gloo_and_the_library(self):
        flags = ("--bin", BIN, "--ranks", "2", "--bytes", "4096", "--rounds", "2", "--seconds", "0.001", "--algorithms", "ring")
        rows = json.loads(call(HERE / "vs_allreduce", *flags, "--json").stdout)["results"]
        self.assertEqual([row["algorithm"] for row in rows], ["MPI_Allreduce", "ring"])
        for row in rows:
            self.assertTrue(0 < row["to_gloo"]["low"] <= row["to_gloo"]["mean"] <= row["to_gloo"]["high"], row)
        self.assertGreater(rows[1]["to_reference"]["mean"], 0)

    def test_vs_ddp_tells_step_time_efficiency_and_variants(self):
        flags = ("--bin", BIN, "--peer", "none", "--models", "logistic", "--rounds", "2", "--steps", "5", "--variant", "communication.algorithm=ring")
        rows = json.loads(call(HERE / "vs_ddp", *flags, "--json").stdout)
        self.assertEqual(set(rows[0]["ms"]), {"ours", "alone", "apart", "communication.algorithm=ring"})
        self.assertGreater(rows[0]["efficiency"]["mean"], 0)
        self.assertGreater(rows[0]["apart"]["mean"], 0)
        self.assertAlmostEqual(rows[0]["apart"]["mean"] * rows[0]["of_apart"]["mean"], rows[0]["efficiency"]["mean"])
        self.assertIn("logistic", call(HERE / "vs_ddp", *flags).stdout)

    def test_less_to_send_tells_bytes_accuracy_and_step_time_of_every_kind(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        call(BIN / "lockstep", "dataset", "make", "digits", "--out", folder, "--train", "1280", "--val", "100")
        flags = ("--bin", BIN, "--data", folder, "--place", "2@host", "--model", "mlp", "--epochs", "1", "--rounds", "2", "--points", "100")
        said = call(HERE / "less_to_send", *flags, "--markdown").stdout
        share = {row.split(" | ")[0].strip("| "): row.split(" | ")[4] for row in said.splitlines() if row.startswith("| ")}
        self.assertEqual(share["float32"], "1.0000")
        self.assertAlmostEqual(float(share["bf16"]), 0.5, delta=0.01)
        self.assertLess(float(share["topk 1%"]), 0.02)
        self.assertLess(float(share["powersgd rank 4"]), 0.05)
        self.assertLess(float(share["period 8"]), 0.3)  # with the averaging at the epoch's end, after 10 steps

    def test_profile_overhead_compares_measured_steps_with_unmeasured_ones_of_the_same_run(self):
        flags = ("--bin", BIN, "--model", "logistic", "--rounds", "1", "--groups", "6", "--block", "6", "--settle", "2")
        said = json.loads(call(HERE / "profile_overhead", *flags, "--json").stdout)
        for name in ("default", "every step"):
            self.assertGreater(min(said["ms"][name]), 0, said)
            ratio = said["over_unmeasured"][name]
            self.assertTrue(0 < ratio["low"] <= ratio["mean"] <= ratio["high"], said)
        self.assertIn("every step", call(HERE / "profile_overhead", *flags).stdout)

    def test_more_workers_compares_twice_as_many_as_there_are_cores(self):
        flags = ("--bin", BIN, "--model", "logistic", "--rounds", "2", "--steps", "30")
        said = call(HERE / "more_workers", *flags).stdout.splitlines()
        self.assertRegex(said[-1], r"^[0-9.]+ ms +[0-9.]+ ms +[0-9.]+ \([0-9.]+ … [0-9.]+\)$")

    def test_large_report_tells_times_and_sizes_of_a_run_that_it_made(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        flags = ("--bin", BIN, "--steps", "2000", "--ranks", "2", "--rounds", "2")
        said = json.loads(call(HERE / "large_report", *flags, "--keep", folder / "kept", "--json").stdout)
        self.assertEqual((said["steps"], said["ranks"]), (2000, 2))
        for name in ("report", "html", "painted", "drawn"):
            figures = said["s"][name]
            self.assertTrue(0 < figures["low"] <= figures["median"] <= figures["high"] < SECONDS, said)
        self.assertEqual(said["page_bytes"], (folder / "kept" / "report.html").stat().st_size)
        report = json.loads(call(BIN / "lockstep", "report", folder / "kept" / "run", "--json").stdout)
        self.assertEqual((report["run"]["steps"], report["run"]["hosts"]), (2000, ["node-a", "node-b"]))
        # What was put into the rows.
        self.assertEqual((report["verdict"]["cause"], report["verdict"]["ranks"], report["verdict"]["kind"]), ("straggler-bound", [1], "backward"))
        for link in report["links"]:
            self.assertAlmostEqual(link["bandwidth_bytes_per_s"] / made_run.BANDWIDTH, 1, delta=0.1)
        self.assertEqual(([row["samples"] for row in report["collectives"]], len(report["links"]), len(report["timelines"])), ([20] * 6, 2, 2))
        self.assertEqual([row["step"] for row in report["metrics"]], [1000, 1000, 2000, 2000])


if __name__ == "__main__":
    unittest.main(verbosity=2)
