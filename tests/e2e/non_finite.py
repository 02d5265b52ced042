"""A loss that is not finite ends the run and is told with its step and rank."""
import unittest

from support import Case, rows, run


class NonFinite(Case):
    def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(self):
        done = run("run", self.small(optimizer__lr=10, optimizer__weight_decay=10), "--workers", 2, "--out", self.folder / "out", code=1)
        self.assertRegex(done.stdout + done.stderr, r"not finite at step \d+ on rank \d")
        self.assertEqual([r["rule"] for r in rows(self.folder / "out", "select rule from decision where kind = 'stop'")], ["non_finite"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
