"""What is measured agrees with what others saw: MPI's profiling interface of the time that communication takes, the interfaces of two
hosts of the bytes that went between them."""
import pathlib
import subprocess
import sys
import unittest

from support import BIN, ROOT, Case, rows, run, run_tests

sys.path.insert(0, str(ROOT / "tests" / "support"))

from lab import Lab, why_not  # noqa: E402
from runs import train  # noqa: E402

STEPS = 150


class Witness(Case):
    def shim(self):
        library = self.folder / "pmpi_witness.so"
        subprocess.run(["mpicc", "-O2", "-shared", "-fPIC", "-o", library, ROOT / "tests" / "support" / "pmpi_witness.c"], check=True)
        return library

    def test_mpis_own_profiling_interface_sees_the_same_communication_time(self):
        out, seen = self.folder / "run", self.folder / "seen"
        config = self.small(model__name="mlp", model__hidden="[1024, 1024]", communication__algorithm="mpi", communication__bucket_mb=2,
                            data__batch_size=64, convergence__max_steps=STEPS, convergence__max_epochs=1000,
                            evaluation__every_steps=100000, checkpoint__every_epoch="false")
        run("run", config, "--workers", 2, "--out", out, env={"LD_PRELOAD": str(self.shim()), "PMPI_WITNESS": str(seen)})
        for rank in range(2):
            steps = rows(out, "select start, step_s, comm_busy_s from rank_step where rank = ? order by step", rank)
            told = sum(step["comm_busy_s"] for step in steps)
            under_way = [tuple(map(float, line.split())) for line in pathlib.Path(f"{seen}.{rank}").read_text().splitlines()]
            # Between the steps there is communication, too: for the start, and where clocks are measured.
            witness = sum(max(0, min(end, step["start"] + step["step_s"]) - max(begin, step["start"]))
                          for step in steps for begin, end in under_way)
            self.assertGreater(told, 0.05)
            self.assertLessEqual(abs(told - witness), 0.1 * witness, f"rank {rank}: {told:.4f} s told, {witness:.4f} s seen")

    @staticmethod
    def sent(lab, host):
        """Bytes that have left by the host's interface."""
        table = lab.run(host, "cat", "/proc/net/dev", stdout=subprocess.PIPE, text=True).stdout
        return int(next(line for line in table.splitlines() if line.strip().startswith("e0:")).split(":")[1].split()[8])

    @unittest.skipIf(why_not(), why_not())
    def test_the_interfaces_of_two_hosts_counted_the_bytes_that_were_sent(self):
        for algorithm, compression in (("ring", "none"), ("ring", "bf16")):
            with self.subTest(algorithm=algorithm, compression=compression), Lab(hosts=2, rate="1gbit") as lab:
                out = self.folder / f"{algorithm}-{compression}"
                config = self.small(model__name="mlp", model__hidden="[1024, 1024]", communication__algorithm=algorithm,
                                    communication__compression=compression, convergence__max_steps=60, convergence__max_epochs=1000,
                                    evaluation__every_steps=100000, checkpoint__every_epoch="false")
                train(lab, 2, BIN, [config, "--workers", 2, "--out", out], deadline=200)
                counted = sum(self.sent(lab, host) for host in (1, 2))
                wire = rows(out, "select sum(wire_bytes) as bytes from step")[0]["bytes"]
                # Beside the gradients: rank 0's parameters at the start, once, which are no step's.
                parameters = rows(out, "select grad_bytes from step limit 1")[0]["grad_bytes"]
                self.assertLessEqual(abs(counted - parameters - wire), 0.08 * counted, f"{counted} counted, {wire} told")


if __name__ == "__main__":
    run_tests()
