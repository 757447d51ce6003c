"""Gather and reduce of 64 MiB between two processes over gloo, plain TCP on loopback (the peer of `cargo bench --bench exchange`).

    python gloo.py [--mib 64] [--rounds 5]

Each process has, or ends with, one half. Prints one JSON line: medians in GB/s of one way, the slower process's time (what nccl-tests call bus bandwidth).
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

WORLD = 2


def rank(options):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{options.meet}", rank=options.rank, world_size=WORLD)
    values = options.mib * 2**20 // 4
    whole, half = torch.ones(values), torch.full((values // WORLD,), float(options.rank + 1))
    work = {
        "gather": lambda: dist.all_gather_into_tensor(whole, half),
        "reduce": lambda: dist.reduce_scatter_tensor(half, whole),
    }
    rates = {}
    for name, call in work.items():
        times = []
        for _ in range(options.rounds + 1):
            whole.fill_(1.0)
            dist.barrier()
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
        slower = torch.tensor(times[1:])
        dist.all_reduce(slower, dist.ReduceOp.MAX)
        rates[name] = round(values * 4 / WORLD / 1e9 / statistics.median(slower.tolist()), 3)
    if options.rank == 0:
        print(json.dumps({"peer": "gloo", "torch": torch.__version__, "gb_per_s": rates}), flush=True)
    dist.barrier()
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--meet", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        return rank(options)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--meet", os.path.join(folder, "meet")]
        ranks = [subprocess.Popen([*command, "--rank", str(rank)]) for rank in range(WORLD)]
        sys.exit(max(process.wait() for process in ranks))


if __name__ == "__main__":
    main()
