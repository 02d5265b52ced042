#!/usr/bin/env python3
"""What PyTorch itself makes of the same nets, for the tests of worker/model.

  reference.py initial NET SEED OUT                 initial weights after manual_seed(SEED)
  reference.py gradients NET IN OUT                 from weights, "input" and "target": "output", "loss", gradients
  reference.py scripts FOLDER                       scripted nets and losses, good and bad
  reference.py train FILE.pt IN OUT                 one forward and backward pass of a scripted net in training mode
  reference.py load FILE.pt IN OUT                  load_state_dict of IN into the scripted net, its output for "input"

NET is JSON: {"name": "mlp", "inputs": 784, "hidden": [1024, 1024], "outputs": 10}. Files are safetensors.
"""
import json
import struct
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

TYPES = {"F32": np.float32, "I64": np.int64}


def read(path):
    raw = open(path, "rb").read()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    header.pop("__metadata__", None)
    data = raw[8 + size:]
    tensor = lambda i: np.frombuffer(data[slice(*i["data_offsets"])], TYPES[i["dtype"]]).reshape(i["shape"]).copy()
    return {name: torch.from_numpy(tensor(info)) for name, info in header.items()}


def write(path, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        array = tensor.detach().contiguous().numpy()
        kind = {np.dtype(np.float32): "F32", np.dtype(np.int64): "I64"}[array.dtype]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)


def make(net):
    """As in the peer that Lockstep is compared with."""
    if net["name"] == "cnn":
        side = int(net["inputs"]**0.5)
        return nn.Sequential(nn.Unflatten(1, (1, side, side)), nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3),
                             nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * ((side - 4) // 2)**2, 128),
                             nn.ReLU(), nn.Linear(128, net["outputs"]))
    layers, width = [], net["inputs"]
    for size in net["hidden"]:
        layers += [nn.Linear(width, size), nn.ReLU()]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, net["outputs"]))


def passes(net, tensors, out):
    output = net(tensors["input"])
    loss = F.cross_entropy(output, tensors["target"])
    loss.backward()
    found = {"output": output, "loss": loss.reshape(1)}
    found.update({"gradient." + name: p.grad for name, p in net.named_parameters()})
    found.update({"buffer." + name: b for name, b in net.named_buffers()})
    write(out, found)


class BatchNormNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


class TiedNet(nn.Module):
    """A word's vector in, a word's score out, by the same weights; a layer is used under two names."""

    def __init__(self):
        super().__init__()
        self.words, self.mix, self.score = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.again = self.mix
        self.score.weight = self.words.weight

    def forward(self, ids):
        return self.score(torch.tanh(self.again(self.mix(self.words(ids).mean(1)))))


class HalfShared(nn.Module):
    def __init__(self):
        super().__init__()
        self.whole = nn.Parameter(torch.randn(4, 4))
        self.part = nn.Parameter(self.whole.detach()[:2])

    def forward(self, x):
        return x @ self.whole @ self.part.t()


class SameMemory(nn.Module):
    """Two parameters to Python, each with a gradient of its own, over one memory."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randn(6, 6))
        self.second = nn.Parameter(self.first.detach())

    def forward(self, x):
        return torch.tanh(x @ self.first) @ self.second


class Smooth(nn.Module):
    """LibTorch's optimiser takes these layers' gradients in another way than the first calls do, and rounds otherwise."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 64), nn.LayerNorm(64), nn.Linear(64, 3)

    def forward(self, x):
        x = self.norm(self.first(x))
        x = F.gelu(x * torch.sigmoid(x) * 1.7 + torch.tanh(x) / 3.1)
        return self.last(x / (x.std(1, keepdim=True) + 0.001))


class Replaces(nn.Module):
    """Assigns a new tensor to its buffer, as PyTorch's own batch norm did before 1.13."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 3)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count = self.count + 1
        return self.last(x)


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, self.last = nn.Linear(6, 4).requires_grad_(False), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.base(x))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x, y):
        return self.last(x + y)


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(x), x


class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        if x.sum() > 1e9:
            raise ValueError("these numbers are too large")
        return self.last(x)


class EachLoss(nn.Module):
    def forward(self, output, target):
        return F.cross_entropy(output, target, reduction="none")


class WeightedLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, output, target):
        return (F.cross_entropy(output, target, reduction="none") * self.weights[target]).mean()


class WrongLoss(nn.Module):
    def forward(self, output, target):
        return output


class TrainableLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, output, target):
        return (output * self.scale).mean()


def scripts(folder):
    torch.manual_seed(3)
    save = lambda module, name: torch.jit.script(module).save(f"{folder}/{name}.pt")
    save(BatchNormNet(), "batch_norm")
    save(TiedNet(), "tied")
    save(nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.5), nn.Linear(64, 3)), "dropout")
    for module, name in [(HalfShared(), "half_shared"), (SameMemory(), "same_memory"), (Smooth(), "smooth"),
                         (Replaces(), "replaces"), (Frozen(), "frozen_base"),
                         (TwoInputs(), "two_inputs"), (TwoOutputs(), "two_outputs"), (Raises(), "raises"),
                         (BatchNormNet().double(), "double"), (BatchNormNet().requires_grad_(False), "no_gradient"),
                         (EachLoss(), "each_loss"), (WeightedLoss(), "weighted_loss"), (WrongLoss(), "wrong_loss"),
                         (TrainableLoss(), "trainable_loss")]:
        save(module, name)
    torch.jit.freeze(torch.jit.script(BatchNormNet().eval())).save(f"{folder}/frozen.pt")
    torch.jit.trace(BatchNormNet().eval(), torch.zeros(2, 6)).save(f"{folder}/traced.pt")
    torch.save(BatchNormNet().state_dict(), f"{folder}/state_dict.pt")


def main(what, *args):
    torch.set_num_threads(1)
    if what == "initial":
        torch.manual_seed(int(args[1]))
        write(args[2], make(json.loads(args[0])).state_dict())
    elif what == "gradients":
        net, tensors = make(json.loads(args[0])), read(args[1])
        net.load_state_dict({name: tensor for name, tensor in tensors.items() if name not in ("input", "target")})
        passes(net, tensors, args[2])
    elif what == "scripts":
        scripts(args[0])
    elif what == "train":
        net = torch.jit.load(args[0])
        net.train()
        passes(net, read(args[1]), args[2])
    elif what == "load":
        net, tensors = torch.jit.load(args[0]), read(args[1])
        net.load_state_dict({name: tensor for name, tensor in tensors.items() if name not in ("input", "target")})
        net.eval()
        write(args[2], {"output": net(tensors["input"])})


main(*sys.argv[1:])
