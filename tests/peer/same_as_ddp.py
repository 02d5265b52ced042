"""20 steps on 2 ranks, ours and PyTorch DDP's, from our step-0 checkpoint and over the same samples: the same parameters."""
import pathlib
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import numpy  # noqa: E402

from support import BIN, Case, checkpoint, digits, run, tensors  # noqa: E402

STEPS, BATCH, SEED = 20, 128, 7


class SameAsDdp(Case):
    def test_parameters_after_20_steps_are_those_of_ddp(self):
        for model in ("mlp", "cnn", "tied"):
            for optimizer in ("sgd", "adamw"):
                with self.subTest(model=model, optimizer=optimizer):
                    self.compare(model, optimizer)

    def compare(self, model, optimizer):
        out = self.folder / f"{model}-{optimizer}"
        settings = dict(optimizer__name=optimizer, optimizer__lr=0.02 if optimizer == "sgd" else 0.0001,
                        data__global_batch_size=BATCH, convergence__max_steps=STEPS, convergence__max_epochs=100, run__seed=SEED,
                        data__normalize="{scale: 0.00390625}")  # exact in binary: both sides see the same bits
        if optimizer == "adamw":
            # A last bit of rounding turns a relu over now and then, and what AdamW makes of that is lr times the change over
            # (the gradient + eps): with 0.001 and 1e-8 the cnn is 2e-4 apart after 20 steps for one seed in six, with
            # these it is 1e-7 at most over 12 seeds.
            settings["optimizer__eps"] = 0.001
            settings["optimizer__weight_decay"] = 0.5
        if model == "tied":
            settings["model__name"] = "torchscript"
            settings["model__torchscript"] = self.scripted()
        else:
            settings["model__name"] = model
        if model == "mlp":
            settings["model__hidden"] = "[1024, 1024]"
        run("run", self.small(**settings), "--workers", 2, "--out", out)
        order = self.folder / "order"
        order.write_text(subprocess.run([str(BIN / "plan_order"), "1200", str(BATCH), str(SEED), "2", str(STEPS)], check=True,
                                        stdout=subprocess.PIPE, text=True).stdout)
        peer = self.folder / "peer.npz"
        subprocess.run([sys.executable, HERE / "ddp_steps.py", model, optimizer, checkpoint(out, "step-00000000") / "model.safetensors",
                        digits(), order, peer], check=True, timeout=240)
        ours, start = (tensors(checkpoint(out, f"step-{s:08d}") / "model.safetensors") for s in (STEPS, 0))
        theirs = numpy.load(peer)
        self.assertGreaterEqual(len(theirs.files), 4)
        for name in theirs.files:
            self.assertGreater(numpy.abs(ours[name] - start[name]).max(), 1e-4, f"{name} was not trained")
            self.assertLessEqual(numpy.abs(ours[name] - theirs[name]).max(), 1e-5, f"{model}, {optimizer}: {name}")

    def scripted(self):
        path = self.folder / "tied.pt"
        subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
                        f"import torch, ddp_steps\ntorch.manual_seed({SEED})\ntorch.jit.script(ddp_steps.Tied()).save({str(path)!r})"], check=True)
        return path


if __name__ == "__main__":
    unittest.main(verbosity=2)
