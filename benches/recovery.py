#!/usr/bin/env python3
"""SIGKILL of one of four ranks, members and leaders in turn: seconds to the next committed step beyond the length of one step,
and to the rank's return. Run in a folder with a recipe whose steps are short; needs nothing but Python.

    python3 benches/recovery.py target/release/everstep RECIPE.toml --kills 50
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import time

SETTLED = 1.2  # seconds with all ranks before the next kill


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("program")
    options.add_argument("recipe")
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--ranks", type=int, default=4)
    asked = options.parse_args()
    command = [asked.program, "train", asked.recipe, "--run", f"recovery-{os.getpid()}", "--ranks", str(asked.ranks), "--json"]
    command += ["--set", "run.steps=1000000", "--set", "checkpoint.every=200"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    epoch, whole_since, kill, victim, last = None, None, None, None, time.monotonic()
    steps, lengths, gaps, back = [], [], {"member": [], "leader": []}, []
    for line in run.stdout:
        event, now = json.loads(line), time.monotonic()
        if event.get("event") == "epoch_began":
            epoch = event
            if len(epoch["members"]) == asked.ranks:
                if kill is not None:
                    back.append(now - kill)
                    kill = None
                whole_since = now
            else:
                whole_since = None
        if event.get("event") != "step_committed":
            continue
        steps.append(event["step"])
        if victim:
            gaps[victim].append(now - kill if kill else now - killed)
            victim = None
        else:
            lengths.append(now - last)
        last = now
        kills = sum(map(len, gaps.values()))
        if kills >= asked.kills and kill is None:
            break
        if kills < asked.kills and whole_since is not None and now - whole_since > SETTLED:
            victim = "leader" if kills % 2 else "member"
            chosen = next(m for m in epoch["members"] if (m["node"] == epoch["leader"]) == (victim == "leader"))
            kill = killed = time.monotonic()
            os.kill(chosen["pid"], signal.SIGKILL)
            whole_since = None
    run.send_signal(signal.SIGTERM)
    code = run.wait(timeout=60)
    step = statistics.median(lengths)
    report = {"step_s": round(step, 4), "exit": code, "each_step_once": steps == list(range(len(steps)))}
    for whom, times in gaps.items():
        beyond = sorted(t - step for t in times)
        report[whom] = {"kills": len(beyond), "p50_s": round(statistics.median(beyond), 3), "max_s": round(beyond[-1], 3)}
    report["back_s"] = {"p50": round(statistics.median(back), 2), "max": round(max(back), 2)}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
