"""Makes the golden steps of optax's Adafactor for train/optimizer.rs: `python make.py` writes optax.safetensors.

Twelve steps from the same parameters under the same gradients, in f64 from f32 numbers, rounded to f32 at the end.
Parameters: `vector` [7], `wide` [5, 6], `tall` [9, 4], `convolution` [3, 3, 4, 6], `narrow` [3, 3, 3, 6].

Tensors: `start.P`; `grad.P` [12, ...]; and `final.VARIANT.P`. Variants: `defaults` (optax.adafactor with its rate alone, with
which nothing as small as these is factored), `factored` (min_dim_size_to_factor=4: all but `vector` and `narrow`),
`unscaled` (that without multiply_by_parameter_scale). Header: "numbers", JSON.
"""

import json
import os

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
import optax
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = 12
SHAPES = {"vector": (7,), "wide": (5, 6), "tall": (9, 4), "convolution": (3, 3, 4, 6), "narrow": (3, 3, 3, 6)}
NUMBERS = dict(lr=0.02, min_dim_size_to_factor=4)

rng = np.random.default_rng(3000)
start = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}
# gradients of very different size in rows, columns and steps
grads = {
    name: (
        rng.standard_normal((STEPS, *shape))
        * rng.random((STEPS, *shape[:-1], 1)) ** 3
        * 10 ** np.linspace(-3, 1, STEPS).reshape(STEPS, *[1] * len(shape))
    ).astype(np.float32)
    for name, shape in SHAPES.items()
}

lr, smallest = NUMBERS["lr"], NUMBERS["min_dim_size_to_factor"]
VARIANTS = {
    "defaults": optax.adafactor(lr),
    "factored": optax.adafactor(lr, min_dim_size_to_factor=smallest),
    "unscaled": optax.adafactor(lr, min_dim_size_to_factor=smallest, multiply_by_parameter_scale=False),
}

if __name__ == "__main__":
    tensors = {f"start.{name}": p for name, p in start.items()} | {f"grad.{name}": g for name, g in grads.items()}
    for variant, optimizer in VARIANTS.items():
        parameters = {name: p.astype(np.float64) for name, p in start.items()}
        state = optimizer.init(parameters)
        for step in range(STEPS):
            updates, state = optimizer.update({name: g[step].astype(np.float64) for name, g in grads.items()}, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
        tensors |= {f"final.{variant}.{name}": np.asarray(p, dtype=np.float32) for name, p in parameters.items()}
    path = os.path.join(HERE, "optax.safetensors")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, metadata={"numbers": json.dumps(NUMBERS)})
    print(os.path.getsize(path), "bytes")
