"""Every decision is the coordinator's, has its reason in words, and follows from the journal alone."""
import json
import sqlite3

from support import Case, checkpoint, rows, run, run_tests


class Decisions(Case):
    def stop(self, out):
        return rows(out, "select * from decision where kind = 'stop'")

    def accuracies(self, out):
        return [(r["step"], r["value"]) for r in rows(out, "select step, value from evaluation where metric='accuracy' and split='validation' order by step")]

    def test_patience_keeps_the_model_that_was_not_bettered(self):
        out = self.folder / "out"
        run("run", self.small(convergence__max_epochs=200, convergence__patience=2, optimizer__lr=0.1), "--workers", 2, "--out", out)
        values = self.accuracies(out)
        best = max(range(len(values)), key=lambda i: (values[i][1], -i))
        self.assertEqual(len(values), best + 3)
        self.assertEqual(checkpoint(out, "best").resolve().name, f"step-{values[best][0]:08d}")
        (stop,) = self.stop(out)
        self.assertEqual(stop["rule"], "patience")
        self.assertIn(str(values[best][0]), stop["reason"])

    def test_target_stops_at_the_first_evaluation_that_reaches_it(self):
        out = self.folder / "out"
        run("run", self.small(convergence__max_epochs=50, convergence__target=0.6), "--workers", 2, "--out", out)
        values = [v for _, v in self.accuracies(out)]
        self.assertGreaterEqual(values[-1], 0.6)
        self.assertTrue(all(v < 0.6 for v in values[:-1]))
        self.assertEqual(self.stop(out)[0]["rule"], "target")

    def test_max_time_stops_with_a_checkpoint(self):
        out = self.folder / "out"
        run("run", self.small(convergence__max_epochs=1000000, convergence__max_time=6), "--workers", 2, "--out", out)
        self.assertEqual(self.stop(out)[0]["rule"], "max_time")
        last = rows(out, "select max(step) as s from step")[0]["s"]
        self.assertEqual(checkpoint(out).resolve().name, f"step-{last:08d}")

    def test_max_steps_is_exact(self):
        out = self.folder / "out"
        run("run", self.small(convergence__max_steps=23, convergence__max_epochs=100), "--workers", 2, "--out", out)
        self.assertEqual(rows(out, "select max(step) as s from step")[0]["s"], 23)

    def test_bucket_tuning_ends_says_what_it_found_and_a_resume_keeps_the_size(self):
        out = self.folder / "out"
        run("run", self.small(communication__algorithm="ring", communication__bucket_mb=0.1, communication__bucket_tuning="auto",
                              convergence__max_epochs=200, convergence__max_steps=2000, evaluation__every_steps=100000,
                              checkpoint__every_epoch=False, profile__sample_every=1), "--workers", 2, "--out", out)
        decisions = rows(out, "select * from decision where kind = 'buckets' order by directive")
        self.assertEqual({d["rule"] for d in decisions}, {"bucket_tuning"})
        self.assertGreaterEqual(len(decisions), 5)
        self.assertTrue(all(" is measured, " in d["reason"] for d in decisions[:-1]))
        self.assertRegex(decisions[-1]["reason"], r"^bucket_mb 0\.1 (is kept, no other was faster|→ .* ± ).*")
        kept = json.loads((checkpoint(out) / "state.json").read_text())["bucket_mb"]
        self.assertIn(kept, [0.1 * 2 ** n for n in range(-4, 5)])
        run("verify", out)
        run("run", "--resume", out, "--set", "convergence.max_steps=2060")
        self.assertEqual(json.loads((checkpoint(out) / "state.json").read_text())["bucket_mb"], kept)
        buckets = "select count(*) as n from collective where name like 'bucket.%' and step = ?"
        self.assertEqual(rows(out, buckets, 2050), rows(out, buckets, 2000))
        self.assertEqual(len(rows(out, "select * from decision where kind = 'buckets'")), len(decisions))
        run("verify", out)

    def test_the_journal_alone_explains_every_decision_and_verify_notices_one_that_it_does_not(self):
        out = self.folder / "out"
        run("run", self.small(convergence__patience=2, convergence__max_epochs=4, checkpoint__every_steps=5), "--workers", 2, "--out", out)
        said = run("verify", out).stdout
        self.assertIn("decision", said)
        for row in rows(out, "select * from decision"):
            self.assertGreater(len(row["reason"]), 10)
        with sqlite3.connect(out / "run.db") as db:
            db.execute("update decision set reason = 'because' where kind = 'stop'")
        self.assertIn("because", run("verify", out, code=1).stdout)


if __name__ == "__main__":
    run_tests()
