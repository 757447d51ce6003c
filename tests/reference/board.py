"""Asks a real Prometheus every question of the Grafana board, about a run that a dashboard shows.

    everstep dashboard --run RUN --listen 127.0.0.1:7000
    python tests/reference/board.py http://127.0.0.1:7000        # prints a line a question; ends with 1 if one has no answer

Needs `prometheus` and `promtool` (Debian's package `prometheus`). The run should train meanwhile: rates need two scrapes.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

BOARD = pathlib.Path(__file__).parents[2] / "configs" / "grafana.json"
SCRAPES = 20
PORT = 9490


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def questions(panels):
    for panel in panels:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
        yield from questions(panel.get("panels", []))


def ask(expr):
    query = urllib.parse.urlencode({"query": expr.replace("$job", ".*")})
    return json.loads(get(f"http://127.0.0.1:{PORT}/api/v1/query?{query}"))["data"]["result"]


def main(dashboard):
    subprocess.run(["promtool", "check", "metrics"], input=get(f"{dashboard}/metrics"), check=True)
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "prometheus.yml"
        target = urllib.parse.urlparse(dashboard).netloc
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: everstep, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        options = [f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{PORT}"]
        server = subprocess.Popen(["prometheus", *options, "--log.level=error"])
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until and server.poll() is None:
                time.sleep(1)
                try:
                    scrapes = ask("count_over_time(up[5m]) * up")
                except OSError:
                    continue
                if scrapes and float(scrapes[0]["value"][1]) >= SCRAPES:
                    break
            else:
                sys.exit(f"{dashboard}/metrics was not scraped {SCRAPES} times within a minute")
            unanswered = 0
            for title, expr in questions(json.loads(BOARD.read_text())["panels"]):
                series = ask(expr)
                values = [float(one["value"][1]) for one in series]
                unanswered += not values
                print(f"{len(values):3} series  {values[0] if values else '-':>20}  {title}: {expr}")
            sys.exit(1 if unanswered else 0)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
