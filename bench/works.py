"""What `bench/run` measures: one work is a line of a table, run here by `imagen bench` and there by peer.py.

Sizes of recipes stand in the recipes; what is said here is how many pictures and how long the texts are.
"""

import os
import tomllib
from dataclasses import dataclass, field

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
BASE = "recipes/fluent-emoji/base.toml"
SR256 = "recipes/fluent-emoji/sr256.toml"
# PyTorch's modes: in f32, and the same in the bfloat16 of autocast
F32 = ("eager", "channels_last", "compile")
BF16 = tuple(f"bf16_{mode}" for mode in F32)
MODES = F32 + BF16
# a training takes step after step: its rounds are so many times longer, so that they hold several
TRAINING_LONGER = 10


@dataclass
class Work:
    """`arguments` are those of `imagen bench`; `modes` are PyTorch's."""

    group: str
    name: str
    arguments: list
    kind: str = "forward"
    modes: tuple = MODES
    heads: int = 0
    # relative distance of results in f32; Winograd's rounding adds up over the layers
    bound: float = 1e-4
    # and in bfloat16
    bf16_bound: float = 1e-1
    # takes gigabytes and a minute: not for --quick
    large: bool = False
    # numbers for the table of scaling
    shape: dict = field(default_factory=dict)

    @property
    def slug(self):
        return "".join(c if c.isalnum() else "-" for c in f"{self.group} {self.name}")

    def least(self, seconds):
        """Least length of a round of this work, where that of others is `seconds`."""
        return seconds * TRAINING_LONGER if self.kind == "train" else seconds


def recipe_batch(path):
    """Pictures that pass through the network at once when the recipe is trained."""
    with open(os.path.join(ROOT, path), "rb") as file:
        train = tomllib.load(file)["train"]
    return train.get("micro_batch", train["batch"])


def network(group, name, what, batch, tokens=16, more=(), **others):
    arguments = ["--network", what, "--batch", str(batch), "--tokens", str(tokens), *more]
    return Work(group, name, arguments, **others)


def forward_passes():
    yield network("forward", "mini U-Net, 8 pictures", "mini", 8, 77)
    yield network("forward", "base of the default model, 8 × 64²", BASE, 8)
    yield network("forward", "sr256 of the default model, 1 × 256²", SR256, 1)
    # compiling hundreds of layers takes longer than everything else here, and gigabytes for one more copy
    large = dict(large=True, modes=tuple(mode for mode in MODES if not mode.endswith("compile")))
    yield network("forward", "the paper's 64→256, 1 × 256²", "paper-sr256", 1, 77, **large)
    yield network("forward", "IF-I-M's shape, 2 × 64²", "if-i-m", 2, 77, **large)


def training_steps():
    for name, what, batch, tokens in [
        ("mini U-Net, {} pictures", "mini", 8, 77),
        ("base of the default model, {} × 64²", BASE, recipe_batch(BASE), 16),
        ("sr256 of the default model, {} crops", SR256, recipe_batch(SR256), 16),
    ]:
        yield network("training step", name.format(batch), what, batch, tokens, ["--train"], kind="train", bound=1e-3)


def operations():
    """The shapes of two pictures at the widths of real networks; torch.compile leaves these to the same library."""
    modes = ("eager", "channels_last", "bf16_eager", "bf16_channels_last")
    for c, side in [(64, 64), (128, 64), (256, 32), (512, 16), (1024, 8), (128, 256), (32, 256)]:
        yield Work("operation", f"3×3 convolution, {c} at {side}²", ["--op", f"conv3x3:2x{side}x{side}x{c}x{c}"],
                   kind="conv3x3", modes=modes)
    for kind, name in [("conv3x3-grad-input", "data gradient of 3×3 convolution"), ("conv3x3-grad-weight", "weight gradient of 3×3 convolution")]:
        for c, side in [(128, 64), (512, 16), (1024, 8)]:
            yield Work("operation", f"{name}, {c} at {side}²", ["--op", f"{kind}:2x{side}x{side}x{c}x{c}"],
                       kind=kind, modes=modes)
    for kind, name in [("attention", "attention"), ("attention-train", "attention forward + backward")]:
        for keys in (1024, 77):
            yield Work("operation", f"{name}, 1024 queries, {keys} keys, 8 × 64", ["--op", f"{kind}:2x8x1024x{keys}x64"],
                       kind=kind, modes=("eager", "bf16_eager"), heads=8)


def scaling():
    """One network without self-attention, so that every part is linear in pixels and in pictures."""
    modes = ("eager", "channels_last")
    for batch, side in [(1, 64), (1, 128), (1, 256), (1, 512), (2, 128), (4, 128), (8, 128)]:
        yield network("scaling", f"{batch} × {side}²", SR256, batch, more=["--size", str(side)], modes=modes,
                      shape=dict(batch=batch, side=side))


def all_works():
    return [*forward_passes(), *training_steps(), *operations(), *scaling()]
