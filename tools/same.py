"""Two builds of the program, the same pictures?

    python3 tools/same.py OLD NEW

draws with both programs and compares: the built-in model with every sampler, several batches and seeds, and a picture
drawn again from an old one's settings; a model converted from imagen-pytorch; DeepFloyd IF's folders with both stages,
lists of timesteps and starting pictures (`tests/golden`); and a training that OLD began and NEW goes on with. Files must be
the same, or, where only what a PNG says of itself has changed, its pixels. Exit code 1 where any picture differs.
"""

import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "crates/imagen/tests/golden"


def pixels(png):
    """Everything of a PNG but its texts."""
    at, parts = 8, []
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at:at + 8])
        if kind in (b"IHDR", b"IDAT"):
            parts.append(png[at + 8:at + 8 + length])
        at += 12 + length
    return b"".join(parts)


def deepfloyd(folder):
    """The golden pipelines with a text encoder."""
    shutil.copytree(GOLDEN / "if/one", folder / "IF")
    shutil.copytree(GOLDEN / "if/two", folder / "II")
    for part, file in [("text_encoder", "config.json"), ("text_encoder", "model.safetensors"), ("tokenizer", "spiece.model")]:
        (folder / "IF" / part).mkdir(exist_ok=True)
        shutil.copy(GOLDEN / "t5/gated" / file, folder / "IF" / part / file)
    index = folder / "IF/model_index.json"
    value = json.loads(index.read_text())
    value["text_encoder"], value["tokenizer"] = ["transformers", "T5EncoderModel"], ["transformers", "T5Tokenizer"]
    index.write_text(json.dumps(value))


def narrow_encoder(folder, width=12):
    """The golden T5 with fewer numbers a token, for the golden model of imagen-pytorch."""
    source = GOLDEN / "t5/gated"
    folder.mkdir()
    shutil.copy(source / "spiece.model", folder)
    config = json.loads((source / "config.json").read_text())
    wide, config["d_model"] = config["d_model"], width
    (folder / "config.json").write_text(json.dumps(config))
    file = (source / "model.safetensors").read_bytes()
    length, = struct.unpack("<Q", file[:8])
    header, data = json.loads(file[8:8 + length]), file[8 + length:]
    out, body = {}, b""
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        shape, values = tensor["shape"], struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
        columns = shape[-1]
        rows = [values[i:i + columns] for i in range(0, len(values), columns)]
        if columns == wide:
            rows = [row[:width] for row in rows]
        if len(shape) == 2 and shape[0] == wide:
            rows = rows[:width]
        kept = [value for row in rows for value in row]
        shape = [width if side == wide else side for side in shape]
        out[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + 4 * len(kept)]}
        body += struct.pack(f"<{len(kept)}f", *kept)
    head = json.dumps(out).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + body)


def main():
    programs = [str(pathlib.Path(path).resolve()) for path in sys.argv[1:]]
    if len(programs) != 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        deepfloyd(folder)
        failed = 0

        def run(program, *arguments):
            done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{arguments}: {done.stderr}")

        def compare(name, *arguments, old=()):
            nonlocal failed
            for program, out, more in zip(programs, ("old", "new"), (old or arguments, arguments)):
                run(program, *more, "-q", "-o", f"{name}-{out}-{{index}}.png")
            files = sorted(folder.glob(f"{name}-old-*.png"))
            pairs = [(file.read_bytes(), (folder / file.name.replace("-old-", "-new-")).read_bytes()) for file in files]
            whole, equal = sum(a == b for a, b in pairs), sum(pixels(a) == pixels(b) for a, b in pairs)
            failed += equal < len(pairs)
            print(f"{name:<24} {len(pairs)} pictures: {whole} files and {equal} pictures are the same", flush=True)

        own = ["sample", "--steps", "4,3"]
        for sampler in ("ddpm", "ddpm:0.3", "ddim", "ddim:0.5", "dpm++2m"):
            compare(f"own-{sampler.replace(':', '-')}", *own, "a red apple", "a rocket", "--sampler", sampler, "-n", "3", "-s", "5", "--batch", "4")
        compare("own-batch-1", *own, "a red apple", "-n", "3", "-s", "9", "--batch", "1")
        compare("own-default", "sample", "an octopus", "-s", "7", "--until", "base")
        compare("own-dynamic", *own, "a key", "-s", "2", "--thresholding", "dynamic:0.9", "--guidance", "6,2")
        compare("own-again", "sample", "--params-from", "own-dynamic-old-0.png")

        narrow_encoder(folder / "encoder")
        run(programs[0], "models", "convert", str(GOLDEN / "imagen_pytorch/model.safetensors"), "--model", "converted",
            "--text-encoder", "encoder")
        compare("imagen-pytorch", "sample", "a red apple", "-m", "converted", "-n", "2", "-s", "1", "--steps", "6,5")

        two = ["sample", "a red apple", "-m", "IF", "--model-2", "II", "--no-text-cache", "-s", "3"]
        compare("if-steps", *two, "--steps", "4,3", "-n", "3", "--batch", "2")
        compare("if-lists", *two, "--timesteps", "fast27/2,1", "-n", "2")
        compare("if-noise", *two, "--steps", "5,4", "--noise-level", "37", "--guidance", "3,2")
        image = ["--image", "own-default-old-0.png"]
        compare("if-image", *two, *image, "--steps", "6,5", "--strength", "0.6")
        compare("if-mask", *two, *image, "--mask", "own-dynamic-old-0.png", "--steps", "6,5")

        run(programs[0], "data", "shapes", "shapes", "--count", "200", "--size", "32")
        recipe = str(GOLDEN.parents[3] / "recipes/shapes/base.toml")
        settings = ["--set", "data.folder=shapes", "--set", "train.steps=6", "--set", "train.validate_every=0",
                    "--set", "train.sample_every=3", "--set", "train.checkpoint_every=3"]
        run(programs[0], "train", recipe, "--run", "whole", *settings, "-q")
        run(programs[0], "train", recipe, "--run", "half", *settings, "--steps", "3", "-q")
        run(programs[1], "train", recipe, "--run", "half", *settings, "--resume", "-q")
        # the header tells of two stretches of training where there were two
        weights = lambda file: file[8 + struct.unpack("<Q", file[:8])[0]:]
        for name, part in (("base.safetensors", weights), ("samples/0000006.png", bytes)):
            same = part((folder / "whole" / name).read_bytes()) == part((folder / "half" / name).read_bytes())
            failed += not same
            print(f"resumed run, {name}: {'the same' if same else 'DIFFERENT'}")
        sys.exit(1 if failed else 0)


main()
