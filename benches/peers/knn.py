"""Weighted cosine kNN, 2,000 queries against 20,000, in PyTorch (the peer of `cargo bench --bench knn`).

    python knn.py [--threads 1] [--reps 5]

Normalisation, product, top 20 and the vote (temperature .07, 10 classes). Prints one JSON line: median ms a call.
"""
import argparse, json, statistics, time

import torch
import torch.nn.functional as F


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--reps", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    results = []
    for dim in (128, 400):
        bank, queries, labels = torch.randn(20_000, dim), torch.randn(2_000, dim), torch.randint(0, 10, (20_000,))

        def knn():
            cosines, nearest = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).t()).topk(20)
            return torch.zeros(2_000, 10).scatter_add_(1, labels[nearest], (cosines / 0.07).exp()).argmax(1)

        knn()
        times = []
        for _ in range(options.reps):
            start = time.perf_counter()
            knn()
            times.append((time.perf_counter() - start) * 1e3)
        results.append(dict(dim=dim, ms=round(statistics.median(times), 1)))
    print(json.dumps(dict(item="knn", torch=torch.__version__, threads=options.threads, results=results)))


if __name__ == "__main__":
    main()
