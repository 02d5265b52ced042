"""Runs that cannot go on: what they say, their exit codes, and what they leave."""

import sqlite3
import subprocess

from support import LOCKSTEP, Case, rows, run, run_tests, traces


class Failures(Case):
    def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(self):
        done = run("run", self.small(optimizer__lr=10, optimizer__weight_decay=10), "--workers", 2, "--out", self.folder / "out", code=1)
        self.assertRegex(done.stderr, r"\Alockstep: loss is not finite at step \d+ on rank \d: the loss is \S+; try a lower optimizer.lr, or optimizer.clip_norm\n\Z")
        self.assertEqual([r["rule"] for r in rows(self.folder / "out", "select rule from decision where kind = 'stop'")], ["non_finite"])

    def test_what_only_the_workers_can_see_of_bad_input_is_one_line_and_exit_code_2(self):
        garbage = self.folder / "garbage.safetensors"
        garbage.write_bytes(b"no weights")
        before = traces()
        for name, settings, says in [
                ("group", dict(optimizer__groups="[{pattern: fc*, lr_scale: 2}]"), r"groups\[0\].*'fc\*' matches no parameter"),
                ("weights", dict(model__init_from=garbage), r"garbage\.safetensors"),
                ("loss", dict(loss__name="mse"), r"loss mse")]:
            with self.subTest(name):
                out = self.folder / name
                done = run("run", self.small(**settings), "--workers", 2, "--out", out, code=2)
                self.assertRegex(done.stderr, rf"\Alockstep: .*{says}.*\n\Z")
                self.assertFalse(out.exists(), "the name is free again")
        self.assertEqual(traces(), before)

    def test_what_cannot_be_shown_or_was_damaged_is_said(self):
        out = self.folder / "out"
        run("run", self.small(convergence__max_epochs=1), "--workers", 2, "--out", out)
        with open("/dev/full", "w") as full:
            done = subprocess.run([LOCKSTEP, "report", out], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (1, "lockstep: what was to be shown could not be written to standard output; is its disk full?\n"))
        with sqlite3.connect(out / "run.db") as db:
            db.execute("update step set step_s = 9e999 where step = 5")
        done = run("report", out, code=1)
        self.assertRegex(done.stderr, r"\Alockstep: \S+/run\.db: damaged: step_s in a row is infinite; .*\n\Z")


if __name__ == "__main__":
    run_tests()
