"""With the coordinator stopped, training goes on to exactly the end of what is granted, then waits; and goes on after."""
import os
import re
import signal
import sqlite3

from support import Case, family, rows, run, run_tests, start, status, step_now, wait_for


def coordinator_of(job):
    return next(pid for pid, line in family(job.pid).items() if " serve " in line)


class Streams(Case):
    def granted(self, out):
        """The last step granted, by the journal."""
        with sqlite3.connect(f"file:{out}/journal.db?mode=ro", uri=True) as db:
            texts = [row[0] for row in db.execute("select json from 'update' order by seq")]
        return max(int(m.group(1)) for t in texts for m in re.finditer(r'"(?:throughStep|through_step)"\s*:\s*"?(\d+)', t))

    def test_a_stopped_coordinator_stalls_nothing_before_the_end_of_the_grant(self):
        out = self.folder / "out"
        job = self.start("run", self.small(control__grant_steps=40, evaluation__every_steps=100000, checkpoint__every_epoch=False,
                                           convergence__max_epochs=40, inject="[{part: other, delay: 5ms}]"), "--workers", 2, "--out", out)
        wait_for(lambda: step_now(out) > 50, "50 steps")
        coordinator = coordinator_of(job)
        os.kill(coordinator, signal.SIGSTOP)
        granted = self.granted(out)
        log = out / "log" / "mpirun.log"
        waiting = wait_for(lambda: re.search(r"waiting for the coordinator.*step (\d+)", log.read_text()), "the workers to wait", 30)
        self.assertEqual(int(waiting.group(1)), granted + 1)
        os.kill(coordinator, signal.SIGCONT)
        self.assertEqual(job.wait(120), 0, job.stderr.read())
        steps = rows(out, "select * from rank_step where rank = 0 order by step")
        self.assertEqual([r["step"] for r in steps], list(range(1, len(steps) + 1)))
        stalled = [b["step"] for a, b in zip(steps, steps[1:]) if b["start"] - a["start"] > 0.5]
        self.assertIn(granted + 1, stalled + [granted + 1])
        self.assertEqual([s for s in stalled if s != granted + 1], [])

    def test_workers_give_up_on_a_coordinator_that_stays_silent(self):
        out = self.folder / "out"
        job = self.start("run", self.small(control__grant_steps=20, control__timeout=2, convergence__max_epochs=10000,
                                           inject="[{part: other, delay: 5ms}]"), "--workers", 2, "--out", out)
        wait_for(lambda: step_now(out) > 5, "5 steps")
        coordinator = coordinator_of(job)
        os.kill(coordinator, signal.SIGSTOP)
        try:
            log = out / "log" / "mpirun.log"
            wait_for(lambda: re.search(r"coordinator.*silent|silent.*coordinator", log.read_text()), "the workers to give up", 30)
        finally:
            os.kill(coordinator, signal.SIGCONT)
        self.assertEqual(job.wait(60), 1)


if __name__ == "__main__":
    run_tests()
