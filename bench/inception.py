"""Pictures a second through the features of FID, here and in pytorch-fid: same pictures, same random weights, same threads, turn by turn.

    python bench/inception.py FOLDER [--pictures 1000] [--rounds 3] [--threads 2] [--modes "as it is,channels_last"]
        [--program target/release/imagen]

FOLDER gets pictures of 256x256 (drawn by `imagen data shapes`), random weights and the statistics of each turn. Here it is the
whole process of `imagen eval stats`: reading weights and PNGs, resizing, the network, means and covariances. There it is what
pytorch-fid does for `--save-stats`, without the start of Python and the loading of weights: PNGs by Pillow in two worker processes, the
network as it is and channels_last, the better one counts, batches of 50, its default. Means and covariances of both must agree. Memory is the peak of
resident memory, measured here for a tenth of the pictures too. Needs torch, torchvision, pytorch-fid and safetensors.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

MODES = ["as it is", "channels_last"]


def make(folder, program, pictures):
    """Weights that keep activations within range, and pictures, unless they are there."""
    import torch
    from safetensors.torch import save_file

    weights = folder / "inception.safetensors"
    if not weights.exists():
        torch.manual_seed(5)
        state = network({}).state_dict()
        for name, tensor in state.items():
            if name.endswith("conv.weight"):
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
        kept = {name: tensor for name, tensor in state.items() if not name.startswith("fc.") and "num_batches" not in name}
        save_file(kept, weights)
    for name, count in [("pictures", pictures), ("tenth", pictures // 10)]:
        if not (folder / name).exists():
            subprocess.run([program, "data", "shapes", str(folder / name), "-n", str(count), "--size", "256"], check=True)
    return weights


def network(state):
    """pytorch-fid's own network with these weights in place of the published ones, which it would download."""
    import torch
    from pytorch_fid import inception

    inception.load_state_dict_from_url = lambda *_, **__: state
    load = torch.nn.Module.load_state_dict
    torch.nn.Module.load_state_dict = lambda net, state: load(net, state, strict=False)
    try:
        return inception.fid_inception_v3()
    finally:
        torch.nn.Module.load_state_dict = load


def peer(folder, mode, threads):
    """pytorch-fid in this process: prints seconds and the peak of memory, saves its statistics."""
    import resource

    import numpy
    import torch
    from pytorch_fid import fid_score, inception
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    net = network(load_file(folder / "inception.safetensors"))
    inception.fid_inception_v3 = lambda: net
    model = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    if mode == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    begun = time.perf_counter()
    path = str(folder / "pictures" / "images")
    mean, covariance = fid_score.compute_statistics_of_path(path, model, 50, 2048, "cpu", min(threads, 8))
    seconds = time.perf_counter() - begun
    numpy.savez(folder / "peer.npz", mu=mean, sigma=covariance)
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def here(folder, program, pictures, threads):
    command = [program, "eval", "stats", folder / pictures, "--inception", folder / "inception.safetensors", "-o",
               folder / "here.safetensors", "--force", "--quiet", "--threads", str(threads)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command} ended with {status}")
    return {"seconds": time.perf_counter() - begun, "peak": usage.ru_maxrss * 1024}


def apart(folder):
    """Relative differences of the two sides' means and covariances."""
    import numpy
    from safetensors.numpy import load_file

    theirs, ours = numpy.load(folder / "peer.npz"), load_file(folder / "here.safetensors")
    count = len(list((folder / "pictures" / "images").glob("*.png")))
    covariance = ours["scatter"] / (count - 1)
    far = lambda a, b: numpy.linalg.norm(a - b) / numpy.linalg.norm(b)
    return far(ours["mean"], theirs["mu"]), far(covariance, theirs["sigma"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--modes", default=",".join(MODES), help="pytorch-fid's modes to run (%(default)s)")
    parser.add_argument("--program", default="target/release/imagen")
    parser.add_argument("--peer", metavar="MODE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(args.folder, args.peer, args.threads)
    args.folder.mkdir(parents=True, exist_ok=True)
    make(args.folder, args.program, args.pictures)
    modes = args.modes.split(",")
    if not set(modes) <= set(MODES):
        parser.error(f"--modes {args.modes}: expected some of {', '.join(MODES)}")
    seconds, peaks = {}, {}
    # first, so that the statistics that the last round leaves are of all pictures
    small = here(args.folder, args.program, "tenth", args.threads)["peak"]
    for _ in range(args.rounds):
        for who in ["here", *modes]:
            if who == "here":
                out = here(args.folder, args.program, "pictures", args.threads)
            else:
                command = [sys.executable, __file__, str(args.folder), "--threads", str(args.threads), "--peer", who]
                out = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            seconds.setdefault(who, []).append(out["seconds"])
            peaks[who] = max(peaks.get(who, 0), out["peak"])
    mean, covariance = apart(args.folder)
    median = {who: statistics.median(times) for who, times in seconds.items()}
    best = min(modes, key=median.get)
    print(f"{args.pictures} pictures: pytorch-fid / here {median[best] / median['here']:.2f} ({best}); "
          f"peak here {peaks['here'] / 2**20:.0f} MiB ({small / 2**20:.0f} of a tenth of the pictures), there {peaks[best] / 2**20:.0f}; "
          f"apart: means {mean:.1e}, covariances {covariance:.1e}; all: {json.dumps(seconds)}")
    if max(mean, covariance) > 1e-3:
        sys.exit("the two sides do not agree")


if __name__ == "__main__":
    main()
