#!/usr/bin/env python3
"""Held-out pictures that were measured and restored: PSNR and SSIM of both methods beside simple ones.

    bench/restore.py DATA [--count 64] [--program target/release/imagen] [--operators blur:2,superres:4]

DATA is a folder of `recipes/fluent-emoji/prepare.mjs`; pictures of its validation split are taken in order, at the base's 64
pixels. Beside `imagen restore` stand the pseudo-inverse of what was measured, interpolation (bicubic for block means,
biharmonic for pixels), total variation (the x with the least |Mx − y|² + λ TV(x), by Adam, with the best λ of four on the
first pictures), and the model's plain denoiser, asked once. Needs Pillow, numpy, scikit-image and PyTorch.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.restoration import inpaint_biharmonic

SIDE = 64
parser = argparse.ArgumentParser()
parser.add_argument("data", type=pathlib.Path)
parser.add_argument("--count", type=int, default=64)
parser.add_argument("--program", default="target/release/imagen")
parser.add_argument("--operators", default="blur:2,superres:4,random-pixels:0.1,spectral:0.1,grey,inpaint")
args = parser.parse_args()

lines = [json.loads(line) for line in (args.data / "metadata.jsonl").read_text().splitlines()]
held_out = [line for line in lines if line["split"] == "validation"][: args.count]


def cosines(n):
    k, x = torch.arange(n)[:, None], torch.arange(n)[None]
    c = torch.cos(torch.pi * (x + 0.5) * k / n) * (2 / n) ** 0.5
    c[0] /= 2**0.5
    return c


C = cosines(SIDE)


def filtered(x, gains):
    return torch.einsum("ki,lj,kl,klc->ijc", C, C, gains, torch.einsum("ki,lj,ijc->klc", C, C, x))


def measurement(operator, known):
    """M as a function of pictures [64, 64, 3]."""
    name, _, setting = operator.partition(":")
    frequency = torch.arange(SIDE) / SIDE
    if name == "blur":
        gain = torch.exp(-0.5 * (float(setting) * torch.pi * frequency) ** 2)
        return lambda x: filtered(x, gain[:, None] * gain[None])
    if name == "spectral":
        radius = (frequency[:, None] ** 2 + frequency[None] ** 2).flatten()
        gains = torch.zeros(SIDE * SIDE)
        gains[torch.argsort(radius, stable=True)[: round(SIDE * SIDE * float(setting))]] = 1
        return lambda x: filtered(x, gains.reshape(SIDE, SIDE))
    if name == "superres":
        k = int(setting)
        return lambda x: x.reshape(SIDE // k, k, SIDE // k, k, 3).mean((1, 3))
    if name == "grey":
        return lambda x: x @ torch.tensor([0.299, 0.587, 0.114])
    return lambda x: x[known]


def total_variation(measure, y, weight):
    x = torch.zeros(SIDE, SIDE, 3, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        down, right = x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1]
        variation = (down.square() + right.square() + 1e-6).sqrt().sum()
        ((measure(x) - y).square().sum() + weight * variation).backward()
        optimizer.step()
    return x.detach().clamp(-1, 1).numpy()


def scores(whole, found):
    return (peak_signal_noise_ratio(whole, found, data_range=2),
            structural_similarity(whole, found, data_range=2, channel_axis=2))


def read(path):
    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 127.5 - 1


def restored(folder, operator, *flags):
    command = [args.program, "restore", str(folder / "whole.png"), "--simulate", "--operator", operator, "-q", "--force",
               "-o", str(folder / "out.png"), "--measured", str(folder / "measured.png"), *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return read(folder / "out.png")


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    hole = np.zeros((SIDE, SIDE), np.uint8)
    hole[20:44, 20:44] = 255
    Image.fromarray(hole).save(folder / "mask.png")
    print("| measured | method | PSNR, dB | SSIM |\n|---|---|---:|---:|")
    for operator in args.operators.split(","):
        flag = f"inpaint:{folder / 'mask.png'}" if operator == "inpaint" else operator
        rows, best = {}, None
        for number, line in enumerate(held_out):
            original = Image.open(args.data / line["file_name"]).convert("RGB").resize((SIDE, SIDE), Image.BICUBIC)
            original.save(folder / "whole.png")
            whole = read(folder / "whole.png")
            found = {"ascent": restored(folder, flag), "guided": restored(folder, flag, "--method", "guided"),
                     "ascent, with its caption": restored(folder, flag, "--prompt", line["text"]),
                     "the denoiser, once": restored(folder, flag, "--steps", "1")}
            found["pseudo-inverse"] = read(folder / "measured.png")
            # what is known is where the pseudo-inverse is not the middle grey
            known = torch.from_numpy(hole == 0) if operator == "inpaint" else torch.from_numpy(
                np.abs(found["pseudo-inverse"]).max(2) > 0.01)
            measure = measurement(operator, known)
            y = measure(torch.from_numpy(whole))
            if best is None:
                tried = {w: scores(whole, total_variation(measure, y, w))[0] for w in (0.003, 0.01, 0.03, 0.1)}
                best = max(tried, key=tried.get)
            found["total variation"] = total_variation(measure, y, best)
            if operator.startswith("superres"):
                small = Image.fromarray(((y.numpy() + 1) * 127.5).round().astype(np.uint8))
                found["bicubic"] = np.asarray(small.resize((SIDE, SIDE), Image.BICUBIC), np.float32) / 127.5 - 1
            if operator == "inpaint" or operator.startswith("random"):
                found["biharmonic"] = inpaint_biharmonic(np.where(known[..., None], whole, 0), ~known.numpy(), channel_axis=2)
            for method, picture in found.items():
                rows.setdefault(method, []).append(scores(whole, np.asarray(picture, np.float32).clip(-1, 1)))
        for method, values in rows.items():
            psnr, ssim = np.mean(values, 0)
            print(f"| {operator} | {method} | {psnr:.2f} | {ssim:.3f} |", flush=True)
