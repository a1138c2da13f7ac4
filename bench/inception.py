"""Pictures per second through Inception-v3: `imagen eval stats` against pytorch-fid's network, taking turns.

    python bench/inception.py [--imagen PROGRAM] [--pictures 48] [--rounds 3] [--threads 2]
    python bench/inception.py --memory 500 2000

Needs torch, torchvision, safetensors, numpy, pillow and (with --no-deps) pytorch-fid. Weights are random, pictures are PNG of 256x256.
Both sides read and decode the pictures. The program is started anew in each round, once for few pictures and once for many:
the difference is what the further pictures take. Means of the features must agree within 1e-4. With --memory, the program's peak
memory for so many pictures.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import torch
from PIL import Image
from pytorch_fid import inception
from safetensors.numpy import load_file
from safetensors.torch import save_file

FEW = 8
BATCH = 8


def random_network():
    torch.manual_seed(1)
    network = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    state = network.state_dict()
    for name, x in state.items():
        if name.endswith("conv.weight"):
            x.copy_(torch.randn_like(x) * (2 / x[0].numel()) ** 0.5)
        elif name.endswith("running_var"):
            x.fill_(1.0)
    inception.load_state_dict_from_url = lambda *_, **__: state
    return inception.InceptionV3([3]).eval(), state


def make_pictures(folder, count):
    folder.mkdir()
    numbers = numpy.random.default_rng(2)
    for k in range(count):
        coarse = Image.fromarray(numbers.integers(0, 256, (16, 16, 3), dtype=numpy.uint8))
        coarse.resize((256, 256), Image.BICUBIC).save(folder / f"{k:05}.png")


def run_program(arguments, folder, output):
    """Seconds and peak memory in MB."""
    command = [arguments.imagen, "eval", "stats", folder, "--inception", folder.parent / "weights.safetensors",
               "-o", output, "--force", "-q", "--threads", str(arguments.threads)]
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{arguments.imagen} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def run_torch(network, files):
    """Seconds, and the mean of the features."""
    start, features = time.perf_counter(), []
    with torch.no_grad():
        for at in range(0, len(files), BATCH):
            pictures = [numpy.asarray(Image.open(file).convert("RGB")) for file in files[at : at + BATCH]]
            batch = torch.from_numpy(numpy.stack(pictures)).permute(0, 3, 1, 2).float() / 255
            features.append(network(batch)[0].flatten(1))
    return time.perf_counter() - start, torch.cat(features).double().mean(0).numpy()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--imagen", default=str(Path(__file__).parent.parent / "target/release/imagen"))
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", type=int, nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network, state = random_network()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = {name: x.contiguous() for name, x in state.items() if not name.startswith("fc.") and "num_batches" not in name}
        save_file(kept, folder / "weights.safetensors")
        if arguments.memory:
            for count in arguments.memory:
                make_pictures(folder / str(count), count)
                seconds, peak = run_program(arguments, folder / str(count), folder / "out.safetensors")
                print(f"{count} pictures: peak {peak:.0f} MB, {seconds:.0f} s")
            return
        make_pictures(folder / "few", FEW)
        make_pictures(folder / "many", FEW + arguments.pictures)
        files = sorted((folder / "many").iterdir())
        variants = {"NCHW": network, "channels last": network}
        ours, theirs = [], {name: [] for name in variants}
        for turn in range(arguments.rounds + 1):
            few, _ = run_program(arguments, folder / "few", folder / "few.safetensors")
            many, _ = run_program(arguments, folder / "many", folder / "many.safetensors")
            for name in variants:
                network.to(memory_format=torch.channels_last if name == "channels last" else torch.contiguous_format)
                seconds, mean = run_torch(network, files)
                if turn:
                    theirs[name].append(len(files) / seconds)
            if turn:
                ours.append(arguments.pictures / (many - few))
        found = load_file(folder / "many.safetensors")["mean"]
        difference = numpy.linalg.norm(found - mean) / numpy.linalg.norm(mean)
        print(f"means of the features differ by {difference:.1e}")
        if difference > 1e-4:
            raise SystemExit("they do not agree")
        rate = statistics.median(ours)
        print(f"imagen: {rate:.2f} pictures/s ({', '.join(f'{x:.2f}' for x in ours)})")
        for name, rates in theirs.items():
            other = statistics.median(rates)
            print(f"PyTorch, {name}: {other:.2f} pictures/s ({', '.join(f'{x:.2f}' for x in rates)}); ratio {rate / other:.2f}")


main()
