#!/usr/bin/env python3
"""Held-out pictures with a hole, mended with each step taken once and several times: PSNR in the hole and at its rim.

    bench/mend.py DATA [--count 12] [--times 1,5] [--program target/release/imagen]

DATA is a folder of `recipes/fluent-emoji/prepare.mjs`; pictures of its validation split are taken in order, at the base's 64
pixels, with a square hole of 24 in the middle. The rim is the hole's outermost two pixels. `step` is the mean difference of two
pixels across the hole's edge, less that of the original: what is seen as a seam. Needs Pillow and numpy.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
from PIL import Image

SIDE, HOLE = 64, 24
parser = argparse.ArgumentParser()
parser.add_argument("data", type=pathlib.Path)
parser.add_argument("--count", type=int, default=12)
parser.add_argument("--times", default="1,5")
parser.add_argument("--program", default="target/release/imagen")
args = parser.parse_args()

lines = [json.loads(line) for line in (args.data / "metadata.jsonl").read_text().splitlines()]
held_out = [line for line in lines if line["split"] == "validation"][: args.count]
low, high = (SIDE - HOLE) // 2, (SIDE + HOLE) // 2
hole = np.zeros((SIDE, SIDE), bool)
hole[low:high, low:high] = True
rim = hole.copy()
rim[low + 2 : high - 2, low + 2 : high - 2] = False


def psnr(a, b, where):
    return 10 * np.log10(255**2 / max(np.mean((a[where] - b[where]) ** 2), 1e-9))


def edge(x):
    """Mean difference across the four sides of the hole."""
    inside = slice(low, high)
    pairs = [(x[inside, low - 1], x[inside, low]), (x[inside, high], x[inside, high - 1]),
             (x[low - 1, inside], x[low, inside]), (x[high, inside], x[high - 1, inside])]
    return np.mean([np.abs(a - b).mean() for a, b in pairs])


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    Image.fromarray((hole * 255).astype(np.uint8)).save(folder / "mask.png")
    for times in args.times.split(","):
        found = []
        for k, line in enumerate(held_out):
            original = Image.open(args.data / line["file_name"]).convert("RGB").resize((SIDE, SIDE), Image.BICUBIC)
            whole = np.asarray(original, float)
            blanked = whole.copy()
            blanked[hole] = 128
            Image.fromarray(blanked.astype(np.uint8)).save(folder / "holed.png")
            subprocess.run(
                [args.program, "sample", line["text"], "--image", folder / "holed.png", "--mask", folder / "mask.png",
                 "--resample", times, "--until", "base", "--seed", str(k), "-q", "-f", "-o", folder / "out.png"],
                check=True, stdout=subprocess.DEVNULL,
            )
            out = np.asarray(Image.open(folder / "out.png").convert("RGB"), float)
            assert (out[~hole] == blanked[~hole]).all(), "what stays is the picture"
            found.append([psnr(out, whole, hole), psnr(out, whole, rim), edge(out) - edge(whole)])
        mean, error = np.mean(found, 0), np.std(found, 0) / len(found) ** 0.5
        print(f"{times:>3} times: hole {mean[0]:.2f} ± {error[0]:.2f} dB, rim {mean[1]:.2f} ± {error[1]:.2f} dB, "
              f"step {mean[2]:.2f} ± {error[2]:.2f}")
