"""Peak memory against what `imagen plan` estimates, for a table of commands.

    cargo build --release
    python3 bench/memory.py                 # prints the table; needs nothing but Python's standard library
    python3 bench/memory.py --only drawing

Each command runs in a process of its own; its peak is the largest resident set that the system saw (Linux, macOS). An
estimate is right where it lies between the peak and a quarter above it: less would let a machine run out of memory, more
would refuse what fits. The exit code is 1 where one does not.
"""

import argparse
import json
import os
import resource  # noqa: F401  (fails early where there is no such count)
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAM = str(HERE.parent / "target/release/imagen")

# What is drawn, with the flags that `plan` takes for it.
DRAWING = [
    (["-n1"], ["--batch", "1"]),
    (["-n1", "--until", "base"], ["--batch", "1", "--until", "base"]),
    (["-n16", "--batch", "16", "--until", "base"], ["--batch", "16", "--until", "base"]),
    (["-n64", "--batch", "64", "--until", "base"], ["--batch", "64", "--until", "base"]),
    (["-n4"], ["--batch", "4"]),
    (["-n16", "--batch", "16"], ["--batch", "16"]),
    (["-n1", "--until", "sr1024"], ["--batch", "1", "--until", "sr1024"]),
    (["-n3", "--batch", "3", "--until", "sr1024"], ["--batch", "3", "--until", "sr1024"]),
]

# Recipes with what is set over them; all on the small world of the tests or on shapes, for three steps and a save.
TRAINING = [
    ("recipes/world/base.toml", []),
    ("recipes/world/base.toml", ["train.batch=64"]),
    ("recipes/world/base.toml", ["train.batch=64", "train.checkpoint_blocks=true"]),
    ("recipes/world/base.toml", ["train.batch=64", "train.micro_batch=8"]),
    ("recipes/world/base.toml", ["train.batch=4"]),
    ("recipes/world/sr256.toml", []),
    ("recipes/world/base.toml", ["train.batch=8", "train.sample_every=2"]),
]


def peak(command, folder):
    """The peak of a command in bytes, and what it said where it failed."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{said}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def estimate(arguments, folder):
    out = subprocess.run([PROGRAM, "plan", *arguments, "--json"], cwd=folder, check=True, capture_output=True, text=True)
    return max(stage["bytes"] for stage in json.loads(out.stdout)["stages"])


def drawing(folder):
    for flags, plan in DRAWING:
        steps = ["--steps", "2"]
        command = [PROGRAM, "sample", "a red apple", "--seed", "1", "-q", "-f", "-o", "pictures/", *steps, *flags]
        yield "sample " + " ".join(flags), peak(command, folder), estimate(plan, folder)


def training(folder):
    world = HERE.parent / "crates/imagen/tests/golden/world"
    for number, (recipe, values) in enumerate(TRAINING):
        fixed = [f"data.folder={world}", "train.validate_every=0", "train.sample_every=0"]
        if recipe.endswith("base.toml"):
            fixed.append("stage.unet.things=8")  # those of the small world
        sets = [word for value in fixed + values for word in ("--set", value)]
        recipe_file = str(HERE.parent / recipe)
        command = [PROGRAM, "train", recipe_file, "--run", f"run{number}", "--steps", "3", "-q", *sets]
        name = "train " + " ".join([recipe.removeprefix("recipes/"), *values])
        yield name, peak(command, folder), estimate([recipe_file, *sets], folder)


def finetuning(folder):
    """As the first page has it: a recipe for a set, which begins with the built-in model and draws grids."""
    say = lambda *words: subprocess.run([PROGRAM, *words], cwd=folder, check=True, capture_output=True)
    say("data", "shapes", "shapes", "--count", "200", "--size", "64")
    say("recipe", "new", "--data", "shapes", "--from", "built-in", "-o", "mine.toml", "-q")
    for name, sets in (("fine-tuning", []), ("LoRA", ["--set", "train.lora.rank=8"])):
        sets = [*sets, "--set", "train.sample_every=2"]
        command = [PROGRAM, "train", "mine.toml", "--run", name, "--init-from", "built-in", "--steps", "4", "-q", *sets]
        yield f"train mine.toml, {name}", peak(command, folder), estimate(["mine.toml", *sets], folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["drawing", "training", "finetuning"])
    only = parser.parse_args().only
    print("| command | peak | estimate | estimate / peak |\n|---|---:|---:|---:|")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for kind, rows in (("drawing", drawing), ("training", training), ("finetuning", finetuning)):
            if only in (None, kind):
                for name, measured, estimated in rows(folder):
                    ratio = estimated / measured
                    wrong += not 1.0 <= ratio <= 1.25
                    mib = [f"{n / 2**20:.0f} MiB" for n in (measured, estimated)]
                    print(f"| `{name}` | {mib[0]} | {mib[1]} | {ratio:.2f} |", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
