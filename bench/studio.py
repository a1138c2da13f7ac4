#!/usr/bin/env python3
"""What the studio's server costs beside the drawing itself: CPU time of one and of the other, in turns.

    cargo build --release -p imagen-cli
    bench/studio.py                       # 30 rounds; about ten minutes on an idle machine
    bench/studio.py --rounds 8 --pictures 2

Both draw the same pictures with the same seeds. The command line's start is taken out by the difference of two commands of
different counts; the server is warm, and a listener reads every step and preview as the page does. Counted is user plus system
time of the whole process, which other work on the machine changes far less than it changes the clock. Rounds alternate which
comes first; said is the median of the rounds' ratios with a bootstrapped interval. Needs nothing but Python.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGEN = Path(os.environ.get("IMAGEN", ROOT / "target/release/imagen"))
TICKS = os.sysconf("SC_CLK_TCK")


def spent(pid: int) -> float:
    """User and system seconds of a process that lives."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def command(arguments, count: int, folder: str) -> float:
    """User and system seconds of the command that draws so many pictures."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [IMAGEN, "sample", arguments.prompt, "--seed", "1", "--count", str(count), "--batch", "1", "--until", arguments.until, "--quiet",
         "--threads", str(arguments.threads), "--force", "--output", f"{folder}/{{index}}.png"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Server:
    """The studio, with somebody who listens."""

    def __init__(self, arguments, folder: str):
        self.arguments = arguments
        self.process = subprocess.Popen(
            [IMAGEN, "serve", "--port", "0", "--data", folder, "--threads", str(arguments.threads)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address = self.process.stdout.readline().strip().rstrip("/")
        self.previews = 0
        threading.Thread(target=self.listen, daemon=True).start()
        self.draw(1)

    def listen(self):
        with urllib.request.urlopen(f"{self.address}/api/v1/events?client=bench") as stream:
            for line in stream:
                self.previews += b'"preview":{' in line

    def ask(self, path: str, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Client": "bench", "Content-Type": "application/json"} if data else {"X-Client": "bench"}
        with urllib.request.urlopen(urllib.request.Request(self.address + path, data, headers)) as reply:
            return json.load(reply)

    def draw(self, count: int) -> float:
        """User and system seconds of the server while it draws so many pictures."""
        before = spent(self.process.pid)
        order = {"prompt": self.arguments.prompt, "seed": 1, "count": count, "batch": 1, "until": self.arguments.until}
        job = self.ask("/api/v1/jobs", order)
        while job["state"] in ("queued", "running"):
            time.sleep(0.1)
            job = self.ask(f"/api/v1/jobs/{job['id']}")
        assert job["state"] == "done", job
        return spent(self.process.pid) - before


def interval(values, draws=4000):
    """The middle 95 % of medians of the rounds, drawn again and again."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--until", default="sr256")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", default="a red apple")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(arguments, folder)
        command(arguments, 1, folder)
        ratios, alone = [], []
        try:
            for k in range(arguments.rounds):
                def by_command():
                    return command(arguments, arguments.pictures + 1, folder) - command(arguments, 1, folder)

                def by_server():
                    return server.draw(arguments.pictures)

                first, second = (by_command, by_server) if k % 2 == 0 else (by_server, by_command)
                results = {first: first(), second: second()}
                ratios.append(results[by_server] / results[by_command])
                alone.append(results[by_command] / arguments.pictures)
                print(f"round {k + 1}: {results[by_server]:.2f} s served, {results[by_command]:.2f} s alone, {ratios[-1]:.3f}", file=sys.stderr)
        finally:
            server.process.terminate()
            server.process.wait()
    low, high = interval(ratios)
    median = statistics.median(ratios)
    print(f"{arguments.rounds} rounds of {arguments.pictures} pictures to {arguments.until}, {arguments.threads} thread(s): "
          f"{statistics.median(alone):.2f} s of CPU a picture alone; served, {100 * (median - 1):+.1f} % "
          f"({100 * (low - 1):+.1f} to {100 * (high - 1):+.1f}, 95 %), with {server.previews} previews sent")


if __name__ == "__main__":
    main()
