"""Awkward pictures, and this program's decoding of them held against Pillow's, level by level.

    python bench/awkward.py make FOLDER [--count 2000] [--seed 1]
    cargo run --release -p imagen --example decode -- FOLDER OUT > refused.tsv
    python bench/awkward.py compare FOLDER OUT refused.tsv

The features are those that the test suites of Pillow and of the image crate name: every colour type, depth, filter and
interlacing of PNG; subsamplings, progressive scans, restarts, colour spaces and tables of JPEG; lossy, lossless and animated
WebP; palettes, transparency and disposal in GIF; depths, masks, row orders and runs in BMP; orientation, profiles, notes and
thumbnails; bytes in front of markers and behind pictures; files that are cut, flipped and glued. Most files are sound; the
names of those that were damaged begin with `bad-`.

`compare` says how far apart the two are for each form, and lists what only one of them reads. Needs pillow and numpy; cjpeg
(libjpeg-turbo) makes more forms of JPEG where it is there. Tested with Pillow 13.
"""

import argparse
import io
import random
import shutil
import struct
import subprocess
import warnings
import zlib
from pathlib import Path

import numpy
from PIL import Image, ImageOps

ENDS = {"jpg": b"\xff\xd9"}


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.numbers = numpy.random.default_rng(seed)

    def one(self, *of):
        return self.random.choice(of)

    def happens(self, chance):
        return self.random.random() < chance

    def size(self):
        side = lambda: self.one(1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 48, self.random.randint(1, 90))
        return side(), side()

    def scene(self, wide, high, channels=3):
        """Smooth colours with an edge, or noise."""
        y, x = numpy.mgrid[0:high, 0:wide].astype(float)
        if self.happens(0.2):
            a = self.numbers.integers(0, 256, (high, wide, channels)).astype(float)
        else:
            f = [self.random.uniform(5, 40) for _ in range(2 * channels)]
            a = numpy.stack([127 + 120 * numpy.sin(x / f[2 * c] + y / f[2 * c + 1] + c) for c in range(channels)], -1)
            a[high // 3 : high // 2, wide // 4 : wide // 2] = self.random.randint(0, 255)
        return a.clip(0, 255).astype(numpy.uint8)

    def picture(self, mode="RGB"):
        wide, high = self.size()
        channels = {"1": 1, "L": 1, "P": 3, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
        a = self.scene(wide, high, channels)
        if mode in ("1", "L", "P"):
            base = Image.fromarray(a[..., 0] if channels == 1 else a)
            return base if mode == "L" else base.convert("1") if mode == "1" else base.quantize(self.one(2, 3, 16, 200))
        return Image.frombytes(mode, (wide, high), a.tobytes())

    def exif(self):
        exif = Image.Exif()
        exif[0x112] = self.random.randint(0, 9)
        return exif.tobytes()

    def notes(self):
        notes = {}
        if self.happens(0.3):
            notes["exif"] = self.exif()
        if self.happens(0.2):
            notes["icc_profile"] = self.random.randbytes(self.one(10, 500, 70000))
        return notes

    # JPEG

    def jpeg(self):
        if shutil.which("cjpeg") and self.happens(0.4):
            return self.cjpeg()
        options = dict(quality=self.one(1, 10, 50, 75, 92, 95, 100), progressive=self.happens(0.35), optimize=self.happens(0.3))
        options |= self.notes()
        mode = self.one("RGB", "RGB", "RGB", "L", "CMYK")
        if mode == "RGB":
            options["subsampling"] = self.one(0, 1, 2)
            if self.happens(0.1):
                options |= {"keep_rgb": True, "subsampling": 0}
        if self.happens(0.2):
            options[self.one("restart_marker_blocks", "restart_marker_rows")] = self.random.randint(1, 5)
        if self.happens(0.1):
            options["comment"] = b"a comment \xff\xd9\xff\xda"
        if self.happens(0.1):
            options["qtables"] = [[self.random.randint(1, 255) for _ in range(64)] for _ in range(2)]
        return self.encoded(self.picture(mode), "JPEG", options)

    def cjpeg(self):
        wide, high = self.size()
        ppm = io.BytesIO()
        Image.fromarray(self.scene(wide, high)).save(ppm, "PPM")
        words = ["-quality", str(self.random.randint(1, 100))]
        words += self.one([], ["-progressive"], ["-optimize"])
        words += self.one([], ["-sample", self.one("1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4", "2x1,1x2", "1x1,2x2")])
        words += self.one([], [], ["-grayscale"], ["-rgb"], ["-restart", self.one("1B", "1", "3B")])
        made = subprocess.run(["cjpeg", *words], input=ppm.getvalue(), capture_output=True)
        return made.stdout if made.returncode == 0 and made.stdout else self.jpeg()

    def around_jpeg(self, data):
        """Bytes that belong to nobody, where they do no harm."""
        video = b"\0\0\0\x18ftypmp42" + self.random.randbytes(300) + self.one(b"\xff\xda", b"\xff\xd9", b"") + bytes(20)
        second = self.jpeg()
        table = data.index(b"\xff\xdb")
        return self.one(
            data + video, data + second, data + second[: len(second) // 2], data + bytes(500), data + b"notes",
            data[:-2] + b"\0\0\x01\x0aImage_UTC_Data" + bytes(40), data[:table] + b"\xff" * 4 + data[table:],
        )

    # PNG

    def png(self):
        if self.happens(0.3):
            mode = self.one("1", "L", "P", "LA", "RGB", "RGBA")
            picture, options = self.picture(mode), self.notes() | {"compress_level": self.one(0, 1, 9)}
            if mode == "P":
                options["bits"] = self.one(1, 2, 4, 8)
                if options["bits"] < 8:
                    picture = picture.convert("RGB").quantize(2 ** options["bits"])
                if self.happens(0.5):
                    options["transparency"] = self.one(0, 1, self.random.randbytes(3))
            elif mode in ("L", "RGB") and self.happens(0.3):
                options["transparency"] = self.random.randint(0, 255) if mode == "L" else (1, 2, 3)
            return self.encoded(picture, "PNG", options)
        kind, depth = self.one((0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16))
        wide, high = self.size()
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
        colours = self.random.randint(1, 2**depth) if kind == 3 else 2**depth
        samples = self.numbers.integers(0, colours, (high, wide, channels))
        interlaced = self.happens(0.4)
        rows = b""
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        for x, y, across, down in passes if interlaced else [(0, 0, 1, 1)]:
            part = samples[y::down, x::across]
            if part.size:
                rows += self.filtered(part, depth, channels)
        packed = zlib.compress(rows, self.one(0, 1, 9))
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", wide, high, depth, kind, 0, 0, interlaced))]
        if kind == 3:
            chunks.append((b"PLTE", self.random.randbytes(3 * colours)))
            if self.happens(0.4):
                chunks.append((b"tRNS", self.random.randbytes(self.random.randint(1, colours))))
        elif kind in (0, 2) and depth == 8 and self.happens(0.3):  # of other depths Pillow compares what it has scaled
            one = samples[0, 0].tolist()
            chunks.append((b"tRNS", b"".join(struct.pack(">H", c) for c in one)))
        for extra in [(b"gAMA", struct.pack(">I", 45455)), (b"tEXt", b"Comment\0hello"), (b"abCd", b"x"), (b"pHYs", bytes(9)), (b"bKGD", bytes({0: 2, 2: 6, 3: 1, 4: 2, 6: 6}[kind])), (b"sRGB", b"\0"), (b"zTXt", b"k\0\0" + zlib.compress(b"x" * 999))]:
            if self.happens(0.15):
                chunks.append(extra)
        cuts = sorted(self.random.randint(0, len(packed)) for _ in range(self.one(0, 0, 3)))
        parts = [packed[a:b] for a, b in zip([0, *cuts], [*cuts, len(packed)])]
        return png_of(chunks + [(b"IDAT", part) for part in parts] + [(b"IEND", b"")])

    def filtered(self, part, depth, channels):
        high = part.shape[0]
        flat = part.reshape(high, -1)
        if depth == 16:
            lines = flat.astype(">u2").tobytes()
        elif depth == 8:
            lines = flat.astype(numpy.uint8).tobytes()
        else:
            bits = (flat[..., None] >> numpy.arange(depth - 1, -1, -1)) & 1
            lines = numpy.packbits(bits.reshape(high, -1).astype(numpy.uint8), axis=1).tobytes()
        width, step = len(lines) // high, max(1, channels * depth // 8)
        before, out = bytes(width), b""
        for row in range(high):
            line = lines[row * width : (row + 1) * width]
            kind = self.random.randint(0, 4)
            made = bytearray(width)
            for i, value in enumerate(line):
                a, b = line[i - step] if i >= step else 0, before[i]
                c = before[i - step] if i >= step else 0
                p = a + b - c
                paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
                made[i] = (value - [0, a, b, (a + b) // 2, paeth][kind]) % 256
            out += bytes([kind]) + bytes(made)
            before = line
        return out

    def around_png(self, data):
        text = struct.pack(">I", 13) + b"tEXtComment\0hello" + b"\1\2\3\4"
        return self.one(data + b"behind", data[:33] + text + data[33:], data[:-12], data[:33] + struct.pack(">I", 1) + b"ABCDx" + struct.pack(">I", zlib.crc32(b"ABCDx")) + data[33:])

    # others

    def webp(self):
        options = self.notes() | dict(lossless=self.happens(0.4), quality=self.random.randint(0, 100), method=self.random.randint(0, 6), exact=self.happens(0.3))
        mode = self.one("RGB", "RGBA")
        if self.happens(0.15):
            wide, high = self.size()
            frames = [Image.frombytes(mode, (wide, high), self.scene(wide, high, len(mode)).tobytes()) for _ in range(3)]
            options |= {"save_all": True, "append_images": frames[1:], "duration": 50}
            return self.encoded(frames[0], "WEBP", options)
        return self.encoded(self.picture(mode), "WEBP", options)

    def gif(self):
        picture = self.picture("P")
        options = {"interlace": self.happens(0.5)}
        if self.happens(0.4):
            options["transparency"] = self.random.randint(0, 1)
        if self.happens(0.3):
            frames = [picture.copy() for _ in range(2)]
            options |= {"save_all": True, "append_images": frames, "disposal": self.random.randint(0, 3), "duration": 40}
        return self.encoded(picture, "GIF", options)

    def bmp(self):
        if self.happens(0.6):
            return self.encoded(self.picture(self.one("1", "L", "P", "RGB", "RGBA")), "BMP", {})
        wide, high = self.size()
        bits = self.one(16, 24, 32)
        rows = self.numbers.integers(0, 256, (high, (wide * bits + 31) // 32 * 4)).astype(numpy.uint8).tobytes()
        masks = struct.pack("<III", *self.one((0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F))) if bits == 16 and self.happens(0.6) else b""
        header = struct.pack("<IiiHHIIiiII", 40, wide, self.one(high, -high), 1, bits, 3 if masks else 0, len(rows), 0, 0, 0, 0)
        start = 14 + len(header) + len(masks)
        return struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + header + masks + rows

    def encoded(self, picture, form, options):
        out = io.BytesIO()
        try:
            picture.save(out, form, **options)
        except OSError:  # libjpeg's buffer is as large as a picture of this size commonly is
            out = io.BytesIO()
            picture.save(out, form)
        return out.getvalue()

    def damaged(self, data):
        at = self.random.randint(0, len(data))
        flipped = bytearray(data)
        if flipped:
            flipped[min(at, len(data) - 1)] ^= 1 << self.random.randint(0, 7)
        cut = data[:at]
        ended = cut + ENDS["jpg"] if data[:2] == b"\xff\xd8" else cut
        return self.one(cut, ended, bytes(flipped), data[:at] + data[at + 10 :], data[:at] + self.random.randbytes(7) + data[at:])


def png_of(chunks):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


def make(folder, count, seed):
    folder.mkdir(parents=True)
    maker = Maker(seed)
    for number in range(count):
        form = maker.one("jpg", "jpg", "jpg", "png", "png", "png", "webp", "gif", "bmp")
        data = getattr(maker, {"jpg": "jpeg"}.get(form, form))()
        kind = "plain"
        if form in ("jpg", "png") and maker.happens(0.15):
            data, kind = (maker.around_jpeg if form == "jpg" else maker.around_png)(data), "around"
        elif maker.happens(0.12):
            data, kind = maker.damaged(data), "bad"
        (folder / f"{kind}-{number:05}.{form}").write_bytes(data)


def reference(path):
    """What Pillow sees, upright and on white."""
    picture = Image.open(path)
    picture.load()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((numpy.asarray(picture).astype(numpy.uint32) * 255 / 65535 + 0.5).astype(numpy.uint8))
    if picture.mode == "P" or "A" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (255,) * 4), picture)
    return numpy.asarray(picture.convert("RGB")).astype(int)


def compare(folder, out, refused):
    warnings.simplefilter("ignore")
    reasons = dict(line.split("\t", 1) for line in refused.read_text().splitlines())
    levels, lists, both = {}, {"only Pillow reads": [], "only this program reads": [], "differ by more than 2": []}, 0
    for path in sorted(folder.iterdir()):
        try:
            theirs = reference(path)
        except Exception as error:
            theirs = f"{type(error).__name__}: {error}"[:90]
        ours = out / f"{path.name}.png"
        if not ours.exists():
            if isinstance(theirs, str):
                both += 1
            else:
                lists["only Pillow reads"].append(f"{path.name}: {reasons.get(path.name, '?')}")
            continue
        if isinstance(theirs, str):
            lists["only this program reads"].append(f"{path.name}: {theirs}")
            continue
        ours = numpy.asarray(Image.open(ours).convert("RGB")).astype(int)
        worst = 999 if ours.shape != theirs.shape else int(abs(ours - theirs).max())
        kind = path.name.split("-")[0] + " " + path.suffix
        levels.setdefault(kind, {}).setdefault(worst, 0)
        levels[kind][worst] += 1
        if worst > 2:
            lists["differ by more than 2"].append(f"{path.name}: by {worst}")
    for kind, found in sorted(levels.items()):
        print(f"{kind:12}", ", ".join(f"{count} by {worst}" for worst, count in sorted(found.items())))
    print(f"{both} that neither reads")
    for what, names in lists.items():
        print(f"{len(names)} {what}")
        for name in names:
            print("  " + name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, dest="verb")
    making = verbs.add_parser("make")
    making.add_argument("folder", type=Path)
    making.add_argument("--count", type=int, default=2000)
    making.add_argument("--seed", type=int, default=1)
    comparing = verbs.add_parser("compare")
    for name in ["folder", "out", "refused"]:
        comparing.add_argument(name, type=Path)
    given = parser.parse_args()
    if given.verb == "make":
        make(given.folder, given.count, given.seed)
    else:
        compare(given.folder, given.out, given.refused)


main()
