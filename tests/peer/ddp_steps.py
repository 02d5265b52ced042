"""The peer: a few steps of PyTorch DDP over Gloo from given weights over given samples; writes the parameters.

  ddp_steps.py MODEL OPTIMIZER WEIGHTS.safetensors DATA ORDER OUT.npz    (starts its two ranks itself)
"""
import json
import os
import struct
import sys

import numpy
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import torch.nn as nn
import torch.nn.functional as F

RANKS = 2


class Tied(nn.Module):
    """Batch norm, and one weight in two layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(784, 64, bias=False)  # a bias before batch norm has no gradient but rounding
        self.norm = nn.BatchNorm1d(64)
        self.a = nn.Linear(64, 64)
        self.b = nn.Linear(64, 64)
        self.b.weight = self.a.weight
        self.last = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x.flatten(1))))
        return self.last(torch.relu(self.b(torch.relu(self.a(x)))))


def build(name):
    if name == "mlp":
        return nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    if name == "cnn":
        return nn.Sequential(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(),
                             nn.MaxPool2d(2), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10))
    return Tied()


def idx(path, header):
    return numpy.fromfile(path, numpy.uint8)[header:]


def load(path):
    raw = open(path, "rb").read()
    (length,) = struct.unpack("<Q", raw[:8])
    kinds = {"F32": numpy.float32, "I64": numpy.int64}
    tensors = {}
    for name, t in json.loads(raw[8:8 + length]).items():
        if name != "__metadata__":
            data = raw[8 + length:][slice(*t["data_offsets"])]
            tensors[name] = torch.from_numpy(numpy.frombuffer(data, kinds[t["dtype"]]).reshape(t["shape"]).copy())
    return tensors


def train(rank, port, model, optimizer, weights, data, order, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    net = build(model)
    net.load_state_dict(load(weights))
    ddp = nn.parallel.DistributedDataParallel(net)
    step = (torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9) if optimizer == "sgd"
            else torch.optim.AdamW(net.parameters(), lr=0.0001, weight_decay=0.5, eps=0.001))
    images = torch.from_numpy(idx(f"{data}/train-images-idx3-ubyte", 16).reshape(-1, 784).astype(numpy.float32)) / 256
    labels = torch.from_numpy(idx(f"{data}/train-labels-idx1-ubyte", 8).astype(numpy.int64))
    lines = [list(map(int, line.split())) for line in open(order)]
    for ids in lines[rank::RANKS]:
        step.zero_grad()
        F.cross_entropy(ddp(images[ids]), labels[ids]).backward()
        step.step()
    if rank == 0:
        numpy.savez(out, **{name: p.detach().numpy() for name, p in net.named_parameters()})
    dist.destroy_process_group()


if __name__ == "__main__":
    import socket
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as ours: torch.set_num_threads does not reach it, and more add in another order
    multiprocessing.spawn(train, (port, *sys.argv[1:]), nprocs=RANKS)
