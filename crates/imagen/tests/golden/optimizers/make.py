"""Makes the golden steps of the optimizers for train/optimizer.rs: `python make.py` writes optimizers.safetensors.

Twelve steps of each optimizer from the same parameters under the same gradients, computed in f64 from f32 numbers and
rounded to f32 at the end. Parameters: `vector` [7], `matrix` [5, 6], `convolution` [3, 3, 4, 6].

Tensors: `start.P`; `grad.P` [12, ...]; and `final.VARIANT.P`. Variants: `adam`, `adamw` (torch.optim); `relative`
(torch.optim.Adafactor, whose rate is a share of the parameter's root mean square); `absolute` and `momentum`
(transformers' Adafactor with scale_parameter=False, relative_step=False, the latter with beta1 = 0.9).
Header: "numbers", JSON.
"""

import json
import os

import torch
from safetensors.torch import save_file
from transformers.optimization import Adafactor

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = 12
SHAPES = {"vector": (7,), "matrix": (5, 6), "convolution": (3, 3, 4, 6)}
NUMBERS = dict(lr=0.02, beta1=0.9, beta2=0.95, weight_decay=0.1)

generator = torch.Generator().manual_seed(3000)
start = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
# gradients of very different size in rows, columns and steps
grads = {
    name: torch.randn((STEPS, *shape), generator=generator)
    * torch.rand((STEPS, *shape[:-1], 1), generator=generator).pow(3)
    * 10 ** torch.linspace(-3, 1, STEPS).reshape(STEPS, *[1] * len(shape))
    for name, shape in SHAPES.items()
}

lr, beta1, beta2, decay = NUMBERS["lr"], NUMBERS["beta1"], NUMBERS["beta2"], NUMBERS["weight_decay"]
absolute = dict(lr=lr, scale_parameter=False, relative_step=False, warmup_init=False)
VARIANTS = {
    "adam": lambda p: torch.optim.Adam(p, lr=lr, betas=(beta1, beta2)),
    "adamw": lambda p: torch.optim.AdamW(p, lr=lr, betas=(beta1, beta2), weight_decay=decay),
    "relative": lambda p: torch.optim.Adafactor(p, lr=lr, weight_decay=decay),
    "absolute": lambda p: Adafactor(p, weight_decay=decay, **absolute),
    "momentum": lambda p: Adafactor(p, beta1=beta1, **absolute),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    tensors = {f"start.{name}": p for name, p in start.items()} | {f"grad.{name}": g for name, g in grads.items()}
    for variant, make in VARIANTS.items():
        parameters = {name: torch.nn.Parameter(p.double()) for name, p in start.items()}
        optimizer = make(list(parameters.values()))
        for step in range(STEPS):
            for name, p in parameters.items():
                p.grad = grads[name][step].double()
            optimizer.step()
        tensors |= {f"final.{variant}.{name}": p.detach().float() for name, p in parameters.items()}
    path = os.path.join(HERE, "optimizers.safetensors")
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"numbers": json.dumps(NUMBERS)})
    print(os.path.getsize(path), "bytes")
