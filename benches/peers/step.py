"""One SwAV training step in PyTorch (the peer of `cargo bench --bench step`).

    python step.py [--net tiny|400mf] [--threads 1] [--steps 20]

tiny: the small net of configs/cifar10.toml, a RegNetY of 104,816 parameters (stem of stride 2, widths 32/64/128, depths 1/2/1, groups of 16),
head 128-256(batch norm)-64, 100 prototypes; 128 images of 2x32 + 2x16 crops, 10 Sinkhorn rounds. 400mf: regnet_y_400mf (widths 48/104/208/440,
depths 1/3/6/6, groups of 8), head 440-512(batch norm)-128, 3,000 prototypes; 32 images of 2x96 + 4x48 crops, 3 rounds. Crops are in memory already.
A step is: forward (one pass of the trunk a size), codes, swapped loss, backward, SGD with momentum and LARC, prototypes to length 1. Both memory
layouts are measured in turn, step by step. Prints one JSON line: median ms a step, and CPU ms a step.
"""
import argparse
import dataclasses
import json
import os
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

TEMPERATURE, EPSILON = 0.1, 0.03
RATE, MOMENTUM, DECAY, TRUST = 3.0, 0.9, 1e-6, 1e-3


@dataclasses.dataclass(frozen=True)
class Work:
    """A net and its batch."""

    batch: int
    crops: tuple  # (crops, side) of each size
    stages: tuple  # (width, depth)
    group: int
    head: tuple
    prototypes: int
    rounds: int


WORK = {
    "tiny": Work(128, ((2, 32), (2, 16)), ((32, 1), (64, 2), (128, 1)), 16, (256, 64), 100, 10),
    "400mf": Work(32, ((2, 96), (4, 48)), ((48, 1), (104, 3), (208, 6), (440, 6)), 8, (512, 128), 3000, 3),
}


def conv(inputs, outputs, kernel=1, stride=1, groups=1):
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


class Excitation(nn.Module):
    """Channels weighted by what all of them hold on average."""

    def __init__(self, width, reduced):
        super().__init__()
        self.weigh = nn.Sequential(nn.Conv2d(width, reduced, 1), nn.ReLU(inplace=True), nn.Conv2d(reduced, width, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.weigh(x.mean((2, 3), keepdim=True))


class Block(nn.Module):
    """RegNetY's block with bottleneck ratio 1."""

    def __init__(self, inputs, outputs, stride, group):
        super().__init__()
        self.body = nn.Sequential(
            *conv(inputs, outputs), nn.ReLU(inplace=True),
            *conv(outputs, outputs, 3, stride, outputs // group), nn.ReLU(inplace=True),
            Excitation(outputs, inputs // 4),
            *conv(outputs, outputs),
        )
        plain = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if plain else nn.Sequential(*conv(inputs, outputs, 1, stride))

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class Net(nn.Module):
    """Trunk, head and prototypes; from crops by size to scores, crop-major."""

    def __init__(self, work):
        super().__init__()
        layers, width = [*conv(3, 32, 3, 2), nn.ReLU(inplace=True)], 32
        for outputs, depth in work.stages:
            for index in range(depth):
                layers.append(Block(width, outputs, 2 if index == 0 else 1, work.group))
                width = outputs
        hidden, dim = work.head
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim))
        self.prototypes = nn.Parameter(F.normalize(torch.randn(work.prototypes, dim), dim=1))

    def forward(self, crops):
        features = torch.cat([self.trunk(size) for size in crops])
        return F.normalize(self.head(features), dim=1) @ self.prototypes.t()


@torch.no_grad()
def codes(scores, rounds):
    """Sinkhorn-Knopp over the batch: rows of the result sum to 1."""
    plan = ((scores - scores.max()) / EPSILON).exp()
    for _ in range(rounds):
        plan /= plan.sum(0, keepdim=True)
        plan /= plan.sum(1, keepdim=True)
    return plan


def loss_of(scores, work):
    """Codes of the first two crops, predicted from every other crop."""
    crops = scores.split(work.batch)
    predicted = [F.log_softmax(crop / TEMPERATURE, dim=1) for crop in crops]
    terms = [
        -(code * predicted[other]).sum(1).mean()
        for index, code in enumerate(codes(crop.detach(), work.rounds) for crop in crops[:2])
        for other in range(len(crops))
        if other != index
    ]
    return torch.stack(terms).mean()


class Larc:
    """SGD with momentum; each tensor's gradient is scaled to TRUST times the tensor's norm first."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.sgd = torch.optim.SGD(self.parameters, lr=RATE, momentum=MOMENTUM)

    @torch.no_grad()
    def step(self):
        gradients = [p.grad for p in self.parameters]
        sizes = torch.stack(torch._foreach_norm(self.parameters))
        slopes = torch.stack(torch._foreach_norm(gradients))
        rates = TRUST * sizes / (slopes + DECAY * sizes + 1e-8)
        rates = torch.where((sizes > 0) & (slopes > 0), rates, torch.ones_like(rates))
        torch._foreach_add_(gradients, self.parameters, alpha=DECAY)
        torch._foreach_mul_(gradients, list(rates.unbind()))
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)


class Training:
    """A net, its optimizer and its crops in one memory layout."""

    def __init__(self, work, layout):
        self.work = work
        self.net = Net(work).train().to(memory_format=layout)
        self.optimizer = Larc(self.net.parameters())
        shapes = [(crops * work.batch, 3, side, side) for crops, side in work.crops]
        self.crops = [torch.randn(shape).contiguous(memory_format=layout) for shape in shapes]
        self.wall, self.cpu, self.losses = [], [], []

    def step(self):
        wall, cpu = time.perf_counter(), time.process_time()
        loss = loss_of(self.net(self.crops), self.work)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.net.prototypes.copy_(F.normalize(self.net.prototypes, dim=1))
        self.losses.append(loss.item())
        self.wall.append(1e3 * (time.perf_counter() - wall))
        self.cpu.append(1e3 * (time.process_time() - cpu))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=WORK, default="tiny")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    trainings = {"nchw": Training(WORK[args.net], torch.contiguous_format), "channels_last": Training(WORK[args.net], torch.channels_last)}
    warm = 3
    for _ in range(warm + args.steps):
        for training in trainings.values():
            training.step()
    result = {"bench": "step", "net": args.net, "torch": torch.__version__, "threads": args.threads, "load": round(os.getloadavg()[0], 2)}
    result["trunk_parameters"] = sum(p.numel() for p in next(iter(trainings.values())).net.trunk.parameters())
    for name, training in trainings.items():
        result[name] = {
            "ms": round(statistics.median(training.wall[warm:]), 1),
            "cpu_ms": round(statistics.median(training.cpu[warm:]), 1),
            "loss": [round(training.losses[0], 3), round(training.losses[-1], 3)],
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
