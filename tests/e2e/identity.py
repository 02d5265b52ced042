"""A step's parts are the step: on every rank, whatever the algorithm, with communication behind computing and without."""
import statistics
import sys
import unittest

from support import BIN, ROOT, Case, rows, run, run_tests

sys.path.insert(0, str(ROOT / "tests" / "support"))

from lab import Lab, why_not  # noqa: E402
from runs import train  # noqa: E402

PARTS = ("data_wait_s", "forward_s", "backward_s", "comm_exposed_s", "optimizer_s", "other_s")
STEPS, SETTLED = 120, 11
BUCKETS = {"several buckets": 1, "one bucket": 100}  # MB: one leaves as backward ends, and nothing runs behind it


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Identity(Case):
    def settings(self, algorithm, bucket_mb, **more):
        return dict(model__name="mlp", model__hidden="[]", communication__algorithm=algorithm, communication__bucket_mb=bucket_mb,
                    data__global_batch_size=28, convergence__max_steps=STEPS, convergence__max_epochs=1000,
                    evaluation__every_steps=100000, checkpoint__every_epoch="false", profile__clock_every=0, **more)

    def check(self, out, ranks):
        """Against the parts' sum, and against what did not take part in measuring it: the start of the next step, the epoch's length."""
        epochs = rows(out, "select epoch, steps, seconds from epoch where epoch > 0")
        self.assertGreaterEqual(len(epochs), 1)
        for rank in range(ranks):
            steps = rows(out, "select * from rank_step where rank = ? and step >= ? order by step", rank, SETTLED)
            self.assertEqual(len(steps), STEPS - SETTLED + 1)
            off = [abs(sum(step[part] for part in PARTS) / step["step_s"] - 1) for step in steps]
            to_next = [abs((after["start"] - step["start"]) / step["step_s"] - 1) for step, after in zip(steps, steps[1:])
                       if step["step"] % epochs[0]["steps"] != 0]  # epochs have something between them
            for name, values in (("the parts", off), ("the next step's start", to_next)):
                self.assertLessEqual(statistics.median(values), 0.01, f"{name}, rank {rank}")
                self.assertLessEqual(percentile(values, 0.99), 0.03, f"{name}, rank {rank}")
            other = sum(step["other_s"] for step in steps) / sum(step["step_s"] for step in steps)
            self.assertLessEqual(other, 0.02, f"other, rank {rank}")
        for epoch in epochs:
            first = epoch["epoch"] * epoch["steps"] + 1
            inside = rows(out, "select sum(step_s) as s from rank_step where rank = 0 and step between ? and ?", first,
                          first + epoch["steps"] - 1)[0]["s"]
            self.assertLessEqual(abs(inside / epoch["seconds"] - 1), 0.03, f"epoch {epoch['epoch']}: {inside} of {epoch['seconds']} s")

    def test_on_one_host(self):
        cases = [(algorithm, buckets, {}) for algorithm in ("mpi", "ring", "shared", "hierarchical", "auto") for buckets in BUCKETS]
        cases += [("auto", "several buckets", {"communication__period": 4}), ("ring", "several buckets", {"communication__compression": "bf16"}),
                  ("ring", "several buckets", {"optimizer__clip_norm": 1}), ("shared", "several buckets", {"accumulate": 2}),
                  ("mpi", "several buckets", {"profile__sample_every": 1})]
        for algorithm, buckets, more in cases:
            with self.subTest(algorithm=algorithm, buckets=buckets, **more):
                out = self.folder / f"{algorithm}-{buckets}-{'-'.join(more)}".replace(" ", "-")
                run("run", self.small(**self.settings(algorithm, BUCKETS[buckets], **more)), "--workers", 2, "--out", out)
                self.check(out, 2)

    @unittest.skipIf(why_not(), why_not())
    def test_between_hosts(self):
        for algorithm, ranks in (("hierarchical", 4), ("ring", 2), ("mpi", 2)):
            with self.subTest(algorithm=algorithm, ranks=ranks), Lab(hosts=2, rate="1gbit") as lab:
                out = self.folder / f"{algorithm}-{ranks}"
                train(lab, ranks, BIN, [self.small(**self.settings(algorithm, 1)), "--workers", ranks, "--out", out], deadline=120)
                self.check(out, ranks)


if __name__ == "__main__":
    run_tests()
