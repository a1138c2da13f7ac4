"""DDIM and DPM-Solver++(2M) of diffusers over the golden pipelines' networks.

Run after `make.py`: `python make_samplers.py` (diffusers 0.42, torch 2.15). It writes `samplers.safetensors`: of each run the
normal noise in the order in which it was drawn and the finished picture ([n, h, w, c]). Direction and noise of DDIM come from
the thresholded prediction (`use_clipped_model_output`), as in Imagen's figure A.31.
"""

import pathlib

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
TEXTS = load_file(HERE / "golden.safetensors")
OUT = {}


def nhwc(x):
    return x.permute(0, 2, 3, 1).contiguous().clone()


def draw(name, shape):
    noise = torch.randn(shape)
    OUT[f"{name}.noise.{sum(key.startswith(f'{name}.noise.') for key in OUT)}"] = nhwc(noise)
    return noise


def run(name, folder, cap, guidance, scheduler, timesteps, enlarge=None, **step):
    unet = UNet2DConditionModel.from_pretrained(HERE / folder / "unet").eval()
    common = dict(beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=cap)
    scheduler = scheduler(**common)
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        scheduler.set_timesteps(timesteps=timesteps)
    else:
        scheduler.set_timesteps(len(timesteps))
    assert [int(t) for t in scheduler.timesteps] == timesteps, scheduler.timesteps
    texts = torch.cat([TEXTS["negative_prompt_embeds"], TEXTS["prompt_embeds"]])
    side = unet.config.sample_size
    z, low, labels = draw(name, (2, 3, side, side)), None, None
    if enlarge is not None:
        low = torch.nn.functional.interpolate(enlarge, (side, side), mode="bilinear", align_corners=True)
        noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
        low = noising.add_noise(low, draw(name, low.shape), torch.tensor([250]))
        labels = torch.tensor([250] * 4)
    for t in scheduler.timesteps:
        both = torch.cat([z, z]) if low is None else torch.cat([torch.cat([z, low], 1)] * 2)
        empty, text = unet(both, t, encoder_hidden_states=texts, class_labels=labels, return_dict=False)[0].chunk(2)
        empty, text = empty[:, :3], text[:, :3]
        eps = empty + guidance * (text - empty)
        more = dict(step)
        if step.get("eta"):
            more["variance_noise"] = draw(name, z.shape) if t > 0 else torch.zeros_like(z)
        z = scheduler.step(eps, t, z, **more).prev_sample
    OUT[f"{name}.picture"] = nhwc(z)


torch.manual_seed(1)
with torch.no_grad():
    clipped = dict(use_clipped_model_output=True)
    steps = [830, 664, 498, 332, 166, 0]
    run("ddim", "one", 1.5, 7.0, DDIMScheduler, steps, **clipped)
    run("ddim-half", "one", 1.5, 7.0, DDIMScheduler, steps, eta=0.5, **clipped)
    run("dpm", "one", 1.5, 7.0, DPMSolverMultistepScheduler, steps)
    low = TEXTS["draw.picture"].permute(0, 3, 1, 2)
    run("ddim-large", "two", 1.0, 4.0, DDIMScheduler, [750, 500, 250, 0], enlarge=low, **clipped)
    run("dpm-large", "two", 1.0, 4.0, DPMSolverMultistepScheduler, [750, 500, 250, 0], enlarge=low)
save_file(OUT, HERE / "samplers.safetensors")
