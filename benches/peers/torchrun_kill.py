"""SIGKILL of one worker of a job under torchrun (one agent, DDP over gloo), again and again: seconds until steps are made again.

    python torchrun_kill.py [--ranks 2] [--kills 5] [--tuned]

The agent ends the other workers too and starts all anew; they load the newest checkpoint. `next_step_s`: SIGKILL to the next step that a new
worker completes, beyond the length of one step; `new_step_s`: to the next step that had not been made before; `back_s`: until the
killed worker's successor has made a step; `steps_lost`: completed steps that are made again. A checkpoint is written every 5 steps. --tuned: after
every step, and the agent looks at its workers every 0.05 s. TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is set in either case: without it
restarted workers sometimes hang. A job that fails counts under `failures` and is replaced. Prints one JSON line.
"""
import os
import signal
import subprocess
import sys
import tempfile
import time

from kills import Log, Tell, measure, options, step_of

SETTINGS = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def work(folder, images, every):
    import torch
    import torch.distributed as dist

    rank, world, tell = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), Tell(folder)
    dist.init_process_group("gloo")
    net, loss = step_of(images)
    optimizer, step, kept = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9), 0, f"{folder}/checkpoint.pt"
    if os.path.exists(kept):
        saved = torch.load(kept)
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    tell("resumed", step, rank, world)
    shared = torch.nn.parallel.DistributedDataParallel(net)
    while True:
        optimizer.zero_grad()
        loss(shared).backward()
        optimizer.step()
        step += 1
        tell("step", step, rank, world)
        if rank == 0 and step % every == 0:
            torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, f"{kept}.new")
            os.replace(f"{kept}.new", kept)


class Job:
    """One agent, its workers and their folder."""

    def __init__(self, asked):
        self.folder = tempfile.TemporaryDirectory()
        folder, every = self.folder.name, 1 if asked.tuned else 5
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={asked.ranks}"]
        command += [f"--max-restarts={asked.kills}", *(["--monitor-interval=0.05"] if asked.tuned else [])]
        command += [os.path.abspath(__file__), "--work", folder, "--images", str(asked.images), *(["--tuned"] if asked.tuned else [])]
        self.log, self.ranks = Log(folder, asked.limit, self.trouble), asked.ranks
        said = os.environ.get("SAID", os.devnull)
        with open(said, "a") as said:
            self.agent = subprocess.Popen(command, env=os.environ | SETTINGS, stdout=said, stderr=said)

    def trouble(self):
        return f"torchrun ended with {self.agent.returncode}" if self.agent.poll() is not None else None

    def kill(self, victim):
        log = self.log
        log.next_step(lambda line: log.whole(self.ranks) and line.rank == victim, len(log.lines))
        old, at, pid = {line.pid for line in log.lines}, time.monotonic(), log.since[victim].pid
        os.kill(pid, signal.SIGKILL)
        after = log.next_step(lambda line: line.pid not in old)
        last = max(line.step for line in log.lines if line.what == "step" and line.pid in old)
        resumed = log.next(lambda line: line.what == "resumed" and line.pid not in old)
        new = log.next_step(lambda line: line.pid not in old and line.step > last)
        back = log.next_step(lambda line: line.pid not in old and line.rank == victim)
        return {"next": after.at - at, "new": new.at - at, "back": back.at - at, "lost": last - resumed.step}

    def end(self):
        self.agent.terminate()
        try:
            self.agent.wait(60)
        except subprocess.TimeoutExpired:
            self.agent.kill()
            self.agent.wait()
        self.log.read()
        for line in self.log.since.values():
            kill_if_ours(line.pid, self.folder.name)
        self.folder.cleanup()


def kill_if_ours(pid, folder):
    """Ends a worker that its agent has left behind."""
    try:
        with open(f"/proc/{pid}/cmdline") as command:
            if folder in command.read():
                os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass


def main():
    asked = options(__doc__).parse_args()
    if asked.work:
        return work(asked.work, asked.images, 1 if asked.tuned else 5)
    measure("torchrun", asked, Job)


if __name__ == "__main__":
    main()
