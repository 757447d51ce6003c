"""Where the processor time of a step of two ranks goes, in shares that sum to 100 %.

    python3 benches/shares.py [--net tiny|400mf] [--device flex|libtorch:cpu] [--steps 20]

Runs `cargo bench --bench sharded` under `perf record` twice, with and without recomputation, and sorts the samples by thread and symbol; what is computed
again is the difference between the two. Starting, initial values and the making of crops are left out.
"""
import argparse
import collections
import pathlib
import re
import subprocess
import tempfile

from sharded import ROOT, program

IN_LANES = (
    ("canonical sums", r"tree::|exchange|Narrow|Outbound"),
    ("copies", r"memmove|memcpy|Leaves::add|copy_2d_tiled|copy_contiguous|interleave"),
)
ELSEWHERE = (
    (None, r"model::init|__cos|__ieee754_log|^log@|InMemory|LaneCrops|work::crops"),
    ("canonical sums", r"tree::|[eE]xchange|Narrow"),
    ("digests of versions", r"blake3"),
    ("update", r"pulp|larc|optim"),
    ("QUIC", r"^\[k\]|quinn|rustls|aws_lc|udp|sendmsg|recvmsg|Router|memmove|memset|net::"),
)


def kind(thread, symbol):
    """The row that a sample belongs to; None for none."""
    lane = thread.startswith("lane-")
    if not lane and not thread.startswith("tokio"):
        return None
    for name, pattern in IN_LANES if lane else ELSEWHERE:
        if re.search(pattern, symbol):
            return name
    return "compute" if lane else "votes, actors and runtime"


def sampled(binary, args, recompute):
    """Milliseconds of processor time by row, all steps together."""
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "perf.data"
        run = [binary, "--net", args.net, "--device", args.device, "--steps", str(args.steps), "--set", f"memory.recompute={recompute}"]
        subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", "997", "-o", data, *run], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        report = ["perf", "report", "-i", data, "--no-children", "--stdio", "--sort", "comm,symbol", "-F", "sample,comm,symbol", "-t", ";"]
        lines = subprocess.run(report, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()
    rows = collections.Counter()
    for line in lines:
        parts = [part.strip() for part in line.split(";", 2)]
        if len(parts) == 3 and parts[0].isdigit() and (row := kind(parts[1], parts[2].removeprefix("[.] "))):
            rows[row] += int(parts[0]) / 0.997
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="400mf")
    parser.add_argument("--device", default="flex")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    binary = program(["--features", "tch"] if (ROOT / "libtorch").exists() else [])
    once, again = sampled(binary, args, "never"), sampled(binary, args, "always")
    recomputed = max(again["compute"] - once["compute"], 0)
    again["compute"] -= recomputed
    again["recomputation"] = recomputed
    total = sum(again.values())
    each = f"{total / args.steps:.0f} ms, {sum(once.values()) / args.steps:.0f} ms with nothing computed again"
    print(f"{args.net}, {args.device}: processor time of both ranks a step {each}")
    for row, spent in again.most_common():
        print(f"{100 * spent / total:6.1f} %  {row}")


if __name__ == "__main__":
    main()
