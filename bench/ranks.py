#!/usr/bin/env python3
"""One training on many ranks, tried from outside: the same bits with any number of them, and no saved step lost to a kill.

    cargo build --release -p imagen-cli --features mpi      # needs Open MPI or MPICH with headers, and libclang
    bench/ranks.py same              # 200 steps with 1, 2, 3, 4 and 8 ranks: states compared, shares of time printed
    bench/ranks.py kill 100          # kills a random rank 100 times, resumes with another number of ranks each time

Needs nothing but Python. Ranks share this machine's cores: times say what share the exchange has, not how it scales.
"""

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGEN = Path(os.environ.get("IMAGEN", ROOT / "target/release/imagen"))

# that of the tests, trained longer
RECIPE = (ROOT / "crates/imagen/tests/tiny.toml").read_text().split("[train]")[0] + """[train]
steps = STEPS
batch = 16
micro_batch = 2
lr = 1e-3
warmup = 10
ema_decay = 0.99
clip_norm = 1.0
checkpoint_every = EVERY
validate_every = 100
sample_every = 0
log_every = 10
"""


def command(ranks, run, *more):
    train = [IMAGEN, "train", "recipe.toml", "--run", run, "--threads", "1", *more]
    if ranks == 1:
        return train
    # a container is root, and a test has more ranks than cores
    launcher = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)]
    return [*launcher, *train]


def environment():
    """Without what an outer mpirun or srun would say of this process."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI", "SLURM_"))}


def header(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        head = json.loads(file.read(length))
        size = max(t["data_offsets"][1] for name, t in head.items() if name != "__metadata__")
        return head, 8 + length, size


def step_of(path):
    """The step of a state that is whole, or -1 where there is none yet."""
    if not path.exists():
        return -1
    head, start, size = header(path)
    assert path.stat().st_size == start + size, f"{path} is cut off"
    return int(head["__metadata__"]["imagen.step"])


def farthest(one, other):
    """The largest difference of two states' weights."""
    (head, start, _), (_, other_start, _) = header(one), header(other)
    left, right = one.read_bytes(), other.read_bytes()
    far = 0.0
    for name, tensor in head.items():
        if name.startswith("w."):
            begin, end = tensor["data_offsets"]
            values = struct.iter_unpack("<f", left[start + begin : start + end])
            others = struct.iter_unpack("<f", right[other_start + begin : other_start + end])
            far = max(far, max(abs(a - b) for (a,), (b,) in zip(values, others)))
    return far


def begin(folder, steps, every):
    subprocess.run([IMAGEN, "data", "shapes", "data", "--count", "400", "--size", "16"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (folder / "recipe.toml").write_text(RECIPE.replace("STEPS", str(steps)).replace("EVERY", str(every)))


def same(folder):
    begin(folder, 200, 100)
    print(f"{'ranks':>5} {'seconds':>8} {'exchange':>9} {'waiting':>8}  state after 200 steps")
    for ranks in [1, 2, 3, 4, 8]:
        run, begun = f"run-{ranks}", time.monotonic()
        subprocess.run(command(ranks, run, "-q"), cwd=folder, check=True, env=environment(), stdout=subprocess.DEVNULL)
        took = time.monotonic() - begun
        lines = [json.loads(line) for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        lines = [line for line in lines if line["kind"] == "train"]
        seconds = sum(line["seconds"] for line in lines)
        share = [sum(line.get(key) or 0 for line in lines) / seconds for key in ("exchange_seconds", "waiting_seconds")]
        one, this = folder / "run-1/state.safetensors", folder / run / "state.safetensors"
        equal = one.read_bytes() == this.read_bytes()
        verdict = "the same, byte for byte" if equal else f"another; weights differ by up to {farthest(one, this):.2e}"
        print(f"{ranks:5} {took:8.1f} {share[0]:9.1%} {share[1]:8.1%}  {verdict}", flush=True)
        assert equal, "any number of ranks is to give the bits of one"


def ranks_below(pid):
    """The processes that mpirun started, by rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                variables = dict(v.split("=", 1) for v in (entry / "environ").read_text().split("\0") if "=" in v)
                found[int(variables["OMPI_COMM_WORLD_RANK"])] = int(entry.name)
        except (OSError, KeyError, ValueError):
            continue
    return found


def kill(folder, kills):
    steps = 10 * kills + 100
    begin(folder, steps, 5)
    state = folder / "run/state.safetensors"
    ends, silent = [], 0
    for number in range(kills):
        ranks, before = random.choice([2, 3, 4]), step_of(state)
        resume = ["--resume"] if before >= 0 else []
        job = subprocess.Popen(
            command(ranks, "run", *resume), cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        # at any moment, the start included; each other time once something new was saved, and a little later
        deadline = time.monotonic() + (60 if number % 2 == 0 else random.uniform(0.3, 6))
        while time.monotonic() < deadline and job.poll() is None:
            time.sleep(0.02)
            if number % 2 == 0 and step_of(state) > before:
                time.sleep(random.uniform(0, 0.5))
                break
        processes = ranks_below(job.pid)
        if job.poll() is not None or not processes:
            assert step_of(state) >= steps or not processes, job.stderr.read().decode()
            print(f"{number}: the job was not there to be killed")
            job.kill() if job.poll() is None else None
            job.wait()
            continue
        saved = step_of(state)
        victim = random.choice(sorted(processes))
        os.kill(processes[victim], signal.SIGKILL)
        begun = time.monotonic()
        said = job.communicate(timeout=60)[1].decode()
        ends.append(time.monotonic() - begun)
        assert job.returncode != 0, "a job that lost a rank is no success"
        if f"rank {victim}" not in said:
            silent += 1
        after = step_of(state)
        assert after >= saved >= before, f"step {saved} was saved and {after} is there"
        print(f"{number}: {ranks} ranks, killed {victim} at step {saved}, ended after {ends[-1]:.2f} s", flush=True)
    subprocess.run(command(1, "run", "--resume", "-q"), cwd=folder, check=True, env=environment())
    subprocess.run(command(1, "whole", "-q"), cwd=folder, check=True, env=environment())
    whole = (folder / "whole/state.safetensors").read_bytes() == state.read_bytes()
    print(f"{len(ends)} kills, the job ended after {max(ends):.2f} s at most; {silent} without the rank's name")
    print("the run equals one that was never stopped" if whole else "the run is another than one that was never stopped")
    assert whole and silent == 0


def main():
    folder = Path(tempfile.mkdtemp(prefix="imagen-ranks-"))
    try:
        match sys.argv[1:]:
            case ["same"]:
                same(folder)
            case ["kill", kills]:
                kill(folder, int(kills))
            case _:
                sys.exit(__doc__)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
