"""A guided step of DeepFloyd IF's networks here and in diffusers: same random weights, same threads, turn by turn.

    python bench/deepfloyd.py FOLDER [--rounds 3] [--threads 2] [--only I-M] [--program PATH]

FOLDER gets pipelines of the published shapes with random weights in f16, as they are published (1.7 GB), and one input with
diffusers' output of it. diffusers runs in f32, once as it is and once channels_last; the better one counts. Memory is the
peak of resident memory of a process that loads the network and runs steps. Needs torch, diffusers and safetensors; the
example `if_step` is built with `cargo build --release -p imagen --example if_step`. IF-II-M's configuration has never been
seen: its widths are the guess that comes nearest to its published number of parameters.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

COMMON = dict(
    out_channels=6, mid_block_type="UNetMidBlock2DSimpleCrossAttn", cross_attention_dim=768, attention_head_dim=64,
    act_fn="gelu", addition_embed_type="text", addition_embed_type_num_heads=64, encoder_hid_dim=4096,
    encoder_hid_dim_type="text_proj", cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift",
)
RESNET, ATTENTION = "Resnet{}sampleBlock2D", "SimpleCrossAttn{}Block2D"


def blocks(plain, attending):
    down = [RESNET.format("Down")] * plain + [ATTENTION.format("Down")] * attending
    up = [ATTENTION.format("Up")] * attending + [RESNET.format("Up")] * plain
    return dict(down_block_types=tuple(down), up_block_types=tuple(up))


SHAPES = {
    "I-M": dict(sample_size=64, in_channels=3, block_out_channels=(192, 384, 576, 768), layers_per_block=3,
                **blocks(1, 3), **COMMON),
    "II-M": dict(sample_size=256, in_channels=6, block_out_channels=(96, 192, 384, 576, 768),
                 layers_per_block=(2, 2, 3, 5, 5), class_embed_type="timestep", time_embedding_act_fn="gelu",
                 resnet_skip_time_act=True, resnet_out_scale_factor=1.4142271248762552,
                 mid_block_scale_factor=1.4142271248762552, **blocks(3, 2), **COMMON),
}


def make(folder, name):
    """Writes a pipeline's folder and its input, unless they are there."""
    import torch
    from diffusers import DDPMScheduler, IFPipeline, IFSuperResolutionPipeline, UNet2DConditionModel
    from safetensors.torch import save_file

    path = folder / name
    if (path / "input.safetensors").exists():
        return
    torch.manual_seed(1)
    unet = UNet2DConditionModel(**SHAPES[name]).eval().half()
    with torch.no_grad():
        for parameter, value in unet.named_parameters():
            if "norm" in parameter:
                value.add_(0.1 * torch.randn(value.shape))
    none = dict(tokenizer=None, text_encoder=None, safety_checker=None, feature_extractor=None, watermarker=None,
                requires_safety_checker=False)
    table = dict(beta_schedule="squaredcos_cap_v2")
    process = DDPMScheduler(variance_type="learned_range", thresholding=True, dynamic_thresholding_ratio=0.95,
                            sample_max_value=1.5 if name == "I-M" else 1.0, **table)
    if name == "I-M":
        pipeline = IFPipeline(unet=unet, scheduler=process, **none)
    else:
        noising = DDPMScheduler(**table)
        pipeline = IFSuperResolutionPipeline(unet=unet, scheduler=process, image_noising_scheduler=noising, **none)
    pipeline.save_pretrained(path)
    unet = unet.float()
    x, text, kwargs = inputs(name)
    with torch.no_grad():
        out = unet(x, 500, encoder_hidden_states=text, return_dict=False, **kwargs)[0]
    nhwc = lambda x: x.permute(0, 2, 3, 1).contiguous()
    save_file({"x": nhwc(x), "text": text, "out": nhwc(out)}, path / "input.safetensors")


def inputs(name):
    import torch

    generator = torch.Generator().manual_seed(2)
    shape = SHAPES[name]
    side = shape["sample_size"]
    x = torch.randn(2, shape["in_channels"], side, side, generator=generator)
    text = 0.1 * torch.randn(2, 77, 4096, generator=generator)
    return x, text, dict(class_labels=torch.tensor([250, 250])) if name == "II-M" else {}


def peer(folder, name, mode, steps, threads):
    """diffusers in this process: prints seconds of each step and the peak of memory."""
    import resource

    import torch
    from diffusers import UNet2DConditionModel

    torch.set_num_threads(threads)
    unet = UNet2DConditionModel.from_pretrained(folder / name, subfolder="unet", torch_dtype=torch.float32).eval()
    x, text, kwargs = inputs(name)
    if mode == "channels_last":
        unet, x = unet.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    times = []
    with torch.no_grad():
        for _ in range(steps):
            begun = time.perf_counter()
            unet(x, 500, encoder_hidden_states=text, return_dict=False, **kwargs)
            times.append(time.perf_counter() - begun)
    print(json.dumps({"seconds": times, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="steps of a turn; the first warms up")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=SHAPES)
    parser.add_argument("--program", default="target/release/examples/if_step")
    parser.add_argument("--make", action="store_true", help="only write the folders")
    parser.add_argument("--peer", nargs=2, metavar=("NAME", "MODE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(args.folder, *args.peer, args.steps, args.threads)
    names = [args.only] if args.only else list(SHAPES)
    for name in names:
        make(args.folder, name)
    if args.make:
        return
    for name in names:
        seconds, peaks = {}, {}
        for _ in range(args.rounds):
            for who in ["here", "eager", "channels_last"]:
                if who == "here":
                    command = [args.program, str(args.folder / name), "stored", str(args.steps), str(args.threads)]
                else:
                    command = [sys.executable, __file__, str(args.folder), "--steps", str(args.steps), "--threads",
                               str(args.threads), "--peer", name, who]
                out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                seconds.setdefault(who, []).extend(out["seconds"][1:])
                peaks[who] = max(peaks.get(who, 0), out["peak"])
                if who == "here":
                    error = out["error"]
        median = {who: statistics.median(times) for who, times in seconds.items()}
        best = min(["eager", "channels_last"], key=median.get)
        print(f"IF-{name}: here {median['here']:.2f} s, {peaks['here'] / 2**20:.0f} MiB; diffusers {best} {median[best]:.2f} s, "
              f"{peaks[best] / 2**20:.0f} MiB; ratio {median[best] / median['here']:.2f}, memory {peaks[best] / peaks['here']:.2f}; "
              f"relative error of the output {error:.1e}; all: {json.dumps(seconds)}", flush=True)


if __name__ == "__main__":
    main()
