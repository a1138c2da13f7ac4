"""Turns a PyTorch checkpoint into safetensors, which this program reads; it never reads pickle itself.

    python tools/pytorch_to_safetensors.py CHECKPOINT OUT.safetensors [--take KEY] [--f16]

CHECKPOINT is a `.pt`, `.pth`, `.ckpt` or `.bin` file: a state dict, or a dictionary that holds one, as training programs
leave it (`model`, `state_dict`, `ema`, ... ; `--take` says which, `a.b` goes deeper). imagen-pytorch's checkpoints are
known by their names: of several weights the moving averages are taken where there are any, and the settings go into the
header, so that `imagen models convert` knows what they are.

The file is read with `weights_only`, which builds tensors and plain containers and runs no code of the file. Tensors that
share memory are written once each; what is no tensor of numbers is left out and listed. Next:

  a text encoder (T5, BERT, RoBERTa, CLIP)   OUT is its model.safetensors, beside config.json and the tokenizer
  a network of DeepFloyd IF                  OUT is unet/diffusion_pytorch_model.safetensors
  a U-Net of this program's own layout       imagen models convert OUT --recipe RECIPE --model FOLDER
  imagen-pytorch                             imagen models convert OUT --model FOLDER --text-encoder T5

Needs torch and safetensors. Tested with torch 2.15 and imagen-pytorch 2.1.
"""

import argparse
import json
import sys

import torch
from safetensors.torch import save_file

NESTED = ["ema_state_dict", "state_dict", "model", "module", "ema"]


def is_state(value):
    """Whether something is a dictionary of tensors, but for a few other things."""
    if not isinstance(value, dict) or not value:
        return False
    return sum(isinstance(v, torch.Tensor) for v in value.values()) > len(value) / 2


def find(checkpoint, take):
    """The state dict, and by which name it was found."""
    if take:
        for key in take.split("."):
            if not isinstance(checkpoint, dict) or key not in checkpoint:
                sys.exit(f"there is no {key!r}; the file has {', '.join(map(str, list(checkpoint)[:20]))}")
            checkpoint = checkpoint[key]
        return checkpoint, take
    if is_state(checkpoint):
        return checkpoint, "the file itself"
    if isinstance(checkpoint, dict):
        found = [key for key in NESTED if is_state(checkpoint.get(key))]
        if found:
            return checkpoint[found[0]], found[0]
    sys.exit("this holds no state dict; name one with --take")


def plain(value):
    """What JSON can hold of settings."""
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def steps(value):
    """How often each U-Net was trained."""
    return value.tolist() if isinstance(value, torch.Tensor) else None


def averaged(state):
    """imagen-pytorch's moving averages (`0.ema_model.*`) under the names of the weights (`unets.0.*`)."""
    names = {name: name.replace(".ema_model.", ".", 1) for name in state if ".ema_model." in name}
    return {f"unets.{new}": state[name] for name, new in names.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--take", help="the state dict's place in the file")
    parser.add_argument("--f16", action="store_true", help="write floating-point numbers in half precision")
    args = parser.parse_args()
    checkpoint = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    header = {"format": "pt"}
    lucidrains = isinstance(checkpoint, dict) and isinstance(checkpoint.get("model"), dict) and any(
        name.startswith("unets.") for name in checkpoint["model"]
    )
    if lucidrains and not args.take:
        state, where = checkpoint["model"], "model"
        ema = averaged(checkpoint.get("ema") or {})
        if ema:
            state, where = {**state, **ema}, "model, its U-Nets from ema"
        header["imagen.source"] = "imagen-pytorch"
        header["imagen.settings"] = json.dumps(plain({
            "version": checkpoint.get("version"), "type": checkpoint.get("imagen_type"),
            "parameters": checkpoint.get("imagen_params"), "steps": steps(checkpoint.get("steps")),
        }))
    else:
        state, where = find(checkpoint, args.take)
        header["imagen.source"] = "pytorch"
    tensors, left = {}, []
    for name, value in state.items():
        known = isinstance(value, torch.Tensor) and value.numel() > 0 and not value.is_complex() and value.layout == torch.strided
        if not known:
            left.append(str(name))
            continue
        value = value.detach()
        if args.f16 and value.is_floating_point():
            value = value.half()
        # a copy of its own: safetensors refuses tensors that share memory
        tensors[str(name).removeprefix("module.")] = value.contiguous().clone()
    if not tensors:
        sys.exit("the state dict holds no tensors")
    save_file(tensors, args.out, metadata=header)
    print(f"{len(tensors)} tensors from {where} to {args.out}")
    for name in left:
        print(f"left out: {name}")


if __name__ == "__main__":
    main()
