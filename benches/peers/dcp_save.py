"""The peer of benches/checkpoint.rs: torch.distributed.checkpoint of as many bytes, on local disk.

    python dcp_save.py [--mib 1024] [--rounds 5] [--dir ./dcp-scratch]

Two processes (gloo) hold 16 f32 tensors, each sharded over both. Rows, in GB/s, median over the rounds, the slower
process counts: `dcp.save` with its defaults (it fsyncs), and each process writing and fsyncing its half. `stall` is how
long `dcp.async_save` holds the training loop up, in ms, median and longest. Files are removed. Prints one JSON line.
Needs: torch, numpy.
"""
import argparse
import json
import os
import shutil
import statistics
import time

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

TENSORS, WORLD = 16, 2


def slowest(action, then=lambda result: None):
    """Seconds of `action` on the slower of both processes; `then` gets its result and is not timed."""
    dist.barrier()
    started = time.perf_counter()
    result = action()
    seconds = torch.tensor([time.perf_counter() - started], dtype=torch.float64)
    then(result)
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    return seconds.item()


def finish(saving):
    """Waits for an asynchronous save: its thread uses the same group, so no other collective may run meanwhile."""
    (getattr(saving, "upload_completion", None) or saving).result()


def clear(folder):
    dist.barrier()
    if dist.get_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        os.sync()
    dist.barrier()


def write_and_sync(path, tensors):
    with open(path, "wb", buffering=0) as file:
        for tensor in tensors:
            view = memoryview(tensor.numpy()).cast("B")
            while view:
                view = view[file.write(view) :]
        os.fsync(file.fileno())


def process(rank, args):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    mesh = init_device_mesh("cpu", (WORLD,))
    rows = args.mib * 2**20 // 4 // 1024 // TENSORS // WORLD
    state = {f"w{i}": DTensor.from_local(torch.randn(rows, 1024), mesh, [Shard(0)]) for i in range(TENSORS)}
    local = [tensor.to_local() for tensor in state.values()]
    save, raw, stall = [], [], []
    for _ in range(args.rounds):
        clear(args.dir)
        save.append(slowest(lambda: dcp.save(state, storage_writer=dcp.FileSystemWriter(args.dir))))
        clear(args.dir)
        raw.append(slowest(lambda: write_and_sync(f"{args.dir}/{rank}", local)))
        clear(args.dir)
        stall.append(1e3 * slowest(lambda: dcp.async_save(state, storage_writer=dcp.FileSystemWriter(args.dir)), finish))
    clear(args.dir)
    if rank == 0:
        shutil.rmtree(args.dir)
        gigabytes = rows * 1024 * 4 * TENSORS * WORLD / 1e9
        print(json.dumps({
            "bytes_gb": round(gigabytes, 3),
            "rounds": args.rounds,
            "torch": torch.__version__,
            "dcp_save_gb_s": round(gigabytes / statistics.median(save), 3),
            "raw2_fsync_gb_s": round(gigabytes / statistics.median(raw), 3),
            "async_stall_ms": {"median": round(statistics.median(stall), 1), "max": round(max(stall), 1)},
        }), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", default="dcp-scratch")
    parser.add_argument("--port", type=int, default=29511)
    mp.spawn(process, args=(parser.parse_args(),), nprocs=WORLD)
