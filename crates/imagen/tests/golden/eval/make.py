"""Writes eval.safetensors: features and distances by numpy, for tests/it/eval.rs.

    python make.py        (Pillow 13, numpy, safetensors)

`picture.{i}` [h, w, 3] u8 and `layout.{i}` [320] are pictures and their features `layout-1`; `{a,b}.{case}` [n, d] are
samples, `frechet.{case}` [1] their Frechet distance, `kid.{case}` [1] the unbiased squared MMD, both f64. The
Frechet distance takes another way than the program: the eigenvalues of the product of the covariances.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

COLOUR, GRADIENT, FLOOR = 10.0, 7.0, 0.02


def oklab(picture):
    c = picture.astype(np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    ).T
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    ).T


def halves(picture):
    """Colours [8, 8, 3] and normalised gradients [4, 4, 8], not yet weighted."""
    h, w, _ = picture.shape
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = Image.fromarray(picture[top : top + side, left : left + side])
    lab = oklab(np.asarray(square.resize((64, 64), Image.Resampling.BOX)))
    colours = lab.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) - [0.5, 0, 0]
    padded = np.pad(lab[..., 0], 1, mode="edge")
    gx = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    gy = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    magnitude = np.hypot(gx, gy)
    position = np.mod(np.arctan2(gy, gx), np.pi) / np.pi * 8
    low = np.floor(position)
    share = position - low
    histogram = np.zeros((4, 4, 8))
    rows, columns = np.mgrid[0:64, 0:64] // 16
    np.add.at(histogram, (rows, columns, low.astype(int) % 8), magnitude * (1 - share) / 256)
    np.add.at(histogram, (rows, columns, (low.astype(int) + 1) % 8), magnitude * share / 256)
    energy = (histogram**2).sum(axis=-1)
    gradients = np.empty_like(histogram)
    for y in range(4):
        for x in range(4):
            around = energy[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean()
            gradients[y, x] = histogram[y, x] / np.sqrt(around + FLOOR**2)
    return colours.ravel(), gradients.ravel()


def layout(picture):
    colours, gradients = halves(picture)
    return np.concatenate([COLOUR * colours, GRADIENT * gradients])


def frechet(a, b):
    (m, s), (n, t) = [(x.mean(axis=0), np.cov(x, rowvar=False)) for x in (a, b)]
    root = np.sqrt(np.maximum(np.linalg.eigvals(s @ t).real, 0)).sum()
    return ((m - n) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * root


def kid(a, b):
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    within = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    return within(kernel(a, a)) + within(kernel(b, b)) - 2 * kernel(a, b).mean()


def main():
    rng = np.random.default_rng(11)
    tensors = {}
    for i, (h, w) in enumerate([(64, 64), (37, 90), (256, 200)]):
        rows, columns = np.mgrid[0:h, 0:w]
        smooth = np.stack([columns * 255 / w, rows * 255 / h, 128 + 100 * np.sin(rows / 9 + columns / 5)], axis=-1)
        smooth[(rows - h / 2) ** 2 + (columns - w / 2) ** 2 < min(h, w) ** 2 / 16] = [230, 30 * i, 40]
        tensors[f"picture.{i}"] = np.clip(smooth + rng.integers(-9, 9, (h, w, 3)), 0, 255).astype(np.uint8)
        tensors[f"layout.{i}"] = layout(tensors[f"picture.{i}"]).astype(np.float32)
    for case, (n, m, d) in {"tall": (60, 45, 8), "wide": (9, 7, 24)}.items():
        mix = rng.standard_normal((d, d)) / np.sqrt(d)
        a = (rng.standard_normal((n, d)) @ mix).astype(np.float32)
        b = (rng.standard_normal((m, d)) * 1.3 + 0.4).astype(np.float32)
        tensors |= {f"a.{case}": a, f"b.{case}": b}
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        tensors[f"frechet.{case}"] = np.array([frechet(wide_a, wide_b)])
        tensors[f"kid.{case}"] = np.array([kid(wide_a, wide_b)])
    save_file(tensors, Path(__file__).with_name("eval.safetensors"))


if __name__ == "__main__":
    main()
