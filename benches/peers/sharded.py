"""The step of step.py over two processes of one thread each with gloo on loopback (the peer of `cargo bench --bench sharded`).

    python sharded.py [--net tiny|400mf] [--mode ddp,fsdp2] [--layout channels_last] [--steps 20]

Each process has half of the images; what both compute is one step of the whole batch, but for batch norm, whose moments are each process's own (PyTorch's
synchronised one has no CPU kernel). ddp: DistributedDataParallel. fsdp2: fully_shard of every block, the head, the prototypes and the rest, parameters
freed after the forward. Sinkhorn's sums and, where parameters are sharded, LARC's norms are all-reduced. Prints one JSON line: median ms a step of each mode, and ms of processor time of both.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from step import DECAY, EPSILON, MOMENTUM, RATE, TEMPERATURE, TRUST, WORK, Block, Net

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
WORLD, WARM = 2, 3


class Prototypes(nn.Module):
    """A module of its own, so that it can be sharded by itself."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight.detach())

    def forward(self, embedding):
        return embedding @ self.weight.t()


class Whole(nn.Module):
    """step.py's net with its prototypes in a module."""

    def __init__(self, work):
        super().__init__()
        net = Net(work)
        self.trunk, self.head, self.prototypes = net.trunk, net.head, Prototypes(net.prototypes)

    def forward(self, crops):
        features = torch.cat([self.trunk(size) for size in crops])
        return self.prototypes(F.normalize(self.head(features), dim=1))


@torch.no_grad()
def codes(scores, rounds):
    """Sinkhorn-Knopp over the batches of all processes: rows of the result sum to 1."""
    largest = scores.max()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    plan = ((scores - largest) / EPSILON).exp()
    for _ in range(rounds):
        used = plan.sum(0, keepdim=True)
        dist.all_reduce(used)
        plan /= used
        plan /= plan.sum(1, keepdim=True)
    return plan


def loss_of(scores, batch, rounds):
    crops = scores.split(batch)
    predicted = [F.log_softmax(crop / TEMPERATURE, dim=1) for crop in crops]
    terms = [
        -(code * predicted[other]).sum(1).mean()
        for index, code in enumerate(codes(crop.detach(), rounds) for crop in crops[:2])
        for other in range(len(crops))
        if other != index
    ]
    return torch.stack(terms).mean()


def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


class Larc:
    """SGD with momentum on LARC's gradients, the norms of shards added up in one all-reduce."""

    def __init__(self, parameters, sharded):
        self.parameters, self.sharded = list(parameters), sharded
        self.sgd = torch.optim.SGD(self.parameters, lr=RATE, momentum=MOMENTUM)

    @torch.no_grad()
    def step(self):
        values = [local(p.data) for p in self.parameters]
        gradients = [local(p.grad) for p in self.parameters]
        squares = torch.stack([torch.stack([t.square().sum() for t in tensors]) for tensors in (values, gradients)])
        if self.sharded:
            dist.all_reduce(squares)
        sizes, slopes = squares.sqrt()
        rates = TRUST * sizes / (slopes + DECAY * sizes + 1e-8)
        rates = torch.where((sizes > 0) & (slopes > 0), rates, torch.ones_like(rates))
        torch._foreach_add_(gradients, values, alpha=DECAY)
        torch._foreach_mul_(gradients, list(rates.unbind()))
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)


def distributed(net, mode):
    if mode == "ddp":
        return nn.parallel.DistributedDataParallel(net)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (WORLD,))
    for unit in [m for m in net.trunk if isinstance(m, Block)] + [net.head, net.prototypes, net]:
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
    return net


def member(args, mode):
    """One process: prints its median."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    work = WORK[args.net]
    batch = work.batch // WORLD
    layout = LAYOUTS[args.layout]
    net = Whole(work).train()
    if mode == "ddp":
        # FSDP shards contiguous parameters alone; its convolutions follow the layout of the crops.
        net = net.to(memory_format=layout)
    run = distributed(net, mode)
    optimizer = Larc(run.parameters(), mode != "ddp")
    crops = [torch.randn(count * batch, 3, side, side).contiguous(memory_format=layout) for count, side in work.crops]
    times, spent, losses = [], [], []
    for _ in range(WARM + args.steps):
        start, cpu = time.perf_counter(), time.process_time()
        loss = loss_of(run(crops), batch, work.rounds)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            prototypes = local(net.prototypes.weight)
            prototypes.copy_(F.normalize(prototypes, dim=1))
        losses.append(loss.item())
        times.append(1e3 * (time.perf_counter() - start))
        spent.append(1e3 * (time.process_time() - cpu))
    if dist.get_rank() == 0:
        medians = {"ms": statistics.median(times[WARM:]), "cpu_ms": WORLD * statistics.median(spent[WARM:])}
        print(json.dumps({**{name: round(value, 1) for name, value in medians.items()}, "loss": [round(losses[0], 3), round(losses[-1], 3)]}), flush=True)
    dist.destroy_process_group()


def launch(args, mode):
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "WORLD_SIZE": str(WORLD), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        command = [sys.executable, __file__, "--net", args.net, "--layout", args.layout, "--steps", str(args.steps), "--member", mode]
        processes = [
            subprocess.Popen(command, env={**environment, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True, cwd=folder)
            for rank in range(WORLD)
        ]
        outputs = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            raise RuntimeError(f"{mode} failed")
        return json.loads(outputs[0])


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=WORK, default="tiny")
    parser.add_argument("--mode", default="ddp,fsdp2")
    parser.add_argument("--layout", choices=LAYOUTS, default="channels_last")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--member", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.member:
        return member(args, args.member)
    result = {"bench": "sharded", "net": args.net, "layout": args.layout, "torch": torch.__version__, "load": round(os.getloadavg()[0], 2)}
    print(json.dumps({**result, **{mode: launch(args, mode) for mode in args.mode.split(",")}}))


if __name__ == "__main__":
    main()
