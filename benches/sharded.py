"""Steps of two ranks of one thread each against PyTorch's DDP and FSDP2 (gloo) in turn, and the ratios of times from the same round.

    PEERS=python-with-torch python3 benches/sharded.py [--rounds 5] [--nets tiny,400mf] [--devices flex,libtorch:cpu] [--steps 20] [--set KEY=VALUE]...

Ours is `cargo bench --bench sharded` (flex when ./libtorch.sh has not been run), the peer `benches/peers/sharded.py`. Prints each round, then for each net
and device the median time, the shares of its phases and the median ratio to each peer, with the least and the most.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def last_line(command, **options):
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, **options).stdout.splitlines()[-1])


def program(features):
    """The bench's binary."""
    command = ["cargo", "bench", *features, "--bench", "sharded", "--no-run", "--message-format", "json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [line["executable"] for line in map(json.loads, lines) if line.get("executable")][-1]


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    libtorch = (ROOT / "libtorch").exists()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nets", default="tiny,400mf")
    parser.add_argument("--devices", default="flex,libtorch:cpu" if libtorch else "flex")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    ours = program(["--features", "tch"] if libtorch else [])
    peer = [os.environ.get("PEERS", "python3"), "benches/peers/sharded.py", "--steps", str(args.steps)]
    more = [word for value in args.set for word in ("--set", value)]
    for net in args.nets.split(","):
        rounds = []
        for _ in range(args.rounds):
            devices = {
                device: last_line([ours, "--net", net, "--device", device, "--steps", str(args.steps + 5), *more]) for device in args.devices.split(",")
            }
            peers = last_line([*peer, "--net", net], stderr=subprocess.DEVNULL)
            rounds.append((devices, peers))
            times = ", ".join(f"{device} {line['ms']} ms" for device, line in devices.items())
            print(f"{net}, load {peers['load']}: {times}, DDP {peers['ddp']['ms']} ms, FSDP2 {peers['fsdp2']['ms']} ms", flush=True)
        for device in args.devices.split(","):
            times = [devices[device]["ms"] for devices, _ in rounds]
            shares = [devices[device]["shares"] for devices, _ in rounds]
            told = ", ".join(f"{name} {100 * statistics.mean(share[name] for share in shares):.1f} %" for name in shares[0])
            ratios = ", ".join(
                f"{spread([devices[device]['ms'] / peers[mode]['ms'] for devices, peers in rounds])} × {name}"
                for mode, name in (("ddp", "DDP"), ("fsdp2", "FSDP2"))
            )
            print(f"{net}, {device}: {statistics.median(times)} ms; {ratios}; {told}", flush=True)


if __name__ == "__main__":
    main()
