"""Going on from a checkpoint, bitwise as if nothing had happened."""
import json
import os
import re
import resource
import shutil
import signal

from support import Case, checkpoint, digits, rows, run, run_tests, same_checkpoint, step_now, wait_for


# Room for MPI's files and for checkpoints of the models here, and none for a window.
FILE_LIMIT = 12 << 20


def communication(folder, incarnation):
    return [{k: v for k, v in row.items() if k != "incarnation"}
            for row in rows(folder, "select * from communication where incarnation = ? order by bytes, algorithm", incarnation)]


class Resume(Case):
    def test_resume_in_mid_epoch_is_bitwise_the_run_that_was_not_stopped(self):
        for optimizer, compression in (("sgd", "none"), ("adamw", "none"), ("sgd", "topk")):
            with self.subTest(optimizer=optimizer, compression=compression):
                settings = dict(optimizer__name=optimizer, optimizer__lr=0.01, communication__compression=compression,
                                data__augment="{shift: 2, noise: 0.1}", schedule__name="cosine", schedule__warmup_steps=5, checkpoint__every_steps=7)
                whole, halves = (self.folder / f"{optimizer}-{compression}-{part}" for part in ("whole", "halves"))
                run("run", self.small(**settings), "--workers", 2, "--out", whole)
                run("run", self.small(**settings, convergence__max_steps=28), "--workers", 2, "--out", halves)
                run("run", "--resume", halves, "--set", "convergence.max_steps=0")
                last = rows(whole, "select max(step) as s from step")[0]["s"]
                self.assertEqual(last, 38)
                name = f"step-{last:08d}"
                self.assertIsNone(same_checkpoint(checkpoint(whole, name), checkpoint(halves, name)))
                survived = rows(halves, "select step from step where survived = 1 order by step")
                self.assertEqual([r["step"] for r in survived], list(range(1, last + 1)))
                run("verify", halves)

    def test_a_stop_by_ctrl_c_leaves_a_checkpoint_that_goes_on_bitwise(self):
        settings = dict(convergence__max_epochs=30)
        whole, cut = self.folder / "whole", self.folder / "cut"
        run("run", self.small(**settings), "--workers", 2, "--out", whole)
        job = self.start("run", self.small(**settings, inject="[{part: other, delay: 3ms}]"), "--workers", 2, "--out", cut)
        wait_for(lambda: step_now(cut) > 30, "30 steps")
        job.send_signal(signal.SIGINT)
        self.assertEqual(job.wait(60), 3)
        run("run", "--resume", cut, "--set", "inject=[]")
        self.assertIsNone(same_checkpoint(checkpoint(whole), checkpoint(cut)))
        until = rows(cut, "select max(step) as s from step where survived and incarnation = 1")[0]["s"]
        put_in = re.compile("Put in +(.*), on purpose")
        self.assertEqual(put_in.findall(run("report", cut).stdout), [f"other=3ms (of the launch of steps 1 to {until})"])
        self.assertEqual(put_in.findall(run("report", cut, "--steps", f"1-{until}").stdout), ["other=3ms"])
        self.assertEqual(put_in.findall(run("report", cut, "--steps", f"{until + 1}-").stdout), [])

    def test_more_epochs_may_be_asked_for_and_what_is_trained_may_not_change(self):
        out = self.folder / "out"
        run("run", self.small(convergence__max_epochs=1), "--workers", 2, "--out", out)
        done = run("run", "--resume", out, "--set", "optimizer.lr=0.5", code=2)
        self.assertIn("optimizer.lr", done.stderr)
        run("run", "--resume", out, "--set", "convergence.max_epochs=3")
        self.assertEqual(len(rows(out, "select * from epoch where survived = 1")), 3)

    def test_a_run_that_is_over_is_said_to_be_so_and_starts_no_workers(self):
        out = self.folder / "out"
        first = run("run", self.small(convergence__max_epochs=1), "--workers", 2, "--out", out)
        log = (out / "log" / "mpirun.log").read_bytes()
        done = run("run", "--resume", out)
        self.assertEqual(done.stderr, "")
        for line in ("Best", "Trained", "Checkpoints"):
            (said,) = [text for text in first.stdout.splitlines() if text.startswith(line)]
            self.assertIn(said, done.stdout)
        self.assertRegex(done.stdout, r"\nTime +[0-9.]+ s, ")
        self.assertIn("epoch 1 of max_epochs 1 is done", done.stdout)
        self.assertIn(f"lockstep run --resume {out} --set convergence.max_epochs=", done.stdout)
        self.assertNotIn("mpirun", done.stdout)
        self.assertEqual((out / "log" / "mpirun.log").read_bytes(), log)
        by_hand = run("serve", "--resume", out)
        self.assertNotIn("mpirun -np", by_hand.stdout)

    def test_a_resume_goes_the_ways_that_were_measured_and_measures_no_more(self):
        """Messages between ranks of one host, since a limit on file sizes leaves no room for a window."""
        limited = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
        settings = dict(model__hidden="[1024, 512]", communication__bucket_mb=1, checkpoint__every_steps=7)
        whole, halves = self.folder / "whole", self.folder / "halves"
        run("run", self.small(**settings), "--workers", 2, "--out", whole, preexec_fn=limited)
        first = communication(whole, 1)
        self.assertEqual({r["structure"] for r in first} | {r["source"] for r in first}, {"replicated", "measured"})
        self.assertTrue(all(r["seconds"] > 0 for r in first))
        self.assertEqual(len({r["bytes"] for r in first}), sum(r["chosen"] for r in first))
        log = (whole / "log" / "mpirun.log").read_text()
        self.assertRegex(log, r"communication: messages, since no window is to be had: .*ulimit -f")
        self.assertIn("all-reduce of 16 KiB: ", log)
        # A second run on the same hosts starts without measuring, and so adds up in the same order.
        run("run", self.small(**settings, convergence__max_steps=28), "--workers", 2, "--out", halves, preexec_fn=limited)
        self.assertEqual({r["source"] for r in communication(halves, 1)}, {"cache"})
        # A resume does not ask the cache.
        shutil.rmtree(os.environ["XDG_CACHE_HOME"])
        run("run", "--resume", halves, "--set", "convergence.max_steps=0", preexec_fn=limited)
        resumed = communication(halves, 2)
        self.assertEqual({r.pop("source") for r in resumed}, {"resume"})
        self.assertEqual(resumed, [{k: v for k, v in r.items() if k != "source"} for r in first])
        self.assertIsNone(same_checkpoint(checkpoint(whole), checkpoint(halves)))
        run("verify", halves)

    def test_on_one_host_auto_shares_memory(self):
        out = self.folder / "out"
        run("run", self.small(convergence__max_epochs=1), "--workers", 2, "--out", out)
        (row,) = communication(out, 1)
        self.assertEqual((row["structure"], row["algorithm"], row["seconds"], row["chosen"]), ("shared", "shared", None, 1))
        self.assertIn("communication: shared, one replica in memory for the 2 ranks", (out / "log" / "mpirun.log").read_text())

    def test_a_resume_on_another_number_of_workers_keeps_the_global_batch(self):
        out = self.folder / "out"
        run("run", self.small(convergence__max_epochs=1), "--workers", 2, "--out", out)
        run("run", "--resume", out, "--workers", 3, "--set", "convergence.max_epochs=2")
        self.assertEqual({r["samples"] for r in rows(out, "select samples from step where step % 19 <> 0")}, {64})

    def test_what_each_worker_has_to_itself_goes_on_on_any_number_of_them(self):
        """What was held back, and momenta of workers that average only now and then; with and without a window, alone too."""
        no_window = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))
        for name, settings in {"period": dict(communication__period=4, optimizer__momentum=0.9),
                               "topk": dict(communication__compression="topk"),
                               "powersgd": dict(communication__compression="powersgd"),
                               "topk-ring": dict(communication__compression="topk", communication__algorithm="ring"),
                               "topk-auto": dict(communication__compression="topk", model__hidden="[1024, 512]")}.items():
            out, last = self.folder / name, 0
            limits = [None, no_window, None, None, no_window] if name == "topk-auto" else [None] * 5
            for workers, limit in zip((2, 2, 1, 3, 1), limits):
                with self.subTest(name, workers=workers, window=limit is None):
                    last += 7
                    begin = ["--resume", out] if last > 7 else [self.small(**settings), "--out", out]
                    run("run", *begin, "--workers", workers, "--set", f"convergence.max_steps={last}", preexec_fn=limit)
                    survived = rows(out, "select step from step where survived = 1 order by step")
                    self.assertEqual([r["step"] for r in survived], list(range(1, last + 1)))
            run("verify", out)

    def test_a_damaged_last_checkpoint_is_passed_over_for_the_one_before(self):
        out = self.folder / "out"
        run("run", self.small(), "--workers", 2, "--out", out)
        model = checkpoint(out) / "model.safetensors"
        raw = bytearray(model.read_bytes())
        raw[-1] ^= 1
        model.write_bytes(raw)
        done = run("run", "--resume", out, "--set", "convergence.max_epochs=3")
        self.assertIn("model.safetensors", done.stdout + done.stderr)
        self.assertEqual(len(rows(out, "select * from epoch where survived = 1")), 3)

    def test_as_many_other_samples_are_not_the_run_s_data(self):
        out = self.folder / "out"
        run("run", self.small(convergence__max_epochs=1), "--workers", 2, "--out", out)
        config = (out / "config.yaml").read_bytes()
        more = ("--set", "convergence.max_epochs=2", "--set")
        refused = run("run", "--resume", out, *more, f"data.path={digits(seed=2)}", code=2)
        self.assertIn("was trained on other samples", refused.stderr)
        self.assertEqual(len(refused.stderr.splitlines()), 1)
        self.assertEqual((out / "config.yaml").read_bytes(), config)
        moved = self.folder / "moved"
        shutil.copytree(digits(), moved)
        run("run", "--resume", out, *more, f"data.path={moved}")

    def test_a_copied_run_folder_resumes_elsewhere(self):
        out, copy = self.folder / "out", self.folder / "elsewhere" / "copy"
        run("run", self.small(convergence__max_epochs=1), "--workers", 2, "--out", out)
        shutil.copytree(out, copy, symlinks=True)
        shutil.rmtree(out)
        run("run", "--resume", copy, "--set", "convergence.max_epochs=2")


if __name__ == "__main__":
    run_tests()
