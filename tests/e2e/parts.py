"""A delay put into one part of the step shows there and nowhere else; communication goes on during backward."""
import statistics

from support import Case, checkpoint, rows, run, run_tests

PARTS = ("data_wait", "forward", "backward", "comm_exposed", "optimizer", "other")
DELAY = 0.05


class Parts(Case):
    def medians(self, out, first=5):
        found = rows(out, f"select * from rank_step where step >= {first}")
        return {part: statistics.median(r[f"{part}_s"] for r in found) for part in PARTS}

    def test_a_delay_in_each_part_is_found_in_that_part_and_no_other(self):
        settings = dict(convergence__max_epochs=2)
        run("run", self.small(**settings), "--workers", 2, "--out", self.folder / "clean")
        clean = self.medians(self.folder / "clean")
        for part in PARTS:
            with self.subTest(part=part):
                out = self.folder / part
                run("run", self.small(**settings, inject=f"[{{part: {part}, delay: {DELAY}}}]"), "--workers", 2, "--out", out)
                found = self.medians(out)
                for name in PARTS:
                    more = found[name] - clean[name]
                    if name == part:
                        self.assertLessEqual(abs(more - DELAY), 0.05 * DELAY, f"{part}: {found} against {clean}")
                    else:
                        self.assertLessEqual(abs(more), 0.05 * DELAY, f"{part} leaks into {name}: {found} against {clean}")

    def test_a_late_rank_shows_as_waiting_on_the_other_and_as_last(self):
        out = self.folder / "late"
        run("run", self.small(inject=f"[{{part: backward, rank: 1, delay: {DELAY}}}]"), "--workers", 2, "--out", out)
        found = rows(out, "select * from rank_step where step >= 5")
        wait = {rank: statistics.median(r["comm_wait_s"] for r in found if r["rank"] == rank) for rank in (0, 1)}
        self.assertGreater(wait[0], 0.8 * DELAY)
        self.assertLess(wait[1], 0.2 * DELAY)
        last = [r["last_rank"] for r in rows(out, "select last_rank from step where step >= 5")]
        self.assertGreaterEqual(last.count(1), 0.9 * len(last))

    def test_a_part_of_the_update_that_takes_long_is_waiting_on_the_other_and_no_transfer(self):
        clean, out = self.folder / "clean", self.folder / "update"
        shared = {"communication__algorithm": "shared"}
        run("run", self.small(**shared), "--workers", 2, "--out", clean)
        run("run", self.small(**shared, inject=f"[{{part: optimizer, rank: 1, delay: {DELAY}}}]"), "--workers", 2, "--out", out)

        def median(column, of, rank):
            return statistics.median(row["v"] for row in rows(of, f"select {column} as v from rank_step where step >= 5 and rank = {rank}"))

        self.assertAlmostEqual(median("comm_wait_s", out, 0) - median("comm_wait_s", clean, 0), DELAY, delta=0.1 * DELAY)
        self.assertLess(median("comm_wait_s", out, 1), 0.1 * DELAY)
        for rank in (0, 1):
            self.assertLess(median("comm_transfer_s", out, rank), median("comm_transfer_s", clean, rank) + 0.05 * DELAY)

    def test_communication_goes_on_during_a_long_backward(self):
        """cnn: the big layers' gradients are there early, the convolutions' backward is long."""
        out = self.folder / "cnn"
        run("run", self.small(model__name="cnn", data__batch_size=64, communication__algorithm="ring", communication__bucket_mb=1, convergence__max_steps=15),
            "--workers", 2, "--out", out)
        ratios = [r["overlap_ratio"] for r in rows(out, "select overlap_ratio from step where step >= 3")]
        self.assertGreater(statistics.median(ratios), 0.3, ratios)
        self.assertLessEqual(max(ratios), 1)


if __name__ == "__main__":
    run_tests()
