"""Makes the golden file of this folder with pytorch-fid.

    python make.py        # needs torch, torchvision, pytorch-fid

inception.safetensors    pictures in bytes and the 2048 features that pytorch-fid's Inception makes of them

The network has 24 million weights, too many to keep here: they are a formula, which the test repeats. Number i of a
tensor is h/2^32 - 1/2 for h = (i + 1) * 2654435761 + crc32(name) modulo 2^32, mixed once by h ^= h >> 15, h *= 2246822519
modulo 2^32, h ^= h >> 13; times a spread, plus a middle.
"""

import zlib
from pathlib import Path

import numpy
import pytorch_fid.inception as fid
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent


def formula(name, shape):
    count = int(numpy.prod(shape))
    h = (numpy.arange(1, count + 1, dtype=numpy.uint64) * 2654435761 + zlib.crc32(name.encode())) & 0xFFFFFFFF
    h ^= h >> 15
    h = (h * 2246822519) & 0xFFFFFFFF
    h ^= h >> 13
    x = h.astype(numpy.float64) / 2**32 - 0.5
    if name.endswith("conv.weight"):
        spread, middle = 5.0 / numpy.sqrt(numpy.prod(shape[1:])), 0.0
    elif name.endswith("running_var"):
        spread, middle = 0.5, 1.0
    elif name.endswith("bn.weight"):
        spread, middle = 0.5, 1.0
    else:
        spread, middle = 0.4, 0.0
    return torch.tensor((x * spread + middle).astype(numpy.float32).reshape(shape))


def weights(*_, **__):
    model = fid._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    return {
        name: torch.zeros_like(v) if name.endswith("num_batches_tracked") else formula(name, tuple(v.shape))
        for name, v in model.state_dict().items()
    }


def main():
    torch.manual_seed(8)
    fid.load_state_dict_from_url = weights
    network = fid.InceptionV3([3]).eval()
    golden = {}
    for n, (high, wide) in enumerate([(64, 64), (40, 57), (299, 299)]):
        coarse = torch.rand(1, 3, high // 8 + 1, wide // 8 + 1)
        picture = torch.nn.functional.interpolate(coarse, size=(high, wide), mode="bilinear")
        golden[f"picture.{n}"] = (picture[0] * 255).round().byte().permute(1, 2, 0).contiguous()
        with torch.no_grad():
            features = network(golden[f"picture.{n}"].permute(2, 0, 1)[None].float() / 255)[0]
        golden[f"features.{n}"] = features.reshape(2048).contiguous()
        print(features.mean(), features.std(), features.max())
    save_file(golden, HERE / "inception.safetensors")


main()
