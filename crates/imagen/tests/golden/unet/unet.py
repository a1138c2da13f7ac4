"""The U-Nets of this project a second time, in PyTorch, to be compared with (never shipped, never trained at size).

Written from the description (Imagen, arXiv 2205.11487, sections 2.5, B.1, D.3.1 and F) in PyTorch's own terms: pictures
are [n, c, h, w], normalisation, pooling and interpolation are PyTorch's, skips are ordinary lists. Only the names of
the parameters follow crates/imagen, so that `exported` can rename nothing and only turn the axes of weights.

What a configuration's fields mean stands in crates/imagen/src/models/unet/config.rs; here it is a plain dictionary.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

HALF = 1 / math.sqrt(2)


def sinusoid(log_snr, width):
    """[n] -> [n, width]: the angle of (alpha, sigma) as a fraction of a right angle, times 1000; cosines, then sines."""
    alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
    position = 1000 * torch.atan2(sigma, alpha) / (math.pi / 2)
    frequency = torch.pow(10000.0, -torch.arange(width // 2, dtype=position.dtype) / (width // 2))
    angle = position[:, None] * frequency[None, :]
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def group_norm(channels, groups):
    return nn.GroupNorm(max(g for g in range(1, groups + 1) if channels % g == 0), channels, eps=1e-5)


def attend(query, key, value, heads, keep):
    """[b, t, heads*d] each; keep [b, tk] of bool. Who may look at nothing gets zeros."""

    def split(x):
        return x.unflatten(2, (heads, -1)).transpose(1, 2)

    query, key, value = split(query), split(key), split(value)
    score = torch.einsum("bhqd,bhkd->bhqk", query, key) / math.sqrt(query.shape[-1])
    score = score.masked_fill(~keep[:, None, None, :], -1e30)
    weight = score.softmax(dim=-1) * keep.any(dim=1)[:, None, None, None]
    return torch.einsum("bhqk,bhkd->bhqd", weight, value).transpose(1, 2).flatten(2)


class LevelEmbedding(nn.Module):
    def __init__(self, width, embedding):
        super().__init__()
        self.width = width
        self.linear1 = nn.Linear(width, embedding)
        self.linear2 = nn.Linear(embedding, embedding)

    def forward(self, log_snr):
        return self.linear2(F.silu(self.linear1(sinusoid(log_snr, self.width))))


def mean_token(text, keep):
    if keep is None:
        return text.mean(dim=1)
    return (text * keep[:, :, None]).sum(dim=1) / keep.sum(dim=1).clamp(min=1)[:, None]


class TextPool(nn.Module):
    def __init__(self, width, embedding, attention):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.heads = max(h for h in range(1, 9) if width % h == 0)
        self.q = nn.Linear(width, width) if attention else None
        self.kv = nn.Linear(width, 2 * width) if attention else None
        self.pooled_norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, embedding)

    def forward(self, text, keep):
        text = self.norm(text)
        mean = mean_token(text, keep)
        pooled = mean
        if self.q is not None:
            key, value = self.kv(text).chunk(2, dim=-1)
            pooled = mean + attend(self.q(mean)[:, None], key, value, self.heads, keep)[:, 0]
        return self.projection(self.pooled_norm(pooled))


class Embedder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.noise = LevelEmbedding(c["channels"], c["embedding"])
        self.augmentation = LevelEmbedding(c["channels"], c["embedding"]) if c["low_resolution"] else None
        self.text_projection = nn.Linear(c["text_dim"], c["text_width"]) if c["text_dim"] else None
        self.pool = None
        if c["text_dim"] and c["text_pooling"] != "none":
            self.pool = TextPool(c["text_width"], c["embedding"], c["text_pooling"] == "attention")

    def forward(self, log_snr, text, keep, low_log_snr):
        embedding, mean = self.noise(log_snr), None
        if self.augmentation is not None:
            embedding = embedding + self.augmentation(low_log_snr)
        if text is not None:
            mean = mean_token(text, keep)
            text = self.text_projection(text)
            if self.pool is not None:
                embedding = embedding + self.pool(text, keep)
        return F.silu(embedding), text, mean


class ResnetBlock(nn.Module):
    def __init__(self, c, before, after, resample=None):
        super().__init__()
        self.norm1 = group_norm(before, c["groups"])
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.modulation = nn.Linear(c["embedding"], 2 * after)
        self.norm2 = group_norm(after, c["groups"])
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.resample = {
            None: lambda x: x,
            "down": lambda x: F.avg_pool2d(x, 2),
            "up": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
        }[resample]
        self.skip_scale = c["skip_scale"]

    def forward(self, x, embedding):
        h = self.conv1(self.resample(F.silu(self.norm1(x))))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        x = self.shortcut(self.resample(x))
        if self.skip_scale in ("residual", "both"):
            return (x + h) * HALF
        return h + x * HALF if self.skip_scale == "shortcut" else h + x


class Attention(nn.Module):
    def __init__(self, c, channels, picture, text):
        super().__init__()
        hidden = channels * c["attention_expansion"]
        kind, number = next(iter(c["heads"].items()))
        self.heads = number if kind == "count" else max(hidden // number, 1)
        self.norm = group_norm(channels, c["groups"])
        self.q = nn.Linear(channels, hidden)
        self.kv = nn.Linear(channels, 2 * hidden) if picture else None
        self.text_norm = nn.LayerNorm(c["text_width"]) if text else None
        self.text_kv = nn.Linear(c["text_width"], 2 * hidden) if text else None
        self.out = nn.Linear(hidden, channels)

    def forward(self, x, text, keep):
        height, width = x.shape[2:]
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # [n, h*w, c]
        keys, keeps = [], []
        if self.text_kv is not None and text is not None:
            keys.append(self.text_kv(self.text_norm(text)))
            keeps.append(keep)
        if self.kv is not None:
            keys.append(self.kv(pixels))
            keeps.append(torch.ones(pixels.shape[:2], dtype=torch.bool))
        if not keys:
            return x
        key, value = torch.cat(keys, dim=1).chunk(2, dim=-1)
        found = attend(self.q(pixels), key, value, self.heads, torch.cat(keeps, dim=1))
        return x + self.out(found).transpose(1, 2).unflatten(2, (height, width))


def attention_layers(c, level):
    """The layers after a residual block: of the picture, of the text, or one that looks at both at once."""
    picture = level["self_attention"]
    text = level["text_attention"] and c["text_dim"] > 0 and c["text_attention"] != "none"
    wanted = [(picture, False), (False, text)]
    if c["text_attention"] == "concatenated":
        wanted = [(picture, text)]
    return nn.ModuleList(Attention(c, level["channels"], p, t) for p, t in wanted if p or t)


class Position(nn.Module):
    """A learned map that is added to the features."""

    def __init__(self, side, channels):
        super().__init__()
        self.map = nn.Parameter(torch.zeros(side, side, channels))

    def forward(self, x):
        return x + self.map.permute(2, 0, 1)


class TextMap(nn.Module):
    """A map that the text's mean vector draws, narrow at first, added to the features; weights act eightfold."""

    def __init__(self, c, side, narrow, channels):
        super().__init__()
        hidden = 4 * c["text_width"]
        self.side = side
        self.norm = nn.LayerNorm(c["text_dim"])
        self.hidden = nn.Linear(c["text_dim"], hidden)
        self.map = nn.Linear(hidden, side * side * narrow)
        self.widen = nn.Linear(narrow, channels)

    def forward(self, x, mean):
        hidden = F.silu(F.linear(self.norm(mean), 8 * self.hidden.weight, self.hidden.bias))
        drawn = F.linear(hidden, 8 * self.map.weight, self.map.bias).unflatten(1, (self.side, self.side, -1))
        return x + self.widen(drawn).movedim(3, 1)


class Down(nn.Module):
    def __init__(self, c, index, width):
        super().__init__()
        level, self.efficient = c["levels"][index], c["layout"] == "efficient"
        channels, count = level["channels"], level["blocks"]
        self.down_first = nn.Conv2d(width, channels, 3, stride=2, padding=1) if self.efficient else None
        entering = [channels if self.efficient else width] + [channels] * (count - 1)
        side = level.get("position", 0)
        self.position = Position(side, entering[0]) if side else None
        narrow = level.get("text_map", 0)
        self.text_map = TextMap(c, side, narrow, entering[0]) if narrow else None
        self.blocks = nn.ModuleList(ResnetBlock(c, e, channels) for e in entering)
        self.attention = nn.ModuleList(
            attention_layers(c, level) if not self.efficient or i == count - 1 else nn.ModuleList()
            for i in range(count)
        )
        last = index == len(c["levels"]) - 1
        self.down_last = None if self.efficient or last else ResnetBlock(c, channels, channels, "down")

    def forward(self, x, embedding, text, keep, mean):
        """The output, and the skips in the order in which they arise."""
        skips = []
        if self.down_first is not None:
            x = self.down_first(x)
        if self.position is not None:
            x = self.position(x)
        if self.text_map is not None:
            x = self.text_map(x, mean)
        for block, layers in zip(self.blocks, self.attention):
            x = block(x, embedding)
            for layer in layers:
                x = layer(x, text, keep)
            skips.append(x)
        if self.efficient:
            skips = skips[-1:]
        if self.down_last is not None:
            x = self.down_last(x, embedding)
            skips.append(x)
        return x, skips


class Up(nn.Module):
    def __init__(self, c, index, width, skip_widths):
        """`skip_widths`: of the skips that this level takes, in the order of taking; the rest of its blocks take none."""
        super().__init__()
        level, efficient = c["levels"][index], c["layout"] == "efficient"
        channels, count = level["channels"], level["blocks"] + (0 if efficient else 1)
        self.joins = len(skip_widths)
        self.add = c["skip_join"] == "add"
        self.scale = HALF if c["skip_scale"] in ("long", "both") else 1.0
        joined = [0 if self.add else w for w in skip_widths] + [0] * (count - self.joins)
        entering = [width] + [channels] * (count - 1)
        self.blocks = nn.ModuleList(ResnetBlock(c, e + j, channels) for e, j in zip(entering, joined))
        self.attention = nn.ModuleList(
            attention_layers(c, level) if not efficient or i == count - 1 else nn.ModuleList() for i in range(count)
        )
        finer = c["levels"][index - 1]["channels"] if index else c["channels"]
        self.up_last = nn.Linear(channels, 4 * finer) if efficient else None
        self.up_block = ResnetBlock(c, channels, channels, "up") if not efficient and index else None

    def forward(self, x, embedding, text, keep, skips):
        for i, (block, layers) in enumerate(zip(self.blocks, self.attention)):
            if i < self.joins:
                skip = skips.pop() * self.scale
                x = x + skip if self.add else torch.cat([x, skip], dim=1)
            x = block(x, embedding)
            for layer in layers:
                x = layer(x, text, keep)
        if self.up_last is not None:
            n, _, h, w = x.shape
            x = self.up_last(x.movedim(1, -1)).reshape(n, h, w, 4, -1)
            x = F.pixel_shuffle(x.permute(0, 4, 3, 1, 2).reshape(n, -1, h, w), 2)
        if self.up_block is not None:
            x = self.up_block(x, embedding)
        return x


class Middle(nn.Module):
    def __init__(self, c):
        super().__init__()
        level = c["levels"][-1]
        self.block1 = ResnetBlock(c, level["channels"], level["channels"])
        self.attention = attention_layers(c, level)
        self.block2 = ResnetBlock(c, level["channels"], level["channels"])

    def forward(self, x, embedding, text, keep):
        x = self.block1(x, embedding)
        for layer in self.attention:
            x = layer(x, text, keep)
        return self.block2(x, embedding)


class Output(nn.Module):
    """Residual blocks at the pictures' own resolution; the first also sees the first convolution's features."""

    def __init__(self, c):
        super().__init__()
        width = c["channels"]
        self.add = c["skip_join"] == "add"
        self.scale = HALF if c["skip_scale"] in ("long", "both") else 1.0
        entering = [width if self.add else 2 * width] + [width] * (c["output_blocks"] - 1)
        self.blocks = nn.ModuleList(ResnetBlock(c, e, width) for e in entering)

    def forward(self, x, skip, embedding):
        skip = skip * self.scale
        x = x + skip if self.add else torch.cat([x, skip], dim=1)
        for block in self.blocks:
            x = block(x, embedding)
        return x


class Head(nn.Module):
    def __init__(self, c, width):
        super().__init__()
        self.norm = self.conv = self.dense = None
        if c["layout"] == "adm" or c.get("output_blocks"):
            self.norm = group_norm(width, c["groups"])
            self.conv = nn.Conv2d(width, c["image_channels"], 3, padding=1)
        else:
            self.dense = nn.Conv2d(width, c["image_channels"], 1)

    def forward(self, x):
        return self.conv(F.silu(self.norm(x))) if self.dense is None else self.dense(x)


class Unet(nn.Module):
    def __init__(self, c):
        super().__init__()
        widths = [level["channels"] for level in c["levels"]]
        self.efficient = c["layout"] == "efficient"
        self.low_resolution = c["low_resolution"]
        self.embedder = Embedder(c)
        self.conv_in = nn.Conv2d(c["image_channels"] * (2 if self.low_resolution else 1), c["channels"], 3, padding=1)
        self.down = nn.ModuleList(Down(c, i, w) for i, w in enumerate([c["channels"]] + widths[:-1]))
        self.middle = None if self.efficient else Middle(c)
        # which skips each level up takes: ADM all of them, last in first out; Efficient its own, but the deepest none
        if self.efficient:
            taken = [[w] for w in widths[:-1]] + [[]]
        else:
            left = [c["channels"]]
            for i, level in enumerate(c["levels"]):
                left += [level["channels"]] * (level["blocks"] + (1 if i + 1 < len(widths) else 0))
            taken = []
            for level in c["levels"]:
                taken.append(left[: level["blocks"] + 1][::-1])
                left = left[level["blocks"] + 1 :]
        entering = (widths[:-1] if self.efficient else widths[1:]) + [widths[-1]]
        self.up = nn.ModuleList(Up(c, i, entering[i], taken[i]) for i in reversed(range(len(widths))))
        self.output = Output(c) if c.get("output_blocks") else None
        self.head = Head(c, c["channels"] if self.efficient else widths[0])

    def forward(self, z, log_snr, text=None, keep=None, low=None, low_log_snr=None):
        """z, low [n, c, h, w]; log_snr, low_log_snr [n]; text [n, t, d]; keep [n, t] of bool."""
        embedding, text, mean = self.embedder(log_snr, text, keep, low_log_snr)
        x = self.conv_in(torch.cat([z, low], dim=1) if self.low_resolution else z)
        first, skips = x, [] if self.efficient else [x]
        for level in self.down:
            x, left = level(x, embedding, text, keep, mean)
            skips += left
        if self.efficient:
            skips.pop()  # the deepest level has nobody to skip
        else:
            x = self.middle(x, embedding, text, keep)
        for level in self.up:
            x = level(x, embedding, text, keep, skips)
        assert not skips, "a skip was left over"
        if self.output is not None:
            x = self.output(x, first, embedding)
        return self.head(x)


def randomize(network, generator):
    """Random values for every parameter, also for those that training starts at zero; rounded to f32."""
    for module in network.modules():
        for name, p in module.named_parameters(recurse=False):
            values = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if p.dim() > 1:
                values = values / math.sqrt(p[0].numel())
            elif isinstance(module, (nn.GroupNorm, nn.LayerNorm)) and name == "weight":
                values = 1 + 0.2 * values
            else:
                values = 0.2 * values
            with torch.no_grad():
                p.copy_(values.float())


def channels_last(x):
    """[n, c, h, w] -> [n, h, w, c]."""
    return x.permute(0, 2, 3, 1)


def exported(values):
    """Axes as the crate keeps them: 3x3 convolutions [h, w, in, out], matrices and 1x1 convolutions [in, out]."""
    if values.dim() == 4 and values.shape[2:] == (1, 1):
        return values[:, :, 0, 0].t()
    if values.dim() == 4:
        return values.permute(2, 3, 1, 0)
    return values.t() if values.dim() == 2 else values
