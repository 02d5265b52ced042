"""One worker with batch 128, two with 64, four with 32, three with uneven slices: the same training."""

import numpy

from support import Case, checkpoint, run, run_tests, tensors


class Worlds(Case):
    def test_the_number_of_workers_does_not_change_what_is_trained(self):
        for model, optimizer in (("mlp", "sgd"), ("cnn", "sgd"), ("mlp", "adamw")):
            with self.subTest(model=model, optimizer=optimizer):
                trained = {}
                for workers in (1, 2, 3, 4):
                    out = self.folder / f"{model}-{optimizer}-{workers}"
                    run("run", self.small(model__name=model, optimizer__name=optimizer, optimizer__lr=0.001, data__global_batch_size=128,
                                          convergence__max_steps=20, convergence__max_epochs=100), "--workers", workers, "--out", out)
                    trained[workers] = tensors(checkpoint(out, "step-00000020") / "model.safetensors")
                for workers in (2, 3, 4):
                    for name, one in trained[1].items():
                        difference = numpy.abs(one - trained[workers][name]).max()
                        self.assertLessEqual(difference, 1e-5, f"{workers} workers: {name}")


if __name__ == "__main__":
    run_tests()
