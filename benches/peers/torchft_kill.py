"""SIGKILL of one replica of a job under torchft (a lighthouse, replicas of one worker each, its DDP over gloo), again and again.

    pip install torchft-nightly && python torchft_kill.py [--ranks 2] [--kills 5] [--tuned]

The others discard the step that they were in and make it again without the lost replica, which is started anew at once (by this program)
and takes the state from another one. `next_step_s` and `new_step_s`: SIGKILL to the others' next committed step in a new quorum, beyond the length
of one step; `back_s`: until the killed replica's successor commits a step together with all others; `steps_lost`: committed steps that are
made again. Settings are the package's defaults. --tuned: a silent replica is given 1 s instead of 5, quorums are looked for every 20 ms, replicas beat
every 50 ms. A job that fails counts under `failures` and is replaced. Prints one JSON line.
"""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from datetime import timedelta

from kills import Log, Tell, measure, options, step_of

SETTINGS = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
TUNED = ["--heartbeat_timeout_ms", "1000", "--join_timeout_ms", "1000", "--quorum_tick_ms", "20"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def work(folder, images, tuned):
    import torch
    import torch.distributed as dist
    from torchft import DistributedDataParallel, Manager, ProcessGroupGloo
    from torchft.optim import OptimizerWrapper

    rank, tell = int(os.environ["REPLICA"]), Tell(folder)
    net, loss = step_of(images)
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def load(state):
        net.load_state_dict(state["net"])
        sgd.load_state_dict(state["optimizer"])

    manager = Manager(
        pg=ProcessGroupGloo(timeout=timedelta(seconds=60)),
        min_replica_size=1,
        load_state_dict=load,
        state_dict=lambda: {"net": net.state_dict(), "optimizer": sgd.state_dict()},
        rank=0,
        world_size=1,
        store_addr="127.0.0.1",
        store_port=store.port,
        lighthouse_addr=os.environ["LIGHTHOUSE"],
        replica_id=f"replica{rank}_",
        hostname="127.0.0.1",
        heartbeat_interval=timedelta(milliseconds=50 if tuned else 100),
    )
    shared, optimizer = DistributedDataParallel(manager, net), OptimizerWrapper(manager, sgd)
    while True:
        before = manager.current_step()
        optimizer.zero_grad()
        loss(shared).backward()
        optimizer.step()
        what = "step" if manager.current_step() > before else "discarded"
        tell(what, manager.current_step(), rank, manager.num_participants(), manager._quorum_id)


class Job:
    """A lighthouse, the replicas and their folder."""

    def __init__(self, asked):
        self.folder, self.asked, self.ranks = tempfile.TemporaryDirectory(), asked, asked.ranks
        self.said = open(os.environ.get("SAID", os.devnull), "a")
        port = free_port()
        program = shutil.which("torchft_lighthouse", path=os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"])
        command = [program, "--min_replicas", "1", "--bind", f"[::]:{port}", *(TUNED if asked.tuned else [])]
        self.lighthouse, self.address = self.start(command, {}), f"http://127.0.0.1:{port}"
        until_it_listens(port, asked.limit)
        self.log = Log(self.folder.name, asked.limit, self.trouble)
        self.replicas = [self.replica(rank) for rank in range(self.ranks)]

    def start(self, command, settings):
        return subprocess.Popen(command, env=os.environ | SETTINGS | settings, stdout=self.said, stderr=self.said)

    def replica(self, rank):
        command = [sys.executable, os.path.abspath(__file__), "--work", self.folder.name, "--images", str(self.asked.images)]
        return self.start(command + (["--tuned"] if self.asked.tuned else []), {"REPLICA": str(rank), "LIGHTHOUSE": self.address})

    def trouble(self):
        ended = [rank for rank, replica in enumerate(self.replicas) if replica.poll() is not None]
        return f"replicas {ended} ended by themselves" if ended else None

    def kill(self, victim):
        log = self.log
        log.next_step(lambda line: log.whole(self.ranks) and line.rank == victim, len(log.lines))
        quorum, at, seen = max(line.quorum for line in log.since.values()), time.monotonic(), len(log.lines)
        self.replicas[victim].kill()
        self.replicas[victim].wait()
        self.replicas[victim] = self.replica(victim)
        after = log.next_step(lambda line: line.quorum > quorum and line.rank != victim, seen)
        last = max(line.step for line in log.lines if line.what == "step" and line.quorum <= quorum)
        new = log.next_step(lambda line: line.quorum > quorum and line.step > last, seen)
        successor = self.replicas[victim].pid
        back = log.next_step(lambda line: line.pid == successor and line.world == self.ranks, seen)
        return {"next": after.at - at, "new": new.at - at, "back": back.at - at, "lost": last + 1 - after.step}

    def end(self):
        for process in [*self.replicas, self.lighthouse]:
            process.kill()
            process.wait()
        self.said.close()
        self.folder.cleanup()


def until_it_listens(port, limit):
    until = time.monotonic() + limit
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def main():
    asked = options(__doc__).parse_args()
    if asked.work:
        return work(asked.work, asked.images, asked.tuned)
    measure("torchft", asked, Job)


if __name__ == "__main__":
    main()
