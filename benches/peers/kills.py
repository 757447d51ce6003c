"""What torchrun_kill.py and torchft_kill.py share: the step, the log that workers write, the options, the report.

The step is the net of step.py on a few small crops: about 40 ms on one core, as in the recipe that `benches/recovery.sh` gives Everstep.
"""
import argparse
import json
import os
import statistics
import time
from collections import namedtuple

# What a worker tells: when (the machine's monotonic clock), what, the number of a step, who, of how many, in which quorum.
Line = namedtuple("Line", "at what step rank world pid quorum")
SETTLED = 1.2  # seconds with all ranks before the next kill, as in benches/recovery.py


class Tell:
    """The worker's end of the log: a line is one short write, so lines of several processes never mix."""

    def __init__(self, folder):
        self.file = os.open(f"{folder}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def __call__(self, what, step, rank, world, quorum=0):
        os.write(self.file, f"{time.monotonic():.4f} {what} {step} {rank} {world} {os.getpid()} {quorum}\n".encode())


class Log:
    """The measuring end of the log. `trouble` says what has gone wrong with the job, if anything."""

    def __init__(self, folder, limit, trouble):
        open(f"{folder}/log", "w").close()
        self.file, self.limit, self.trouble = open(f"{folder}/log"), limit, trouble
        self.lines, self.rest, self.since = [], "", {}

    def read(self):
        *whole, self.rest = (self.rest + self.file.read()).split("\n")
        for text in whole:
            at, what, *numbers = text.split()
            line = Line(float(at), what, *map(int, numbers))
            self.lines.append(line)
            known = self.since.get(line.rank)
            if line.what == "step" and (known is None or known[4:] != line[4:]):
                self.since[line.rank] = line

    def whole(self, ranks):
        """Whether all ranks have made steps together for a while."""
        begun = self.since.values()
        return len(begun) == ranks and all(line.world == ranks and time.monotonic() - line.at > SETTLED for line in begun)

    def next(self, wanted, after=0):
        """The first wanted line behind the first `after` ones."""
        until = time.monotonic() + self.limit
        while True:
            self.read()
            for line in self.lines[after:]:
                if wanted(line):
                    return line
            after = len(self.lines)
            trouble = self.trouble() or (f"no step for {self.limit:.0f} s" if time.monotonic() > until else None)
            if trouble:
                raise RuntimeError(trouble)
            time.sleep(0.002)

    def next_step(self, wanted=lambda line: True, after=0):
        return self.next(lambda line: line.what == "step" and wanted(line), after)

    def lengths(self, ranks):
        """Lengths of rank 0's steps during which nothing happened."""
        steps = [line for line in self.lines if line.what == "step" and line.rank == 0 and line.world == ranks]
        return [b.at - a.at for a, b in zip(steps, steps[1:]) if a[3:] == b[3:] and b.step == a.step + 1]


def step_of(images):
    """A net, and a function from it (or what wraps it) to one step's loss."""
    import torch
    import torch.nn.functional as F

    from step import Net, codes

    torch.set_num_threads(1)
    torch.manual_seed(0)
    crops = [torch.randn(2 * images, 3, size, size) for size in (24, 16)]

    def loss(net):
        scores = net(crops).split(images)
        return -sum((codes(scores[0].detach()) * F.log_softmax(other / 0.1, dim=1)).sum(1).mean() for other in scores[1:])

    return Net().train(), loss


def options(about):
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--images", type=int, default=16, help="images of each rank in a step")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--limit", type=float, default=120, help="seconds without a step after which a job has failed")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    return parser


def spread(values, digits):
    return {"p50": round(statistics.median(values), digits), "max": round(max(values), digits)} if values else None


def measure(peer, asked, job_of):
    """Kills until it has been asked often enough; a job that fails is replaced. Prints the report."""
    from importlib.metadata import version

    kills, lengths, failures = [], [], []
    while len(kills) + len(failures) < asked.kills:
        job = job_of(asked)
        try:
            while len(kills) + len(failures) < asked.kills:
                kills.append(job.kill((len(kills) + len(failures)) % asked.ranks))
        except RuntimeError as error:
            failures.append(str(error))
        finally:
            lengths += job.log.lengths(asked.ranks)
            job.end()
    step = statistics.median(lengths) if lengths else 0.0
    of = {name: [kill[name] for kill in kills] for name in ("next", "new", "back", "lost")}
    report = {"peer": peer, "torch": version("torch"), "ranks": asked.ranks, "tuned": asked.tuned, "step_s": round(step, 4)}
    report |= {"kills": len(kills), "next_step_s": spread([t - step for t in of["next"]], 3)}
    report |= {"new_step_s": spread([t - step for t in of["new"]], 3), "back_s": spread(of["back"], 2)}
    print(json.dumps(report | {"steps_lost": spread(of["lost"], 1), "failures": failures}))
