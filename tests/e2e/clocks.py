"""Ranks whose clocks are put wrong on purpose: how wrong is found within the bound that is reported, and no figure shows it."""
import statistics

from support import Case, rows, run, run_tests

# Ahead by, and gaining (parts in a million). Rank 0's is the one that counts.
SKEWS = {1: (0.007, 0), 2: (-170.0, 0), 3: (2.5, 200)}
FAULTS = ("clock=1:7ms", "clock=2:-170s", "clock=3:2.5s:200ppm")


class Clocks(Case):
    def test_offsets_and_drift_are_recovered_within_their_bounds(self):
        out = self.folder / "skewed"
        config = self.small(profile__clock_every=2, profile__sample_every=5, convergence__max_time=12, convergence__max_epochs=100000,
                            evaluation__every_steps=1000000, checkpoint__every_epoch="false")
        run("run", config, "--workers", 4, "--out", out, *(word for fault in FAULTS for word in ("--inject", fault)))
        for rank, (ahead, ppm) in SKEWS.items():
            with self.subTest(rank=rank):
                clocks = rows(out, "select * from clock where rank = ? order by time", rank)
                self.assertGreaterEqual(len(clocks), 5)
                for clock in clocks:
                    # Small against a step, or the bound would say nothing.
                    self.assertLess(clock["error_s"], 0.002)
                    if not ppm:
                        self.assertLessEqual(abs(clock["offset_s"] + ahead), clock["error_s"], clock)
                first, last = clocks[0], clocks[-1]
                gained = last["offset_s"] - first["offset_s"] + ppm * 1e-6 * (last["time"] - first["time"])
                self.assertLessEqual(abs(gained), first["error_s"] + last["error_s"])
                self.assertLessEqual(abs(last["drift"] + ppm * 1e-6), last["drift_error"], last)
                self.assertLess(last["drift_error"], 100e-6)
        # A clock that gains was that much ahead when the run began, which is no more than the run's length before.
        first = rows(out, "select * from clock where rank = 3 order by time limit 1")[0]
        self.assertLessEqual(abs(first["offset_s"] + 2.5), 20 * 200e-6 + first["error_s"])

        # On one clock the ranks of a step begin together and communication ends together.
        starts = {}
        for row in rows(out, "select step, rank, start, step_s from rank_step where step > 20"):
            starts.setdefault(row["step"], {})[row["rank"]] = row
        apart = [max(row["start"] for row in ranks.values()) - min(row["start"] for row in ranks.values()) for ranks in starts.values()
                 if len(ranks) == 4]
        steps = [row["step_s"] for ranks in starts.values() for row in ranks.values()]
        self.assertLess(statistics.median(apart), max(statistics.median(steps), 0.002))
        waits = [row["comm_wait_s"] for row in rows(out, "select comm_wait_s from rank_step where step > 20")]
        self.assertLess(statistics.median(waits), max(statistics.median(steps), 0.002))
        self.assertLess(abs(rows(out, "select max(time) - min(time) as s from step")[0]["s"]), 60)


if __name__ == "__main__":
    run_tests()
