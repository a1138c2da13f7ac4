"""Tiny random models of imagen-pytorch, as its trainer leaves them, and what it computes with them.

Run from anywhere: `python make.py` (imagen-pytorch 2.1, torch 2.15). It writes, with `tools/pytorch_to_safetensors.py`:
`model.safetensors`, two stages and the settings in the header; `base.safetensors` and `sr.safetensors`, networks of other
options, their settings beside them in this file (`OTHERS`); and `golden.safetensors`: inputs, outputs of each network, and
of the model every random number that was drawn and each estimate of the clean picture ([n, h, w, c]); and
`inpaint.safetensors`: the same of a picture of which a part is kept, with the picture and what of it is drawn at each stage.
There each step is taken once, because the package goes back with noise of another size than the forward process adds
(`q_sample_from_to`).

The model's schedules run over the part of time where the log-SNR is above -20, as in this library, and are computed in
double precision (near t = 1 single leaves two digits of alpha); guidance is plain (`cfg_remove_parallel_component =
False`). Nothing else is changed.
"""

import contextlib
import importlib.machinery
import pathlib
import subprocess
import sys
import tempfile
import types
from unittest import mock

import torch

# data sets and augmentations are imported and not used
for name in ("datasets", "datasets.utils", "datasets.utils.file_utils", "kornia", "kornia.augmentation"):
    sys.modules[name] = mock.MagicMock(__spec__=importlib.machinery.ModuleSpec(name, None))
# the package asks for a text encoder's width while it is imported; none is needed
with mock.patch("transformers.T5Config.from_pretrained") as config:
    config.return_value.d_model = 768
    import imagen_pytorch
    from imagen_pytorch.configs import ImagenConfig
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
TOOL = HERE.parents[4] / "tools" / "pytorch_to_safetensors.py"
TEXT, TOKENS = 12, 5
OUT = {}

BASE = dict(
    dim=8, dim_mults=(1, 2), text_embed_dim=TEXT, cond_dim=10, attn_dim_head=4, attn_heads=2, max_text_len=16,
    num_resnet_blocks=(1, 2), layer_attns=(False, True), layer_cross_attns=(False, True), attn_pool_num_latents=6,
)
SR = dict(
    dim=8, dim_mults=(1, 2), text_embed_dim=TEXT, cond_dim=6, attn_dim_head=3, attn_heads=3, max_text_len=8,
    num_resnet_blocks=1, layer_attns=(False, True), layer_cross_attns=True, attn_pool_num_latents=4,
    memory_efficient=True,
)
# what the two above leave at its default
OTHERS = {
    "base": dict(
        dim=8, dim_mults=(1, 2, 2), text_embed_dim=TEXT, cond_dim=8, attn_dim_head=4, attn_heads=2, max_text_len=4,
        num_resnet_blocks=1, layer_attns=True, layer_attns_depth=(1, 1, 2), layer_mid_attns_depth=2, ff_mult=1.5,
        attend_at_middle=True, attn_pool_text=False, pixel_shuffle_upsample=False,
        init_cross_embed=False, scale_skip_connection=False, final_resnet_block=False, final_conv_kernel_size=1,
        combine_upsample_fmaps=True, num_time_tokens=3, learned_sinu_pos_emb_dim=6, channels=1,
    ),
    "sr": dict(
        dim=8, dim_mults=(1, 2), cond_on_text=False, text_embed_dim=None, attn_dim_head=4, attn_heads=2, max_text_len=4,
        lowres_cond=True, memory_efficient=True, layer_attns=False, layer_cross_attns=False, attend_at_middle=False,
        use_global_context_attn=False, init_conv_to_final_conv_residual=True, combine_upsample_fmaps=True,
        attn_pool_num_latents=3,
    ),
}
SIZES, STEPS = (16, 32), (5, 4)
GUIDANCE = dict(cond_scale=[3.0, 1.5], cfg_remove_parallel_component=False, use_tqdm=False)


def shaken(module):
    """Random numbers for what starts as zeros, ones or the same everywhere; all of them in half precision."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.ndim == 1 or name.endswith(("gamma", ".g")):
                value.add_(0.2 * torch.randn_like(value))
            elif not value.any():
                value.copy_(0.2 * torch.randn_like(value))
            value.copy_(value.half().float())
    return module.eval()


def last(x):
    return x.movedim(1, -1).contiguous()


def convert(checkpoint, name):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "checkpoint.pt"
        torch.save(checkpoint, path)
        subprocess.run([sys.executable, TOOL, path, HERE / name, "--f16"], check=True)


def network(name, unet, size, channels, text_tokens):
    n = 2
    x = torch.randn(n, channels, size, size)
    log_snr = torch.tensor([3.7, -1.9])
    inputs = dict(x=last(x), log_snr=log_snr)
    options = {}
    if unet.cond_on_text:
        text = torch.randn(n, text_tokens, TEXT)
        mask = torch.ones(n, text_tokens, dtype=torch.bool)
        mask[1, 2:] = False
        text[~mask] = 0.0
        options.update(text_embeds=text, text_mask=mask)
        inputs.update(text=text, mask=mask.float())
    if unet.lowres_cond:
        low = torch.randn(n, channels, size, size)
        options.update(lowres_cond_img=low, lowres_noise_times=torch.tensor([0.4, 2.5]))
        inputs.update(low=last(low), low_log_snr=torch.tensor([0.4, 2.5]))
    with torch.no_grad():
        inputs["y"] = last(unet(x, log_snr, **options))
        if unet.cond_on_text:
            inputs["y_null"] = last(unet(x, log_snr, cond_drop_prob=1.0, **options))
    OUT.update({f"{name}.{key}": value for key, value in inputs.items()})


def model():
    config = ImagenConfig(
        unets=[BASE, SR], image_sizes=SIZES, timesteps=STEPS, text_encoder_name="google/t5-v1_1-small",
        text_embed_dim=TEXT, pred_objectives=["noise", "v"], dynamic_thresholding=[True, False],
        noise_schedules=["cosine", "linear"], cond_drop_prob=0.1,
    )
    imagen = shaken(config.create())
    convert(
        {"model": imagen.state_dict(), "version": "2.1.0", "imagen_type": "original",
         "imagen_params": config.model_dump()},
        "model.safetensors",
    )
    for scheduler in imagen.noise_schedulers:
        scheduler.log_snr = limited(scheduler.log_snr)
    text = torch.randn(2, TOKENS, TEXT)
    text[1, 3:] = 0.0
    OUT["model.text"], OUT["model.mask"] = text, torch.any(text != 0.0, dim=-1).float()
    for i, unet in enumerate(imagen.unets):
        network(f"model.{i}", unet, SIZES[i], 3, TOKENS)
    with watched(imagen) as seen:
        imagen.sample(text_embeds=text, **GUIDANCE)
    # the base: z and one noise a step; the second stage: the enlarged picture's noise first
    assert len(seen.drawn) == 1 + STEPS[0] + 2 + STEPS[1]
    OUT["model.drawn.0"] = stacked(seen.drawn[: 1 + STEPS[0]])
    OUT["model.drawn.1"] = stacked(seen.drawn[1 + STEPS[0]:])
    for i, steps in enumerate(seen.stages):
        OUT[f"model.x_start.{i}"] = stacked(steps)
    return imagen


def stacked(pictures):
    return torch.stack([last(x) for x in pictures])


@contextlib.contextmanager
def watched(imagen):
    """What is drawn meanwhile: every random number, the estimates of each stage, its finished pictures."""
    seen = types.SimpleNamespace(drawn=[], stages=[], pictures=[])
    step, loop = imagen.p_sample, imagen.p_sample_loop

    def randn(shape, **_):
        seen.drawn.append(torch.empty(shape).normal_())
        return seen.drawn[-1]

    def p_sample(*args, **kwargs):
        x, x_start = step(*args, **kwargs)
        seen.stages[-1].append(x_start)
        return x, x_start

    def p_sample_loop(*args, **kwargs):
        seen.stages.append([])
        picture = loop(*args, **kwargs)
        seen.pictures.append(picture * 2 - 1)
        return picture

    with (
        mock.patch.object(imagen, "p_sample", p_sample),
        mock.patch.object(imagen, "p_sample_loop", p_sample_loop),
        mock.patch("torch.randn", randn),
        mock.patch("torch.randn_like", lambda x: randn(x.shape)),
    ):
        yield seen


def inpaint(imagen):
    torch.manual_seed(1)
    image = torch.rand(2, 3, 32, 32)
    keep = torch.zeros(2, 32, 32, dtype=torch.bool)
    keep[0, :, :14] = True
    keep[1, 6:20] = True
    with watched(imagen) as seen:
        imagen.sample(
            text_embeds=OUT["model.text"], inpaint_images=image, inpaint_masks=keep, inpaint_resample_times=1, **GUIDANCE
        )
    # the base: z, and for each step the kept part's noise and its own; before the second stage's the enlarged picture's
    base, out = 1 + 2 * STEPS[0], {}
    assert len(seen.drawn) == base + 1 + 1 + 2 * STEPS[1], len(seen.drawn)
    for i, noise in enumerate((seen.drawn[:base], seen.drawn[base:])):
        resized = torch.nn.functional.interpolate(image * 2 - 1, SIZES[i], mode="nearest")
        mask = torch.nn.functional.interpolate(keep[:, None].float(), SIZES[i], mode="nearest").bool()
        out[f"image.{i}"], out[f"drawn.{i}"] = last(resized), last((~mask).float())
        out[f"noise.{i}"], out[f"x_start.{i}"] = stacked(noise), stacked(seen.stages[i])
        out[f"picture.{i}"] = last(seen.pictures[i])
    save(out, "inpaint.safetensors")


def limited(log_snr):
    """The schedule over the times whose log-SNR is -20 or more."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        above = log_snr(torch.tensor(middle, dtype=torch.float64)) > -20
        low, high = (middle, high) if above else (low, middle)
    return lambda t: log_snr(t.double() * low).float()


def others():
    for name, options in OTHERS.items():
        unet = shaken(imagen_pytorch.Unet(**options))
        convert({"model": {f"unets.0.{key}": value for key, value in unet.state_dict().items()}}, f"{name}.safetensors")
        network(name, unet, 16, options.get("channels", 3), 7)


def save(tensors, name):
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, HERE / name)


torch.manual_seed(0)
imagen = model()
others()
save(OUT, "golden.safetensors")
inpaint(imagen)
