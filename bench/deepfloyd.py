"""A guided step of DeepFloyd IF's networks here and in diffusers: same random weights, same threads, turn by turn.

    python bench/deepfloyd.py FOLDER [--rounds 3] [--threads 2] [--only I-M] [--program PATH]
    python bench/deepfloyd.py FOLDER --whole T5-FOLDER --program target/release/imagen

FOLDER gets pipelines of the published shapes with random weights in f16, as they are published (1.7 GB), and one input with
diffusers' output of it. diffusers runs in f32, once as it is and once channels_last, and in bfloat16; here, too, the same weights
are multiplied in f32 and in bfloat16. The better mode of f32 is compared with f32, the best
of all with the best here, and each result with diffusers' own in f32. Memory is the
peak of resident memory of a process that loads the network and runs steps. Needs torch, diffusers and safetensors; the
example `if_step` is built with `cargo build --release -p imagen --example if_step`. IF-II-M's configuration has never been
seen: its widths are the guess that comes nearest to its published number of parameters.

The second form measures the memory of whole runs: caption to 256x256 through a text encoder and both networks, two steps each.
T5-FOLDER is what the example `t5_memory` wrote (`xxl`, f16). There it is the two pipelines as diffusers' documentation loads them, in
bfloat16, the leanest that a CPU runs; here `imagen sample`, with the text encoder as it is stored and in int8.
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


MODES = ["eager", "channels_last", "bfloat16"]
HERE = {"here": "f32", "here bfloat16": "bf16"}
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
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if mode == "bfloat16" else torch.float32
    unet = UNet2DConditionModel.from_pretrained(folder / name, subfolder="unet", torch_dtype=dtype).eval()
    x, text, kwargs = inputs(name)
    x, text = x.to(dtype), text.to(dtype)
    if mode == "channels_last":
        unet, x = unet.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    times = []
    with torch.no_grad():
        for _ in range(steps):
            begun = time.perf_counter()
            out = unet(x, 500, encoder_hidden_states=text, return_dict=False, **kwargs)[0]
            times.append(time.perf_counter() - begun)
    expected = load_file(folder / name / "input.safetensors")["out"].permute(0, 3, 1, 2)
    error = ((out.float() - expected).norm() / expected.norm()).item()
    print(json.dumps({"seconds": times, "error": error, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def with_text(folder, text):
    """Gives the first pipeline a text encoder and its tokenizer."""
    one = folder / "I-M"
    for part, files in [("text_encoder", ["config.json", "model.safetensors"]), ("tokenizer", ["spiece.model"])]:
        (one / part).mkdir(exist_ok=True)
        for name in files:
            link = one / part / name
            link.unlink(missing_ok=True)
            link.symlink_to((text / name).resolve())
    (one / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    index = json.loads((one / "model_index.json").read_text())
    index |= {"text_encoder": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "T5Tokenizer"]}
    (one / "model_index.json").write_text(json.dumps(index))


PROMPT = "a photo of a corgi wearing a hat in san francisco"


def whole_peer(folder, threads):
    """A caption drawn by diffusers: prints the peak of memory."""
    import resource

    import torch
    from diffusers import IFPipeline, IFSuperResolutionPipeline

    torch.set_num_threads(threads)
    one = IFPipeline.from_pretrained(folder / "I-M", tokenizer=None, torch_dtype=torch.bfloat16)
    two = IFSuperResolutionPipeline.from_pretrained(folder / "II-M", text_encoder=None, torch_dtype=torch.bfloat16)
    with torch.no_grad():
        encode = lambda tokens: one.text_encoder(torch.full((1, 77), tokens))[0]
        text, nothing = encode(5), encode(0)
        text = dict(prompt_embeds=text, negative_prompt_embeds=nothing, num_inference_steps=2)
        image = one(**text, output_type="pt").images
        two(image=image, **text, output_type="pt")
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def whole(folder, text, program, threads):
    for name in SHAPES:
        make(folder, name)
    with_text(folder, text)
    peaks = {}
    for storage in ["stored", "int8"]:
        command = [program, "sample", "--model", folder / "I-M", "--model-2", folder / "II-M", "--steps", "2", "--no-text-cache",
                   "--force", "--threads", str(threads), "-q", "-o", folder / "whole.png", "--text-storage", storage, PROMPT]
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"{command} ended with {status}")
        peaks[f"here, T5 {storage}"] = usage.ru_maxrss * 1024
        print(f"here, T5 {storage}: peak {usage.ru_maxrss / 2**10:.0f} MiB", flush=True)
    command = [sys.executable, __file__, str(folder), "--threads", str(threads), "--whole-peer"]
    peaks["diffusers"] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)["peak"]
    for who, peak in peaks.items():
        print(f"{who}: peak {peak / 2**20:.0f} MiB, {peak / peaks['diffusers']:.2f} of diffusers'")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="steps of a turn; the first warms up")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=SHAPES)
    parser.add_argument("--program", default="target/release/examples/if_step")
    parser.add_argument("--make", action="store_true", help="only write the folders")
    parser.add_argument("--whole", type=pathlib.Path, metavar="T5-FOLDER", help="measure the memory of whole runs")
    parser.add_argument("--whole-peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peer", nargs=2, metavar=("NAME", "MODE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(args.folder, *args.peer, args.steps, args.threads)
    if args.whole_peer:
        return whole_peer(args.folder, args.threads)
    if args.whole:
        return whole(args.folder, args.whole, args.program, args.threads)
    names = [args.only] if args.only else list(SHAPES)
    for name in names:
        make(args.folder, name)
    if args.make:
        return
    for name in names:
        seconds, peaks, errors = {}, {}, {}
        for _ in range(args.rounds):
            for who in [*HERE, *MODES]:
                if who in HERE:
                    command = [args.program, str(args.folder / name), "stored", HERE[who], str(args.steps), str(args.threads)]
                else:
                    command = [sys.executable, __file__, str(args.folder), "--steps", str(args.steps), "--threads",
                               str(args.threads), "--peer", name, who]
                out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                seconds.setdefault(who, []).extend(out["seconds"][1:])
                peaks[who] = max(peaks.get(who, 0), out["peak"])
                errors[who] = out["error"]
        median = {who: statistics.median(times) for who, times in seconds.items()}
        exact, best = min(MODES[:2], key=median.get), min(MODES, key=median.get)
        for ours, mode in [("here", exact), (min(HERE, key=median.get), best)]:
            print(f"IF-{name}: {ours} {median[ours]:.2f} s, {peaks[ours] / 2**20:.0f} MiB, error {errors[ours]:.1e}; "
                  f"diffusers {mode} {median[mode]:.2f} s, {peaks[mode] / 2**20:.0f} MiB, error {errors[mode]:.1e}; "
                  f"ratio {median[mode] / median[ours]:.2f}, memory {peaks[ours] / peaks[mode]:.2f}")
        print(f"IF-{name}: all: {json.dumps(seconds)}", flush=True)


if __name__ == "__main__":
    main()
