"""What imagen-pytorch makes of a picture of which a part is kept, with the model of `make.py`, which must have run.

Run from anywhere: `python make_inpaint.py` (imagen-pytorch 2.1, torch 2.15). It writes `inpaint.safetensors`: at each stage the
picture and what of it is drawn ([n, h, w, c]), every random number in the order in which it was drawn, each estimate of the
clean picture, and the finished picture. The changes to the package are those of `make.py`; each step is taken once, because
the package goes back with noise of another size than the forward process adds (`q_sample_from_to`).
"""

import importlib.machinery
import json
import pathlib
import struct
import sys
from unittest import mock

import torch

# data sets and augmentations are imported and not used
for name in ("datasets", "datasets.utils", "datasets.utils.file_utils", "kornia", "kornia.augmentation"):
    module = mock.MagicMock()
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules[name] = module
with mock.patch("transformers.T5Config.from_pretrained") as config:
    config.return_value.d_model = 768
    import imagen_pytorch
    from imagen_pytorch.configs import ImagenConfig
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
STEPS = (5, 4)


def last(x):
    return x.movedim(1, -1).contiguous()


def limited(log_snr):
    """The schedule over the times whose log-SNR is -20 or more."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        above = log_snr(torch.tensor(middle, dtype=torch.float64)) > -20
        low, high = (middle, high) if above else (low, middle)
    return lambda t: log_snr(t.double() * low).float()


file = (HERE / "model.safetensors").read_bytes()
header = json.loads(file[8 : 8 + struct.unpack("<Q", file[:8])[0]])
settings = json.loads(header["__metadata__"]["imagen.settings"])
imagen = ImagenConfig(**settings["parameters"]).create().eval()
state = {name: value.float() for name, value in load_file(HERE / "model.safetensors").items()}
missing = imagen.load_state_dict(state, strict=False)
assert not missing.unexpected_keys and all(not key.startswith("unets") for key in missing.missing_keys), missing
for scheduler in imagen.noise_schedulers:
    scheduler.log_snr = limited(scheduler.log_snr)

golden = load_file(HERE / "golden.safetensors")
text = golden["model.text"]
torch.manual_seed(1)
image = torch.rand(2, 3, 32, 32)
keep = torch.zeros(2, 32, 32, dtype=torch.bool)
keep[0, :, :14] = True
keep[1, 6:20] = True
out, stages, drawn, pictures = {}, [], [], []


def randn(shape, **_):
    drawn.append(torch.empty(shape).normal_())
    return drawn[-1]


step, loop = imagen.p_sample, imagen.p_sample_loop


def p_sample(*args, **kwargs):
    x, x_start = step(*args, **kwargs)
    stages[-1].append(x_start)
    return x, x_start


def p_sample_loop(*args, **kwargs):
    stages.append([])
    picture = loop(*args, **kwargs)
    pictures.append(picture * 2 - 1)
    return picture


imagen.p_sample, imagen.p_sample_loop = p_sample, p_sample_loop
with mock.patch("torch.randn", randn), mock.patch("torch.randn_like", lambda x: randn(x.shape)):
    imagen.sample(
        text_embeds=text, cond_scale=[3.0, 1.5], cfg_remove_parallel_component=False, use_tqdm=False,
        inpaint_images=image, inpaint_masks=keep, inpaint_resample_times=1,
    )
# the base: z, and for each step the kept part's noise and its own; before the second stage's the enlarged picture's
base = 1 + 2 * STEPS[0]
assert len(drawn) == base + 1 + 1 + 2 * STEPS[1], len(drawn)
for i, (noise, size) in enumerate([(drawn[:base], 16), (drawn[base:], 32)]):
    resized = torch.nn.functional.interpolate(image * 2 - 1, size, mode="nearest")
    mask = torch.nn.functional.interpolate(keep[:, None].float(), size, mode="nearest").bool()
    out[f"image.{i}"], out[f"drawn.{i}"] = last(resized), last((~mask).float())
    out[f"noise.{i}"] = torch.stack([last(x) for x in noise])
    out[f"x_start.{i}"] = torch.stack([last(x) for x in stages[i]])
    out[f"picture.{i}"] = last(pictures[i])
save_file({key: value.contiguous().clone() for key, value in out.items()}, HERE / "inpaint.safetensors")
