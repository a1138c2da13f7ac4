"""The PyTorch side of `bench/run`: one process, one mode, works that are loaded and run when a line on stdin says so.

The networks are those of crates/imagen/tests/golden/unet/unet.py, the project's U-Nets written a second time. That file is
written to be compared with, so what PyTorch can do faster is done faster here: scaled_dot_product_attention, no masks where
there is no padding, in-place activations without gradients, native pixel shuffling, fused Adam. Weights and inputs come
from `imagen bench --dump`, and so do the results that this side must agree with.

Lines in and out are JSON: {"load": FILE, "kind": "forward" | "train" | operation} -> {"ready", "difference"};
{"turn": SECONDS} -> {"ms"}; {"end": true} -> {"peak_memory_bytes"}. {"compare": [FILE, FILE], "kind"} -> {"difference"} of
the results of two dumps.

A mode `bf16_…` computes in bfloat16 as a user has it: under `torch.autocast`, with weights and their averages in f32;
operations, which autocast may not know, on operands in bfloat16. With `--device` all of it happens on a GPU, otherwise in f32
without TF32, and times end when the GPU is done.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import time

import numpy
import torch
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../crates/imagen/tests/golden/unet"))
import unet  # noqa: E402
from works import MODES  # noqa: E402


DEVICE = torch.device("cpu")


def autocast(bf16):
    """What is computed in fewer bits."""
    return torch.autocast(DEVICE.type, torch.bfloat16) if bf16 else contextlib.nullcontext()


def finished():
    """Waits until a GPU has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)
    elif DEVICE.type == "mps":
        torch.mps.synchronize()


class Dump:
    """A safetensors file of f32, read tensor by tensor: a mapped file would count as this process's memory."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.start = 8 + int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(self.start - 8))
        self.metadata = header.pop("__metadata__", {})
        self.entries = header

    def __contains__(self, name):
        return name in self.entries

    def __getitem__(self, name):
        entry = self.entries[name]
        begin, end = entry["data_offsets"]
        values = numpy.fromfile(self.path, "<f4", (end - begin) // 4, offset=self.start + begin)
        return torch.from_numpy(values.reshape(entry["shape"])).to(DEVICE)


def attend(query, key, value, heads):
    """[b, t, heads*d] each; every key takes part."""
    query, key, value = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class Fast:
    """Forward passes for the classes of `unet`, for texts without padding."""

    @staticmethod
    def pool(self, text, keep):
        text = self.norm(text)
        mean = text.mean(dim=1)
        pooled = mean
        if self.q is not None:
            key, value = self.kv(text).chunk(2, dim=-1)
            pooled = mean + attend(self.q(mean)[:, None], key, value, self.heads)[:, 0]
        return self.projection(self.pooled_norm(pooled))

    @staticmethod
    def block(self, x, embedding):
        free = not torch.is_grad_enabled()
        h = self.conv1(self.resample(F.silu(self.norm1(x), inplace=free)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        h = self.conv2(F.silu(h, inplace=free))
        x = self.shortcut(self.resample(x))
        if self.skip_scale == "shortcut":
            return torch.add(h, x, alpha=unet.HALF)
        h = h.add_(x) if free else h + x
        if self.skip_scale in ("residual", "both"):
            h = h.mul_(unet.HALF) if free else h * unet.HALF
        return h

    @staticmethod
    def attention(self, x, text, keep):
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        rows = []
        if self.text_kv is not None and text is not None:
            rows.append(self.text_kv(self.text_norm(text)))
        if self.kv is not None:
            rows.append(self.kv(pixels))
        if not rows:
            return x
        key, value = (rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)).chunk(2, dim=-1)
        found = self.out(attend(self.q(pixels), key, value, self.heads))
        return x + found.transpose(1, 2).unflatten(2, x.shape[2:])

    @staticmethod
    def up(self, x, embedding, text, keep, skips):
        for i, (block, layers) in enumerate(zip(self.blocks, self.attention)):
            if i < self.joins:
                skip = skips.pop()
                skip = skip if self.scale == 1.0 else skip * self.scale
                x = x + skip if self.add else torch.cat([x, skip], dim=1)
            x = block(x, embedding)
            for layer in layers:
                x = layer(x, text, keep)
        if self.up_last is not None:
            x = F.pixel_shuffle(F.conv2d(x, self.up_last.weight[:, :, None, None], self.up_last.bias), 2)
        return x if self.up_block is None else self.up_block(x, embedding)


unet.TextPool.forward = Fast.pool
unet.ResnetBlock.forward = Fast.block
unet.Attention.forward = Fast.attention
unet.Up.forward = Fast.up


def imported(name, values):
    """A parameter from the crate's axes to PyTorch's; rows of sub-pixel matrices in the order of pixel_shuffle."""
    if values.dim() == 4:
        values = values.permute(3, 2, 0, 1)
    elif values.dim() == 2:
        values = values.t()
    if ".up_last." in name:
        values = values.unflatten(0, (4, -1)).transpose(0, 1).flatten(0, 1)
    return values


def network(dump, memory_format):
    with torch.device("meta"):
        net = unet.Unet(json.loads(dump.metadata["unet"]))
    net.to_empty(device=DEVICE)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(imported(name, dump["param." + name]).reshape(p.shape))
    return net.to(memory_format=memory_format)


def nchw(values, memory_format):
    return values.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)


def difference(found, expected):
    """The relative distance, L2."""
    return ((found - expected).double().norm() / expected.double().norm()).item()


def inputs(dump, memory_format):
    found = dict(z=nchw(dump["z"], memory_format), log_snr=dump["log_snr"])
    if "text" in dump:
        found["text"] = dump["text"]
    if "low" in dump:
        found |= dict(low=nchw(dump["low"], memory_format), low_log_snr=dump["low_log_snr"])
    return found


def forward(dump, memory_format, compiled, bf16):
    net, given = network(dump, memory_format).requires_grad_(False), inputs(dump, memory_format)
    run = torch.compile(net) if compiled else net

    def step():
        with torch.no_grad() if compiled else torch.inference_mode(), autocast(bf16):
            return run(**given)

    step()
    return step, difference(step().float().permute(0, 2, 3, 1), dump["output"])


def train(dump, memory_format, compiled, bf16):
    net, given = network(dump, memory_format), inputs(dump, memory_format)
    target = nchw(dump["target"], memory_format)
    parameters = list(net.parameters())
    average = [p.detach().clone() for p in parameters]
    adam = torch.optim.Adam(parameters, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, fused=True)
    run = torch.compile(net) if compiled else net

    def step():
        adam.zero_grad(set_to_none=True)
        with autocast(bf16):
            loss = F.mse_loss(run(**given).float(), target)
        loss.backward()
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - 0.999)
        return loss.item()

    return step, difference(torch.tensor([step() for _ in range(3)]), dump["losses"].cpu())


def convolution(kind, dump, memory_format, dtype):
    x, gy = (nchw(dump[name], memory_format).to(dtype) for name in ("x", "gy"))
    weight = dump["w"].permute(3, 2, 0, 1).contiguous(memory_format=memory_format).to(dtype)
    bias = dump["b"].to(dtype)

    def backward(wanted):
        shape = [bias.numel()]
        return torch.ops.aten.convolution_backward(gy, x, weight, shape, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted)

    step, expected, axes = {
        "conv3x3": (lambda: F.conv2d(x, weight, bias, padding=1), "y", (0, 2, 3, 1)),
        "conv3x3-grad-input": (lambda: backward([True, False, False])[0], "gx", (0, 2, 3, 1)),
        "conv3x3-grad-weight": (lambda: backward([False, True, True])[1], "gw", (2, 3, 1, 0)),
    }[kind]

    def without_gradients():
        with torch.inference_mode():
            return step()

    return without_gradients, difference(without_gradients().float().permute(axes), dump[expected])


def attention(kind, dump, heads, dtype):
    def split(x):
        return x.unflatten(2, (heads, -1)).transpose(1, 2).contiguous().to(dtype)

    key, value = (split(x) for x in dump["w"].chunk(2, dim=-1))
    query, gy = split(dump["x"]), split(dump["gy"])
    if kind == "attention":

        def step():
            with torch.inference_mode():
                return F.scaled_dot_product_attention(query, key, value)

        return step, difference(step().float().transpose(1, 2).flatten(2), dump["y"])
    given = [x.requires_grad_() for x in (query, key, value)]

    def step():
        for x in given:
            x.grad = None
        F.scaled_dot_product_attention(query, key, value).backward(gy)

    step()
    gradients = [x.grad.float().transpose(1, 2).flatten(2) for x in given]
    return step, max(difference(gradients[0], dump["gx"]), difference(torch.cat(gradients[1:], dim=-1), dump["gw"]))


def load(request, mode):
    dump, kind = Dump(request["load"]), request["kind"]
    bf16, mode = mode.startswith("bf16_"), mode.removeprefix("bf16_")
    memory_format = torch.contiguous_format if mode == "eager" else torch.channels_last
    dtype = torch.bfloat16 if bf16 else torch.float32
    if kind == "forward":
        return forward(dump, memory_format, mode == "compile", bf16)
    if kind == "train":
        return train(dump, memory_format, mode == "compile", bf16)
    if kind.startswith("attention"):
        return attention(kind, dump, request["heads"], dtype)
    return convolution(kind, dump, memory_format, dtype)


def compare(request):
    """How far apart the results of two dumps are; of several the farthest."""
    first, second = map(Dump, request["compare"])
    names = {"forward": ["output"], "train": ["losses"], "conv3x3-grad-input": ["gx"], "conv3x3-grad-weight": ["gw"],
             "attention-train": ["gx", "gw"]}.get(request["kind"], ["y"])
    return max(difference(second[name], first[name]) for name in names)


def turn(step, seconds):
    times, start = [], time.perf_counter()
    while not times or time.perf_counter() - start < seconds:
        begun = time.perf_counter()
        step()
        finished()
        times.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(times)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mode", choices=MODES, required=True)
    arguments.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or mps")
    arguments.add_argument("--threads", type=int, required=True)
    arguments = arguments.parse_args()
    global DEVICE
    DEVICE = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    torch.set_num_interop_threads(1)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else prints must not disturb the answers
    step = None
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            step = None
            try:
                step, distance = load(request, arguments.mode)
                answer = dict(ready=True, difference=distance)
            except Exception as problem:  # noqa: BLE001 - torch.compile fails in many ways; the table says so
                answer = dict(problem=f"{type(problem).__name__}: {str(problem).splitlines()[0][:200]}")
        elif "compare" in request:
            answer = dict(difference=compare(request))
        elif "turn" in request:
            answer = dict(ms=turn(step, request["turn"]))
        else:
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if DEVICE.type == "cuda":
                peak = torch.cuda.max_memory_reserved(DEVICE)
            answer = dict(peak_memory_bytes=peak)
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
