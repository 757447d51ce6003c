"""Sinkhorn of one batch in PyTorch (the peer of `cargo bench --bench sinkhorn`).

    python sinkhorn.py [--threads 1] [--reps 20]

"reference" is distributed_sinkhorn of facebookresearch/swav with one rank; "scaled" keeps two scaling vectors and leaves
the matrix alone, the fastest form in PyTorch that we know. Prints one JSON line: median ms a call.
"""
import argparse, json, statistics, time

import torch
import torch.nn.functional as F

EPSILON = 0.05


@torch.no_grad()
def reference(scores, iterations):
    q = torch.exp(scores / EPSILON).t()
    k, b = q.shape
    q /= q.sum()
    for _ in range(iterations):
        q /= q.sum(1, keepdim=True)
        q /= k
        q /= q.sum(0, keepdim=True)
        q /= b
    q *= b
    return q.t()


@torch.no_grad()
def scaled(scores, iterations):
    q = torch.exp(scores / EPSILON)
    b, k = q.shape
    q /= q.sum()
    u = torch.ones(b)
    for _ in range(iterations):
        v = 1 / (k * torch.mv(q.t(), u))
        u = 1 / (b * torch.mv(q, v))
    return q.mul_(u[:, None] * b).mul_(v)


def milliseconds(function, reps):
    function(), function()
    times = []
    for _ in range(reps):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e3)
    return round(statistics.median(times), 2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--reps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    results = []
    for b, k, iterations in ((512, 3000, 3), (256, 16000, 10)):
        scores = F.normalize(torch.randn(b, 128), dim=1) @ F.normalize(torch.randn(k, 128), dim=1).t()
        results.append(dict(shape=f"{b}x{k}x{iterations}", reference_ms=milliseconds(lambda: reference(scores, iterations), options.reps),
                            scaled_ms=milliseconds(lambda: scaled(scores, iterations), options.reps)))
    print(json.dumps(dict(item="sinkhorn", torch=torch.__version__, threads=options.threads, results=results)))


if __name__ == "__main__":
    main()
