"""Writes resize.safetensors and alpha.safetensors: pictures resized by Pillow, for tests/it/image.rs.

    python make.py        (Pillow 13, numpy, safetensors)

Names are `{u8|f32}.{filter}.{width}x{height}`; the inputs are `u8.input` [h, w, 3] and `f32.input` [h, w, 1].
In alpha.safetensors they are `{la|rgba}.{filter}.{width}x{height}` and `{la|rgba}.input`.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

FILTERS = {"area": Image.Resampling.BOX, "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SIZES = [(10, 7), (16, 16), (29, 37), (29, 5), (50, 61), (64, 20)]

rng = np.random.default_rng(7)
height, width = 37, 29
rows, columns = np.mgrid[0:height, 0:width]
smooth = np.stack([columns * 8, rows * 6, (rows + columns) * 3], axis=-1)
picture = np.clip(smooth + rng.integers(-90, 90, (height, width, 3)), 0, 255).astype(np.uint8)
field = rng.standard_normal((height, width)).astype(np.float32)

tensors = {"u8.input": picture, "f32.input": field[..., None].copy()}
for name, resample in FILTERS.items():
    for size in SIZES:
        key = f"{name}.{size[0]}x{size[1]}"
        tensors[f"u8.{key}"] = np.asarray(Image.fromarray(picture).resize(size, resample)).copy()
        tensors[f"f32.{key}"] = np.asarray(Image.fromarray(field).resize(size, resample))[..., None].copy()
save_file(tensors, Path(__file__).with_name("resize.safetensors"))

# Opacity of every kind: a clear corner, a solid one, and all between.
opacity = np.clip(rng.integers(-60, 60, (height, width)) + columns * 14 - 90, 0, 255).astype(np.uint8)
tensors = {}
for mode, name, colours in [("LA", "la", picture[..., :1]), ("RGBA", "rgba", picture)]:
    source = np.concatenate([colours, opacity[..., None]], axis=-1)
    tensors[f"{name}.input"] = source
    for filter_name, resample in FILTERS.items():
        for size in SIZES[:2] + SIZES[4:5]:
            key = f"{name}.{filter_name}.{size[0]}x{size[1]}"
            image = Image.fromarray(source)
            assert image.mode == mode
            tensors[key] = np.asarray(image.resize(size, resample)).copy()
save_file(tensors, Path(__file__).with_name("alpha.safetensors"))
