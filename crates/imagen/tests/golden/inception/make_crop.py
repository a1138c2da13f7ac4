"""Makes `cropped.safetensors` of this folder: what pytorch-fid makes of the middles of the pictures in `inception.safetensors`.

    python make_crop.py        # after make.py; needs torch, torchvision, scipy, pillow, pytorch-fid (all with --no-deps)

The pictures are prepared as evaluations on COCO customarily do, with torchvision's Resize and CenterCrop: the shorter side
becomes 256 by Pillow's bicubic filter, then the square in the middle is cut out. Of these pytorch-fid's features
(`cropped.0`, ...) and the Frechet distance of the two sets (`frechet`) are kept.
"""

import importlib.util
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

HERE = Path(__file__).parent
SIDE = 256


def middle(picture):
    prepared = CenterCrop(SIDE)(Resize(SIDE, InterpolationMode.BICUBIC)(Image.fromarray(picture.numpy())))
    return torch.frombuffer(bytearray(prepared.tobytes()), dtype=torch.uint8).reshape(SIDE, SIDE, 3)


def main():
    made = importlib.util.spec_from_file_location("made", HERE / "make.py")
    make = importlib.util.module_from_spec(made)
    made.loader.exec_module(make)
    make.fid.load_state_dict_from_url = make.weights
    network = make.fid.InceptionV3([3]).eval()
    known = load_file(HERE / "inception.safetensors")
    golden = {}
    for n in range(3):
        golden[f"cropped.{n}"] = make.original(network, [middle(known[f"picture.{n}"])])[0]
    sets = [make.original(network, [middle(x) for x in known[f"set.{name}"]]) for name in "ab"]
    moments = lambda x: (make.numpy.mean(x, axis=0), make.numpy.cov(x, rowvar=False))
    distance = make.calculate_frechet_distance(*[m for x in sets for m in moments(x.double().numpy())])
    print(distance)
    golden["frechet"] = torch.tensor([distance], dtype=torch.float64)
    save_file(golden, HERE / "cropped.safetensors")


if __name__ == "__main__":
    main()
