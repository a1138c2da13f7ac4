"""Turns pytorch-fid's weights of Inception-v3 into the file that `imagen eval --inception` takes.

    pip install torch safetensors
    python tools/inception_weights.py pt_inception-2015-12-05-6726825d.pth inception.safetensors

The first file is published with https://github.com/mseitzer/pytorch-fid/releases (fid_weights); pytorch-fid itself keeps it under
~/.cache/torch/hub/checkpoints. It is a pickle, which only PyTorch reads, and here without running what it holds. Names and numbers stay
as they are; the classifier and counters, which no feature needs, are left out.
"""

import sys

import torch
from safetensors.torch import save_file


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = sys.argv[1:]
    state = torch.load(source, map_location="cpu", weights_only=True)
    unused = ("fc.", "AuxLogits.")
    kept = {
        name: tensor.float().contiguous()
        for name, tensor in state.items()
        if not name.startswith(unused) and not name.endswith("num_batches_tracked")
    }
    if len(kept) != 94 * 5:
        sys.exit(f"{source} holds {len(kept)} tensors of the network, expected {94 * 5}: it is not pytorch-fid's Inception-v3")
    save_file(kept, target)


main()
