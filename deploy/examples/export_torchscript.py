#!/usr/bin/env python3
"""Writes a net that `lockstep run` can train, as TorchScript.

  python3 export_torchscript.py net.pt              a small CNN with batch norm and dropout
  python3 export_torchscript.py net.pt --tied       a net in which two layers share one matrix
  lockstep run torchscript.yaml --workers 2 --set model.torchscript=net.pt

What a net has to be like:
- one input, a batch of samples ([b, 28, 28] float32 for the digits, or int64 with data.input: as_is), and one output;
- parameters in float32 (net.float());
- exported by torch.jit.script: torch.jit.trace fixes batch norm and dropout to one mode, and torch.jit.freeze leaves
  nothing to train.
The initial weights are those in the file, so seed before you make the net.
"""
import argparse

import torch
from torch import Tensor, nn


class SmallCnn(nn.Module):
    """Images of one channel to scores of ten classes."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.dropout = nn.Dropout(0.2)
        self.classes = nn.Linear(32 * 7 * 7, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = images.reshape(-1, 1, 28, 28)
        x = torch.max_pool2d(torch.relu(self.norm1(self.conv1(x))), 2)
        x = torch.max_pool2d(torch.relu(self.norm2(self.conv2(x))), 2)
        return self.classes(self.dropout(x.flatten(1)))


class TiedClassifier(nn.Module):
    """Two halves that share one matrix: Lockstep trains it once, and a checkpoint has it under both names."""

    def __init__(self, width: int = 256):
        super().__init__()
        self.down = nn.Linear(784, width)
        self.mix = nn.Linear(width, width)
        self.mix_again = nn.Linear(width, width)
        self.mix_again.weight = self.mix.weight
        self.norm = nn.BatchNorm1d(width)
        self.classes = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.down(images.flatten(1))))
        x = torch.relu(self.mix(x))
        return self.classes(torch.relu(self.mix_again(x)))


def main():
    parser = argparse.ArgumentParser(description="Writes a net that `lockstep run` can train, as TorchScript.")
    parser.add_argument("file", help="where to write it, as in net.pt")
    parser.add_argument("--tied", action="store_true", help="a net with tied weights in place of the CNN")
    parser.add_argument("--seed", type=int, default=1, help="of the initial weights")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    net = TiedClassifier() if arguments.tied else SmallCnn()
    torch.jit.script(net).save(arguments.file)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    print(f"{arguments.file}: {type(net).__name__}, {parameters:,} parameters")


if __name__ == "__main__":
    main()
