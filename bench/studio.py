#!/usr/bin/env python3
"""What the studio's server costs beside the drawing itself: CPU time of one and of the other, in turns.

    cargo build --release -p imagen-cli
    bench/studio.py                       # 30 rounds; about ten minutes on an idle machine
    bench/studio.py --rounds 8 --pictures 2

Both draw the same pictures with the same seeds, and both are counted from their second picture on, since what a start takes
from the system varies by more than what is looked for. A listener takes every step and preview that the server sends. Counted
is user plus system time of the whole process, which other work on the machine changes far less than it changes the clock.
Rounds alternate which comes first; said is the median of the rounds' ratios with a bootstrapped interval. Needs nothing but
Python.
"""

import argparse
import json
import os
import random
import socket
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


def command(arguments, folder: str) -> float:
    """User and system seconds in which the command draws its pictures after the first one."""
    first = Path(folder, "0.png")
    first.unlink(missing_ok=True)
    process = subprocess.Popen(
        [IMAGEN, "sample", arguments.prompt, "--seed", "1", "--count", str(arguments.pictures + 1), "--batch", "1", "--until", arguments.until,
         "--quiet", "--threads", str(arguments.threads), "--force", "--output", f"{folder}/{{index}}.png"], stdout=subprocess.DEVNULL)
    while not first.exists():
        assert process.poll() is None, "the command ended without a picture"
        time.sleep(0.002)
    before = spent(process.pid)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"the command ended with {status}"
    return used.ru_utime + used.ru_stime - before


class Server:
    """The studio, with somebody who listens."""

    def __init__(self, arguments, folder: str):
        self.arguments = arguments
        self.process = subprocess.Popen(
            [IMAGEN, "serve", "--port", "0", "--data", folder, "--threads", str(arguments.threads)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address = self.process.stdout.readline().strip().rstrip("/")
        self.previews = 0
        # seconds when the first picture of the job was there
        self.first = None
        self.ended = threading.Event()
        threading.Thread(target=self.listen, daemon=True).start()
        self.draw()

    def listen(self):
        """Takes what comes as a browser's network thread does: whoever reads on the same machine is not the server's cost."""
        host, port = self.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as stream:
            stream.sendall(f"GET /api/v1/events?client=bench HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            kept = b""
            while read := stream.recv(1 << 20):
                # what is found at the end of one part is not found again at the beginning of the next
                text = kept + read
                self.previews += text.count(b'"preview":{')
                if self.first is None and b"event: picture" in text:
                    self.first = spent(self.process.pid)
                if b"event: end" in text:
                    self.ended.set()
                kept = text[-9:]

    def ask(self, path: str, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Client": "bench", "Content-Type": "application/json"} if data else {"X-Client": "bench"}
        with urllib.request.urlopen(urllib.request.Request(self.address + path, data, headers)) as reply:
            return json.load(reply)

    def draw(self) -> float:
        """User and system seconds in which the server draws a job's pictures after the first one."""
        order = {"prompt": self.arguments.prompt, "seed": 1, "count": self.arguments.pictures + 1, "batch": 1, "until": self.arguments.until}
        self.first = None
        self.ended.clear()
        job = self.ask("/api/v1/jobs", order)
        self.ended.wait()
        time.sleep(0.1)
        used = spent(self.process.pid) - self.first
        job = self.ask(f"/api/v1/jobs/{job['id']}")
        assert job["state"] == "done", job
        return used


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
        command(arguments, folder)
        ratios, alone = [], []
        try:
            for k in range(arguments.rounds):
                if k % 2 == 0:
                    by_command, by_server = command(arguments, folder), server.draw()
                else:
                    by_server, by_command = server.draw(), command(arguments, folder)
                ratios.append(by_server / by_command)
                alone.append(by_command / arguments.pictures)
                print(f"round {k + 1}: {by_server:.2f} s served, {by_command:.2f} s alone, {ratios[-1]:.3f}", file=sys.stderr)
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
