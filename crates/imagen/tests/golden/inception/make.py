"""Makes the golden file of this folder with pytorch-fid.

    python make.py        # needs torch, torchvision, scipy, pytorch-fid, clean-fid, torch-fidelity (all with --no-deps)

inception.safetensors    pictures in bytes and the 2048 features that pytorch-fid's Inception makes of them, as resized by
                         itself (`original`) and by clean-fid (`clean`); two sets of pictures with their Frechet distance by
                         pytorch-fid, kernel distance, precision and recall by torch-fidelity, over the features of `original`

The network has 24 million weights, too many to keep here: they are a formula, which the test repeats. Number i of a
tensor is h/2^32 - 1/2 for h = (i + 1) * 2654435761 + crc32(name) modulo 2^32, mixed once by h ^= h >> 15, h *= 2246822519
modulo 2^32, h ^= h >> 13; times a spread, plus a middle.
"""

import zlib
from pathlib import Path

import cleanfid.resize
import numpy
import pytorch_fid.inception as fid
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from safetensors.torch import save_file
from torch_fidelity.metric_kid import kernel_poly, mmd2
from torch_fidelity.metric_prc import calculate_precision_recall_full

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


def picture(high, wide, coarse, shade):
    """Smooth colours, [h, w, 3] in bytes."""
    x = torch.rand(1, 3, high // coarse + 1, wide // coarse + 1)
    x = torch.nn.functional.interpolate(x, size=(high, wide), mode="bilinear")[0] * (1 - shade)
    return (x * 255).round().byte().permute(1, 2, 0).contiguous()


def original(network, pictures):
    with torch.no_grad():
        features = [network(x.permute(2, 0, 1)[None].float() / 255)[0] for x in pictures]
    return torch.cat(features).reshape(len(pictures), 2048).contiguous()


def clean(network, pictures):
    """As clean-fid feeds its network: resized without rounding, then (x - 128) / 128."""
    resize = cleanfid.resize.build_resizer("clean")
    network.resize_input = network.normalize_input = False
    with torch.no_grad():
        resized = [torch.from_numpy(resize(x.numpy())).permute(2, 0, 1)[None] for x in pictures]
        features = [network((x - 128) / 128)[0] for x in resized]
    network.resize_input = network.normalize_input = True
    return torch.cat(features).reshape(len(pictures), 2048).contiguous()


def distances(a, b):
    moments = lambda x: (numpy.mean(x, axis=0), numpy.cov(x, rowvar=False))
    a, b = a.double().numpy(), b.double().numpy()
    found = {"frechet": calculate_frechet_distance(*moments(a), *moments(b))}
    kernel = lambda x, y: kernel_poly(x, y, kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1)
    found["kid"] = mmd2(kernel(a, a), kernel(a, b), kernel(b, b))
    precision, recall = calculate_precision_recall_full(torch.from_numpy(a), torch.from_numpy(b))
    return found | {"precision": precision, "recall": recall}


def main():
    torch.manual_seed(8)
    fid.load_state_dict_from_url = weights
    network = fid.InceptionV3([3]).eval()
    golden = {}
    pictures = [picture(high, wide, 8, 0) for high, wide in [(64, 64), (40, 57), (320, 310)]]
    of = original(network, pictures), clean(network, pictures)
    for n, x in enumerate(pictures):
        golden |= {f"picture.{n}": x, f"original.{n}": of[0][n].clone(), f"clean.{n}": of[1][n].clone()}
    sets = {"a": [picture(16, 20, 4, 0) for _ in range(14)], "b": [picture(16, 20, 4, k / 28) for k in range(14)]}
    for name, pictures in sets.items():
        golden[f"set.{name}"] = torch.stack(pictures)
    found = distances(*[original(network, pictures) for pictures in sets.values()])
    print(found)
    golden |= {name: torch.tensor([x], dtype=torch.float64) for name, x in found.items()}
    save_file(golden, HERE / "inception.safetensors")


if __name__ == "__main__":
    main()
