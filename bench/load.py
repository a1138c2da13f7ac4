"""Whether the machine does something else, from /proc: a process of the lowest priority is enough to spoil a measurement, the
more so for whoever spins while it waits.
"""

import os
import time

# the share of all cores that others may take
MOST = 0.03
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def busy_seconds():
    """Seconds of work of all cores since the start, of whatever priority; None where there is no /proc."""
    words = read("/proc/stat").splitlines()[:1]
    if not words:
        return None
    user, nice, system, _idle, _wait, irq, soft, steal, *_ = map(int, words[0].split()[1:])
    return (user + nice + system + irq + soft + steal) / TICK


def tree_seconds(pid):
    """Seconds of work of a process, its threads, and its children, as far as they live or were waited for."""
    text = read(f"/proc/{pid}/stat")
    if not text:
        return 0.0
    fields = text.rsplit(")", 1)[1].split()
    total = sum(map(int, fields[11:15])) / TICK
    for task in os.listdir(f"/proc/{pid}/task"):
        total += sum(tree_seconds(child) for child in read(f"/proc/{pid}/task/{task}/children").split())
    return total


class Watch:
    """What others do while some processes are measured."""

    def __init__(self, pids):
        self.pids = [*pids, os.getpid()]
        self.begun, self.before = time.perf_counter(), self.now()

    def now(self):
        busy = busy_seconds()
        # what a process has waited for is counted with it: this one's children are those that are measured
        return None if busy is None else busy - sum(map(own_seconds, self.pids[-1:])) - sum(map(tree_seconds, self.pids[:-1]))

    def share(self):
        """The share of all cores that others took since the start."""
        now = self.now()
        if now is None:
            return 0.0
        return max(now - self.before, 0.0) / ((time.perf_counter() - self.begun) * (os.cpu_count() or 1))


def own_seconds(pid):
    """Seconds of work of a process without its children."""
    text = read(f"/proc/{pid}/stat")
    return sum(map(int, text.rsplit(")", 1)[1].split()[11:13])) / TICK if text else 0.0


def others(seconds=2.0):
    """The share of all cores that other processes take, over some seconds."""
    watch = Watch([])
    time.sleep(seconds)
    return watch.share()


def describe(share):
    """Who it is, as far as it can be seen."""

    def spent():
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) != os.getpid():
                found[pid] = own_seconds(pid)
        return found

    before = spent()
    time.sleep(1)
    after = spent()
    most = sorted(after, key=lambda pid: before.get(pid, after[pid]) - after[pid])[:3]
    names = [read(f"/proc/{pid}/comm").strip() for pid in most if after[pid] - before.get(pid, after[pid]) > 0.02]
    return f"the machine does something else: {share:.0%} of its cores are taken ({', '.join(names) or 'by what cannot be seen'})"
