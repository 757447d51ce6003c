#!/usr/bin/env python3
"""Makes docs/walk.md: a walk through a real run with four ranks, every answer as the program gave it.

    python3 docs/walk.py target/release/everstep

Needs root for the step with the full disk (a small tmpfs), the Python package pyte for pictures of the terminal and chromium for
that of the page; each is left out where it is missing. Takes about a minute.
"""
import base64
import fcntl
import html
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = str(pathlib.Path(sys.argv[1]).resolve())
RECIPE = """
[run]
steps = 100000
[data.make]
dir = "made"
images = 600
test = 0
size = 32
[batch]
lanes = 8
images_per_lane = 8
[[crops.group]]
count = 2
size = 32
scale = [0.2, 1.0]
[[crops.group]]
count = 2
size = 16
scale = [0.05, 0.3]
[crops]
blur = 0.5
[model]
head = [32, 16]
prototypes = 30
stages = { widths = [16, 32], depths = [1, 1], group_width = 8 }
[swav]
epsilon = 0.03
iterations = 5
freeze_prototypes = 3
[checkpoint]
every = 200
keep = 3
# What is shown names no machine.
[cluster]
host = "box"
"""
times = []
page = []


def say(text):
    page.append(text + "\n\n")
    print(text.splitlines()[0][:100], file=sys.stderr)


def tame(text):
    return re.sub(r"\n{3,}", "\n\n", text.replace(str(work), "…"))


def ask(line, keep=40, show=True):
    """Runs `everstep LINE --run told` and shows what it said, and how long it took."""
    before = time.monotonic()
    ran = subprocess.run([PROGRAM, *line.split(), "--run", "told"], cwd=work, capture_output=True, text=True)
    took = time.monotonic() - before
    times.append((line, took))
    text = tame(ran.stdout + ran.stderr).rstrip("\n").split("\n")
    if len(text) > keep:
        text = text[:keep] + [f"… {len(text) - keep} more lines"]
    if show:
        body = "\n".join(line.rstrip() for line in text)
        page.append(f"```text\n$ everstep {line} --run told          # {took:.2f} s, exit code {ran.returncode}\n{body}\n```\n\n")
    return ran


def view():
    return json.loads(subprocess.run([PROGRAM, "status", "--run", "told", "-o", "json"], cwd=work, capture_output=True, text=True).stdout)


def items(kind):
    return [item for item in view()["items"] if item["kind"] == kind]


def picture_of_terminal(name, keys, columns=80, rows=24):
    try:
        import pyte
    except ImportError:
        return
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(work)
        os.environ.update(TERM="xterm-256color", LANG="C.UTF-8")
        os.execv(PROGRAM, [PROGRAM, "tui", "--run", "told"])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    stream.feed(os.read(terminal, 65536))
                except OSError:
                    return

    read(2.5)
    for key in keys:
        os.write(terminal, key.encode())
        read(1.5)
    (HERE / "pictures" / f"{name}.svg").write_text(svg(screen, columns, rows))
    os.write(terminal, b"q")
    read(1.0)
    os.close(terminal)
    os.waitpid(pid, 0)
    say(f"![The terminal](pictures/{name}.svg)")


class Browser:
    """A chromium that is told what to do through two pipes: file descriptors 3 and 4, messages of JSON that end with a zero byte."""

    def __init__(self, program, profile):
        (commands, self.into), (self.out, answers) = os.pipe(), os.pipe()
        null = (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)
        ends = [(os.POSIX_SPAWN_DUP2, commands, 13), (os.POSIX_SPAWN_DUP2, answers, 14), (os.POSIX_SPAWN_DUP2, 13, 3), (os.POSIX_SPAWN_DUP2, 14, 4)]
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                 "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self.pid = os.posix_spawn(program, [program, *flags], os.environ, file_actions=[null, *ends])
        os.close(commands)
        os.close(answers)
        self.number, self.rest, self.session = 0, b"", None

    def say(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.into, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            while b"\0" in self.rest:
                answer, self.rest = self.rest.split(b"\0", 1)
                answer = json.loads(answer)
                if answer.get("id") == self.number:
                    if "error" in answer:
                        raise RuntimeError(f"{method}: {answer['error']}")
                    return answer["result"]
            if select.select([self.out], [], [], 1)[0]:
                self.rest += os.read(self.out, 1 << 20)
        raise TimeoutError(f"{method}: the browser does not answer")

    def end(self):
        self.session = None
        try:
            self.say("Browser.close")
        except (OSError, TimeoutError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.into)
        os.close(self.out)


# The page says when its first answers are drawn and how many messages of the live stream it heard; curves come with steps.
DRAWN = """(() => { const page = document.documentElement.dataset;
    return page.ready === "yes" && page.heard > 0 && document.querySelectorAll("#members li").length > 1
        && document.querySelectorAll(".line").length >= 3; })()"""


def picture_of_page(name, columns=1280):
    """The page as it shows the walked run: taken once the data is drawn, since a picture of its beginning shows nothing."""
    program = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    if program is None:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    served = subprocess.Popen([PROGRAM, "dashboard", "--run", "told", "--listen", address], cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    profile = tempfile.mkdtemp(prefix="walk-browser-")
    browser = Browser(program, profile)
    try:
        within(20, lambda: urllib.request.urlopen(f"http://{address}/readyz", timeout=2).status == 200)
        target = browser.say("Target.createTarget", url="about:blank")["targetId"]
        browser.session = browser.say("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        size = lambda rows: browser.say("Emulation.setDeviceMetricsOverride", width=columns, height=rows, deviceScaleFactor=1, mobile=False)
        size(800)
        browser.say("Page.navigate", url=f"http://{address}/")
        within(30, lambda: browser.say("Runtime.evaluate", expression=DRAWN)["result"].get("value"))
        # All of it: what is further down asks for its data once it is in sight.
        size(browser.say("Runtime.evaluate", expression="document.documentElement.scrollHeight")["result"]["value"])
        time.sleep(2)
        size(browser.say("Runtime.evaluate", expression="document.documentElement.scrollHeight")["result"]["value"])
        picture = browser.say("Page.captureScreenshot", format="png")["data"]
        (HERE / "pictures" / f"{name}.png").write_bytes(base64.b64decode(picture))
        say(f"![The page](pictures/{name}.png)")
    finally:
        browser.end()
        served.terminate()
        served.wait(timeout=20)
        shutil.rmtree(profile, ignore_errors=True)


def within(seconds, holds):
    end = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise TimeoutError("the page does not show the run")
        time.sleep(0.2)


NAMED = {"black": "#1d1f21", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b", "blue": "#61afef", "magenta": "#c678dd",
         "cyan": "#56b6c2", "white": "#d0d0d0", "brightblack": "#7f848e", "default": "#d0d0d0"}


def colour(name, fallback):
    if name in ("default", ""):
        return fallback
    if re.fullmatch("[0-9a-f]{6}", name):
        return "#" + name
    return NAMED.get(name.replace("bright", "") if name not in NAMED else name, fallback)


def svg(screen, columns, rows):
    width, height = columns * 8.4 + 16, rows * 17 + 16
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}">',
           f'<rect width="100%" height="100%" rx="6" fill="#1d1f21"/><g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" xml:space="preserve">']
    for row in range(rows):
        for column in range(columns):
            cell = screen.buffer[row][column]
            front, back = colour(cell.fg, "#d0d0d0"), colour(cell.bg, None)
            if cell.reverse:
                front, back = back or "#1d1f21", front
            x, y = 8 + column * 8.4, 8 + row * 17
            if back:
                out.append(f'<rect x="{x:.1f}" y="{y}" width="8.5" height="17" fill="{back}"/>')
            if cell.data.strip():
                weight = ' font-weight="bold"' if cell.bold else ""
                out.append(f'<text x="{x:.1f}" y="{y + 13}" fill="{front}"{weight}>{html.escape(cell.data)}</text>')
    return "\n".join(out) + "\n</g></svg>\n"


def slow(pid, share, seconds):
    """Lets a process have only a share of the time, by stopping it again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1 * (1 - share))
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.1 * share)


work = pathlib.Path(tempfile.mkdtemp(prefix="walk-"))
(HERE / "pictures").mkdir(exist_ok=True)
(work / "recipe.toml").write_text(RECIPE)
disk = None
if os.geteuid() == 0:
    disk = work / "told"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]).returncode:
        disk = None
log = open(work / "train.log", "w")
run = subprocess.Popen([PROGRAM, "train", "recipe.toml", "--run", "told", "--ranks", "4"], cwd=work, stdout=log, stderr=log)
try:
    say("# A walk through a run\n\nFour ranks train a small net on one machine; we look, break things, and ask what happened. Every block is the program's own answer, made by\n"
        "[walk.py](walk.py); the comment behind a command says how long it took.")
    say("## It trains")
    # There is no run to be asked before its first epoch is recorded.
    while run.poll() is None and subprocess.run([PROGRAM, "wait", "step>=60", "--run", "told", "--timeout", "5m"], cwd=work, capture_output=True).returncode:
        time.sleep(0.5)
    ask("status")
    ask("get actors --filter actor_kind=rank")
    ask("describe r1")
    ask("doctor")
    picture_of_terminal("overview", [])
    picture_of_terminal("members", ["2"])
    picture_of_page("walked")
    say("## Somebody is slow\n\nRank 2's process gets a third of its time.")
    pid = next(item["properties"]["pid"] for item in items("node") if item["properties"]["rank"] == 2)
    child = os.fork()
    if child == 0:
        slow(pid, 0.3, 20)
        os._exit(0)
    time.sleep(10)
    ask("why slow")
    ask("get ranks --sort -pace")
    os.waitpid(child, 0)
    say("## The leader dies\n\nIts process is killed, and nobody is told. By the time that a command has started, another rank leads and the steps go on.")
    leader = next(item["properties"] for item in items("node") if item["properties"]["leads"])
    os.kill(leader["pid"], signal.SIGKILL)
    ask("why waiting")
    ask("status", 12)
    subprocess.run([PROGRAM, "wait", "ranks>=4", "--run", "told", "--timeout", "1m"], cwd=work, capture_output=True)
    time.sleep(2)
    ask("history")
    say("## A node is drained")
    ask("drain r3 --dry-run")
    ask("drain r3")
    subprocess.run([PROGRAM, "wait", "ranks<=3", "--run", "told", "--timeout", "1m"], cwd=work, capture_output=True)
    ask("get nodes")
    say("## An operator pauses the run")
    ask("pause")
    subprocess.run([PROGRAM, "wait", "paused=true", "--run", "told", "--timeout", "1m"], cwd=work, capture_output=True)
    ask("why waiting")
    ask("resume")
    say("## Somebody is put out")
    issued = ask("cert issue --role viewer --ttl 1h -o viewer.pem")
    ask("status --certificate viewer.pem", 3)
    ask("cert deny " + re.search(r"its id is (\w+)", issued.stderr)[1])
    ask("status --certificate viewer.pem", 8)
    if disk:
        say("## The disk is full")
        filler = disk / "filler"
        try:
            with open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 65536)
        except OSError:
            # It is full, by this or by the run itself.
            pass
        ask("checkpoint now", show=False)
        time.sleep(3)
        ask("get events --filter severity=warning", 8)
        filler.unlink(missing_ok=True)
        ask("checkpoint now")
        time.sleep(3)
        ask("get checkpoints")
        say("What failed says that it was mended.")
        ask("get actors --filter actor_kind=checkpoint_writer")
    picture_of_terminal("incidents", ["6"])
    say("## The end")
    ask("stop")
    run.wait(timeout=60)
    ask("status", 12)
    ask("goodput")
    ask("events --since 10m --severity warning", 20)
    ask("audit")
    slowest = max(times, key=lambda entry: entry[1])
    say(f"## Times\n\n{len(times)} questions and orders; the longest took {slowest[1]:.2f} s (`{slowest[0]}`), "
        f"the median {sorted(took for _, took in times)[len(times) // 2]:.2f} s.")
    (HERE / "walk.md").write_text("".join(page).rstrip("\n") + "\n")
finally:
    if run.poll() is None:
        run.terminate()
        try:
            run.wait(timeout=20)
        except subprocess.TimeoutExpired:
            # Its disk may be full: it waits for room for its last checkpoint. The second request ends it.
            run.terminate()
            run.wait(timeout=20)
    if disk:
        subprocess.run(["umount", str(disk)])
    shutil.rmtree(work, ignore_errors=True)
