"""Makes the golden data of tests/it/unet.rs: `python make.py` writes one <case>.safetensors per case beside itself.

Each file holds a tiny network's parameters, inputs, output, the loss (the output's sum weighted by `loss_weight`) and the
gradient of the loss with respect to every parameter and to z; its header holds the configuration as JSON ("config").
Everything is computed in f64 from f32 numbers and rounded to f32 at the end. Pictures are stored as [n, h, w, c].
No normalisation works on single channels, where the biases before it would have a gradient of nothing but rounding.
Made with torch 2.15 on a CPU; another version changes the random numbers, not the meaning.
"""

import json
import os

import torch
from safetensors.torch import save_file

from unet import Unet, channels_last, exported, randomize

HERE = os.path.dirname(os.path.abspath(__file__))

DEFAULT = dict(
    layout="adm",
    image_channels=3,
    low_resolution=False,
    channels=8,
    embedding=12,
    text_dim=6,
    text_width=8,
    heads={"count": 2},
    attention_expansion=1,
    text_attention="concatenated",
    text_pooling="attention",
    skip_scale="none",
    skip_join="concatenate",
    groups=2,
)


def level(channels, blocks, picture=False, text=False):
    return dict(channels=channels, blocks=blocks, self_attention=picture, text_attention=text)


# name, (n, h, w), tokens of each text (None: no text is given) and the length to which they are padded, differences
CASES = [
    # F.1 in small: both kinds of keys in one softmax on the coarse level, text alone on the fine one
    (
        "adm_concatenated",
        (2, 4, 4),
        ([5, 2], 5),
        dict(levels=[level(4, 1, text=True), level(8, 1, picture=True, text=True)], channels=4, embedding=8, heads={"width": 4}),
    ),
    # a text network that is given no text
    (
        "adm_without_text",
        (1, 4, 4),
        (None, 0),
        dict(levels=[level(4, 1, text=True), level(4, 1, picture=True, text=True)], channels=4, text_width=6),
    ),
    # widths and sides that no vector register divides; an empty text
    (
        "adm_uneven_separate",
        (3, 6, 10),
        ([3, 0, 1], 3),
        dict(
            levels=[level(5, 1), level(6, 1, picture=True, text=True)],
            channels=6,
            embedding=10,
            text_dim=5,
            text_width=7,
            text_attention="separate",
            text_pooling="none",
            skip_scale="both",
            groups=3,
        ),
    ),
    # no text at all; three levels; attention of pixels alone
    (
        "adm_unconditional",
        (2, 8, 4),
        (None, 0),
        dict(
            levels=[level(4, 1), level(4, 1), level(6, 1, picture=True, text=True)],
            channels=4,
            embedding=8,
            text_dim=0,
            text_width=0,
            text_pooling="none",
            skip_scale="long",
        ),
    ),
    # F.2 in small; an empty text
    (
        "efficient_concatenated",
        (2, 8, 8),
        ([0, 7], 7),
        dict(
            levels=[level(4, 1), level(8, 2, picture=True, text=True)],
            layout="efficient",
            low_resolution=True,
            channels=4,
            attention_expansion=2,
            skip_scale="residual",
        ),
    ),
    # F.3 in small: attention to the text alone, an empty text, no square
    (
        "efficient_separate",
        (2, 8, 12),
        ([0, 3], 4),
        dict(
            levels=[level(4, 2), level(8, 1, text=True)],
            layout="efficient",
            low_resolution=True,
            channels=6,
            attention_expansion=2,
            text_attention="separate",
            text_pooling="mean",
            skip_scale="shortcut",
        ),
    ),
    # skips that are added; text that is only pooled (ablation A.13a); one channel
    (
        "efficient_added",
        (2, 8, 16),
        ([1, 4], 4),
        dict(
            levels=[level(4, 1), level(6, 1), level(8, 1, picture=True, text=True)],
            layout="efficient",
            image_channels=1,
            channels=4,
            embedding=8,
            text_attention="none",
            text_pooling="mean",
            skip_scale="none",
            skip_join="add",
        ),
    ),
    # whole vector registers and several tiles; one level
    (
        "efficient_wide",
        (1, 12, 12),
        ([9], 9),
        dict(
            levels=[level(16, 1, picture=True, text=True)],
            layout="efficient",
            channels=8,
            embedding=8,
            text_dim=8,
            text_width=8,
            skip_scale="long",
            groups=8,
        ),
    ),
    # residual blocks at the pictures' own resolution after the last up-sampling; a learned map; skips scaled and joined
    (
        "efficient_output_blocks",
        (2, 8, 8),
        ([3, 6], 6),
        dict(
            levels=[level(4, 1), {**level(8, 1, text=True), "position": 2}],
            layout="efficient",
            channels=4,
            embedding=8,
            text_attention="separate",
            skip_scale="both",
            output_blocks=2,
        ),
    ),
    # maps that the text draws at two levels, one narrow and one wider than the learned one beside it; an empty text
    (
        "efficient_text_maps",
        (3, 8, 8),
        ([4, 0, 2], 4),
        dict(
            levels=[{**level(4, 1), "position": 4, "text_map": 1}, {**level(8, 1), "position": 2, "text_map": 3}],
            layout="efficient",
            channels=4,
            embedding=8,
            text_width=4,
            skip_scale="residual",
        ),
    ),
]


def f32(x):
    return x.float().contiguous()


def make(seed, name, pictures, texts, differences):
    c = {**DEFAULT, **differences}
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator).double()

    n, height, width = pictures
    network = Unet(c).double()
    randomize(network, generator)
    z = normal(n, c["image_channels"], height, width).requires_grad_()
    weight = normal(n, c["image_channels"], height, width)
    inputs = dict(log_snr=3 * normal(n))
    tokens, padded = texts
    if tokens is not None:
        inputs["text"] = normal(n, padded, c["text_dim"])
        inputs["keep"] = torch.arange(padded)[None, :] < torch.tensor(tokens)[:, None]
    if c["low_resolution"]:
        inputs["low"] = normal(n, c["image_channels"], height, width)
        inputs["low_log_snr"] = 3 * normal(n)
    output = network(z, **inputs)
    loss = (output * weight).sum()
    loss.backward()

    tensors = {
        "z": f32(channels_last(z.detach())),
        "grad_z": f32(channels_last(z.grad)),
        "log_snr": inputs["log_snr"],
        "loss_weight": f32(channels_last(weight)),
        "output": f32(channels_last(output.detach())),
        "loss": loss.detach().reshape(1),
    }
    if tokens is not None:
        tensors |= {"text.sequence": f32(inputs["text"]), "text.mask": f32(inputs["keep"])}
    if c["low_resolution"]:
        tensors |= {"low.picture": f32(channels_last(inputs["low"])), "low.log_snr": inputs["low_log_snr"]}
    for parameter, p in network.named_parameters():
        tensors["param." + parameter] = f32(exported(p.detach()))
        tensors["grad." + parameter] = f32(exported(p.grad if p.grad is not None else torch.zeros_like(p)))
    path = os.path.join(HERE, name + ".safetensors")
    save_file(tensors, path, metadata={"config": json.dumps(c)})
    count = sum(p.numel() for p in network.parameters())
    print(f"{name}: {count} parameters, loss {loss.item():.6f}, |output| {output.norm().item():.3f}, "
          f"{os.path.getsize(path)} bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for index, (name, pictures, texts, differences) in enumerate(CASES):
        make(1000 + index, name, pictures, texts, differences)
