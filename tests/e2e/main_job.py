"""The main job from the command line to what it leaves in its folder."""
import json
import os
import re
import struct
import unittest

from support import EXAMPLES, MNIST, Case, checkpoint, digits, rows, run, run_tests, start, tensors, wait_for


class MainJob(Case):
    def test_a_run_trains_says_how_it_went_and_leaves_everything_in_its_folder(self):
        out = self.folder / "out"
        done = run("run", self.small(convergence__max_epochs=3), "--workers", 2, "--out", out)
        epochs = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
        self.assertEqual(len(epochs), 3, done.stdout)
        for word in ("max_epochs", "accuracy", "data_wait", "comm_exposed", "p50", "p95", str(out)):
            self.assertIn(word, done.stdout)
        for name in ("config.yaml", "run.db", "journal.db", "events", "checkpoints/latest/MANIFEST.json", "checkpoints/best", "log"):
            self.assertTrue((out / name).exists(), name)
        self.assertFalse([p.name for p in out.rglob("*") if re.search(r"\.tmp|\.new|-wal$|-shm$", p.name)])
        steps = rows(out, "select * from step order by step")
        self.assertEqual([r["step"] for r in steps], list(range(1, len(steps) + 1)))
        self.assertEqual(sum(r["samples"] for r in steps), 3 * 1200)
        for epoch in rows(out, "select * from epoch"):
            self.assertEqual(epoch["fingerprint"], epoch["expected_fingerprint"])
            self.assertEqual(epoch["samples"], 1200)
        best = max(r["value"] for r in rows(out, "select value from evaluation where metric = 'accuracy'"))
        self.assertGreater(best, 0.5)
        run("verify", out)

    def test_step_parts_add_up_and_grad_bytes_is_the_gradient(self):
        out = self.folder / "out"
        run("run", self.small(model__hidden="[1024, 1024]", data__batch_size=64, convergence__max_epochs=4), "--workers", 2, "--out", out)
        parts = ("data_wait_s", "forward_s", "backward_s", "comm_exposed_s", "optimizer_s", "other_s")
        others = []
        for r in rows(out, "select * from rank_step"):
            self.assertAlmostEqual(sum(r[p] for p in parts), r["step_s"], delta=0.01 * r["step_s"])
            others.append(r["other_s"] / r["step_s"])
        self.assertLessEqual(sorted(others)[len(others) // 2], 0.02)
        gradient = 4 * sum(t.size for t in tensors(checkpoint(out) / "model.safetensors").values())
        self.assertEqual({r["grad_bytes"] for r in rows(out, "select grad_bytes from step")}, {gradient})

    def test_two_runs_of_one_config_give_the_same_bits(self):
        from support import same_checkpoint
        config = self.small(data__augment="{shift: 2}")
        for name in ("a", "b"):
            run("run", config, "--workers", 2, "--out", self.folder / name)
        steps = sorted(p.name for p in (self.folder / "a" / "checkpoints").glob("step-*"))
        self.assertGreaterEqual(len(steps), 3)
        for step in steps:
            self.assertIsNone(same_checkpoint(checkpoint(self.folder / "a", step), checkpoint(self.folder / "b", step)))

    def test_event_files_hold_what_run_db_holds(self):
        out = self.folder / "out"
        run("run", self.small(), "--workers", 2, "--out", out)
        scalars = {}
        for path in (out / "events").iterdir():
            for tag, step, value in read_events(path.read_bytes()):
                scalars.setdefault(tag, {})[step] = value
        evaluations = {r["step"]: r["value"] for r in rows(out, "select step, value from evaluation where metric = 'accuracy' and split = 'validation'")}
        self.assertEqual(scalars["val/accuracy"].keys(), evaluations.keys())
        for step, value in evaluations.items():
            self.assertAlmostEqual(scalars["val/accuracy"][step], value, places=6)
        for tag in ("train/loss", "train/lr", "train/samples_per_s", "step/forward_s", "step/comm_exposed_s"):
            self.assertTrue(scalars.get(tag), tag)

    def test_dry_run_shows_the_plan_and_makes_nothing(self):
        done = run("run", self.small(), "--workers", 2, "--dry-run", "--out", self.folder / "out")
        self.assertIn("global_batch_size: 64", done.stdout)
        self.assertFalse((self.folder / "out").exists())

    def test_bad_configs_end_with_one_line_and_exit_2(self):
        good = self.small().read_text()
        for bad, words in ((good.replace("batch_size", "batchsize"), ("batchsize", "did you mean 'batch_size'")),
                           (good.replace("lr: 0.05", "lr: fast"), ("lr", "fast")),
                           (good.replace("path: /", "path: /nowhere/"), ("nowhere",)),
                           (good + "accumulate: 0\n", ("accumulate", "from 1 to"))):
            done = run("run", self.config(bad, "bad.yaml"), "--workers", 2, "--out", self.folder / "out", code=2)
            line = done.stderr.strip()
            self.assertEqual(len(line.splitlines()), 1, line)
            self.assertIn("bad.yaml:", line)
            for word in words:
                self.assertIn(word, line)
            self.assertFalse((self.folder / "out").exists())

    def test_an_out_folder_in_use_is_refused(self):
        (self.folder / "out").mkdir()
        (self.folder / "out" / "mine.txt").write_text("keep")
        done = run("run", self.small(), "--out", self.folder / "out", code=2)
        self.assertIn("out", done.stderr)
        self.assertEqual((self.folder / "out" / "mine.txt").read_text(), "keep")

    def test_evaluate_and_predict_use_what_was_trained(self):
        out = self.folder / "out"
        run("run", self.small(), "--workers", 2, "--out", out)
        best = rows(out, "select max(value) as v from evaluation where metric = 'accuracy'")[0]["v"]
        said = json.loads(run("evaluate", out, "--json").stdout)
        self.assertAlmostEqual(said["metrics"]["accuracy"], best, delta=1e-6)
        lines = run("predict", out, "--data", digits()).stdout.splitlines()
        self.assertEqual(len(lines), 201)

    def test_a_running_job_answers_status_checkpoint_and_stop(self):
        out = self.folder / "out"
        job = self.start("run", self.small(convergence__max_epochs=100000), "--workers", 2, "--out", out)
        from support import status, step_now
        wait_for(lambda: step_now(out) > 20, "steps")
        self.assertEqual(status(out)["phase"], "training")
        run("checkpoint", out)
        wait_for(lambda: rows(out, "select * from decision where kind = 'checkpoint' and rule = 'request'"), "the checkpoint")
        self.assertIn(str(out.name), run("runs", "--json", cwd=self.folder).stdout + str(out))
        run("stop", out)
        self.assertEqual(job.wait(60), 0)
        stop = rows(out, "select * from decision where kind = 'stop'")
        self.assertEqual([r["rule"] for r in stop], ["request"])
        self.assertTrue(checkpoint(out).exists())

    @unittest.skipUnless(MNIST.exists(), "the real digits lie beside the repository only where it is developed")
    def test_the_first_step_of_the_mlp_comes_soon_enough_to_be_measured(self):
        import time
        out = self.folder / "out"
        began = time.time()
        run("run", EXAMPLES / "mnist-mlp.yaml", "--workers", 2, "--out", out, "--set", f"data.path={MNIST}",
            "--set", "convergence.max_steps=5")
        first = rows(out, "select min(time) as t, step_s from step where step = 1")[0]
        print(f"first step ended {first['t'] + first['step_s'] - began:.2f} s after the command")
        self.assertGreater(first["t"], began)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def fields(data):
    """A protobuf message's fields, by number."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            yield key >> 3, data[at:at + size]
            at += size


def read_events(raw):
    at = 0
    while at < len(raw):
        (length,) = struct.unpack_from("<Q", raw, at)
        assert struct.unpack_from("<I", raw, at + 8)[0] == masked(raw[at:at + 8])
        body = raw[at + 12:at + 12 + length]
        assert struct.unpack_from("<I", raw, at + 12 + length)[0] == masked(body)
        at += 16 + length
        event = dict(fields(body))
        for number, value in fields(event.get(5, b"")):
            summary = dict(fields(value))
            yield summary[1].decode(), event.get(2, 0), struct.unpack("<f", summary[2])[0]


if __name__ == "__main__":
    run_tests()
