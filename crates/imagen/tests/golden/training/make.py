"""Makes the golden training of tests/it/train.rs: `python make.py` writes training.safetensors beside itself.

Ten steps of Adam on a tiny base network that predicts eps (plain squared error, mean over all numbers), with warm-up,
clipping of the gradient norm and a moving average of the weights. Nothing is drawn while training: pictures `x`, noise
`eps`, `log_snr`, text and learning rates of every step are in the file, first axis = step. Computed in f64 from f32
numbers; every result is rounded to f32, but losses and norms.

Tensors: `x`, `eps`, `z` [10, n, h, w, 3]; `log_snr` [10, n] (f64); `text.sequence` [10, n, t, d] (some dropped: zeros),
`text.mask` [10, n, t]; `lr`, `loss`, `grad_norm` (before clipping) [10] (f64); and by parameter: `param.*` before the
first step, `grad.*` of the first step before clipping, `final.*` after the last step, `ema.*` the average after it.
Header: "config", JSON {unet, train {beta1, beta2, eps, clip_norm, ema_decay}}. The average's decay at step s = 1.. is
min(ema_decay, (1 + s)/(10 + s)).

The network has no parameter whose gradient vanishes identically (a key bias of plain attention, a bias before a
normalisation of single channels): Adam would turn its rounding errors into steps of full size.
"""

import json
import os
import sys

import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "unet"))

from unet import Unet, channels_last, exported, randomize  # noqa: E402

STEPS, N, SIDE, TOKENS = 10, 2, 8, 4

CONFIG = dict(
    layout="adm",
    image_channels=3,
    low_resolution=False,
    channels=4,
    embedding=8,
    text_dim=6,
    text_width=6,
    levels=[
        dict(channels=4, blocks=1, self_attention=False, text_attention=False),
        dict(channels=4, blocks=1, self_attention=True, text_attention=True),
    ],
    heads={"count": 2},
    attention_expansion=1,
    text_attention="concatenated",
    text_pooling="mean",
    skip_scale="none",
    skip_join="concatenate",
    groups=2,
)
TRAIN = dict(beta1=0.9, beta2=0.999, eps=1e-8, clip_norm=1.0, ema_decay=0.3)


def train(dtype):
    """The run in this precision: its inputs and its results."""
    generator = torch.Generator().manual_seed(2000)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    network = Unet(CONFIG)
    randomize(network, generator)
    network = network.to(dtype)
    x = normal(STEPS, N, 3, SIDE, SIDE).clamp(-1, 1)
    eps = normal(STEPS, N, 3, SIDE, SIDE)
    log_snr = 3 * normal(STEPS, N).double()
    text = normal(STEPS, N, TOKENS, CONFIG["text_dim"])
    text[::3, 1] = 0
    keep = torch.arange(TOKENS) < torch.tensor([[TOKENS], [2]])  # [n, t]
    lr = torch.tensor([2e-3 * min(1, (s + 1) / 4) for s in range(STEPS)], dtype=torch.float64)
    shape = (STEPS, N, 1, 1, 1)
    alpha, sigma = torch.sigmoid(log_snr).sqrt().reshape(shape), torch.sigmoid(-log_snr).sqrt().reshape(shape)
    z = (alpha * x + sigma * eps).float()

    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    ema = {name: p.detach().clone() for name, p in network.named_parameters()}
    adam = torch.optim.Adam(network.parameters(), betas=(TRAIN["beta1"], TRAIN["beta2"]), eps=TRAIN["eps"])
    losses, norms, first = [], [], None
    for s in range(STEPS):
        adam.param_groups[0]["lr"] = lr[s].item()
        adam.zero_grad()
        prediction = network(z[s].to(dtype), log_snr[s].to(dtype), text[s].to(dtype), keep)
        loss = torch.nn.functional.mse_loss(prediction, eps[s].to(dtype))
        loss.backward()
        if first is None:
            first = {name: p.grad.clone() for name, p in network.named_parameters()}
        norm = torch.sqrt(sum(p.grad.square().sum() for p in network.parameters()))
        for p in network.parameters():
            p.grad *= min(1.0, TRAIN["clip_norm"] / norm.item())
        adam.step()
        decay = min(TRAIN["ema_decay"], (2 + s) / (11 + s))
        for name, p in network.named_parameters():
            ema[name] = ema[name] * decay + p.detach() * (1 - decay)
        losses.append(loss.item())
        norms.append(norm.item())

    final = {name: p.detach() for name, p in network.named_parameters()}
    inputs = {
        "x": x.permute(0, 1, 3, 4, 2),
        "eps": eps.permute(0, 1, 3, 4, 2),
        "z": z.permute(0, 1, 3, 4, 2),
        "text.sequence": text,
        "text.mask": keep.float().expand(STEPS, N, TOKENS),
    }
    parameters = {"param": start, "grad": first, "final": final, "ema": ema}
    tensors = {name: value.float().contiguous() for name, value in inputs.items()}
    for kind, values in parameters.items():
        tensors |= {f"{kind}.{name}": exported(value).float().contiguous() for name, value in values.items()}
    tensors |= {"log_snr": log_snr, "lr": lr}
    tensors |= {name: torch.tensor(v, dtype=torch.float64) for name, v in [("loss", losses), ("grad_norm", norms)]}
    return tensors


def distance(a, b):
    return ((a - b).double().norm() / b.double().norm()).item()


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    exact, single = train(torch.float64), train(torch.float32)
    path = os.path.join(HERE, "training.safetensors")
    save_file(exact, path, metadata={"config": json.dumps(dict(unet=CONFIG, train=TRAIN))})
    print("loss", [f"{v:.5f}" for v in exact["loss"].tolist()])
    print("norm", [f"{v:.3f}" for v in exact["grad_norm"].tolist()])
    print(f"{os.path.getsize(path)} bytes; what PyTorch itself loses in f32 (relative, worst tensor):")
    for kind in ["loss", "grad_norm", "grad.", "final.", "ema."]:
        names = [name for name in exact if name.startswith(kind)]
        worst = max(names, key=lambda name: distance(single[name], exact[name]))
        print(f"  {kind} {distance(single[worst], exact[worst]):.2e} ({worst})")
    moved = [n[6:] for n in exact if n.startswith("final.")]
    change = lambda run, n: run["final." + n] - run["param." + n]  # noqa: E731
    worst = max(moved, key=lambda n: distance(change(single, n), change(exact, n)))
    print(f"  final - param {distance(change(single, worst), change(exact, worst)):.2e} ({worst})")
