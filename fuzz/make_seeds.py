"""Writes the seeds of the corpora, a few kilobytes each, out of golden files and of pictures made here.

    python fuzz/make_seeds.py        (Pillow 13, NumPy 2)

Inputs that once ended badly lie beside them (`found-*`) and are not made anew.
"""

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

import numpy
from PIL import Image
from safetensors.numpy import load_file

here = Path(__file__).resolve().parent
golden = here.parent / "crates/imagen/tests/golden"


def seed(corpus, name, data):
    folder = here / "corpus" / corpus
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def safetensors(tensors, metadata=None):
    header, body = {"__metadata__": metadata} if metadata else {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def picture(mode="RGB", size=(17, 11)):
    wide, high = size
    y, x = numpy.mgrid[0:high, 0:wide]
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    a = numpy.stack([(x * (7 + 5 * c) + y * 13) % 256 for c in range(channels)], -1).astype(numpy.uint8)
    return Image.frombytes(mode, size, a.tobytes())


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


# weights
f32 = lambda n: numpy.arange(n, dtype="<f4").tobytes()
seed("weights", "forms", safetensors({"a": ("F16", [2, 3], bytes(12)), "b": ("F32", [2], f32(2)), "c": ("I8", [4, 4], bytes(16)), "c.scale": ("F32", [4], f32(4))}, {"format": "pt"}))
seed("weights", "wide", safetensors({"m": ("BF16", [3, 64], bytes(384)), "n": ("F64", [2, 2], bytes(32)), "none": ("F32", [0], b""), "one": ("F32", [], f32(1))}))

# configurations, their kind first
kinds = ["if/one/unet/config.json", "if/one/scheduler/scheduler_config.json", "t5/gated/config.json", "roberta/tiny/config.json", "clip/tiny/config.json", "clip/tiny/preprocessor_config.json", "if/one/unet/diffusion_pytorch_model.safetensors.index.json"]
for kind, name in enumerate(kinds):
    read = json.loads((golden / name).read_text())
    if "weight_map" in read:
        read["weight_map"] = dict(list(read["weight_map"].items())[:8])
    seed("configs", f"{kind}-{Path(name).stem.split('.')[0]}", bytes([kind]) + json.dumps(read).encode())

# tokenizers, their kind first
field = lambda number, data: bytes([number << 3 | 2, len(data)]) + data
charsmap = lambda data: b"\0" + field(3, field(2, data))
seed("tokenizers", "spiece-as-it-is", b"\0")
seed("tokenizers", "spiece-empty-trie", charsmap(bytes(4)))
seed("tokenizers", "spiece-trie-outside", charsmap(struct.pack("<I", 4) + b"\xff" * 4))
seed("tokenizers", "spiece-endless-trie", charsmap(b"\xff" * 4))
seed("tokenizers", "spiece-another-piece", b"\0" + field(1, field(1, "▁zz".encode()) + b"\x15\0\0\x80\xbf"))
read = json.loads((golden / "t5/plain/tokenizer.json").read_text())
read["model"]["vocab"] = read["model"]["vocab"][:40]
read["added_tokens"] = [token for token in read["added_tokens"] if token["id"] < 40]
seed("tokenizers", "tokenizer", b"\1" + json.dumps(read, ensure_ascii=False).encode())
seed("tokenizers", "vocab", b"\2" + (golden / "roberta/tiny/vocab.json").read_bytes())
seed("tokenizers", "merges", b"\3" + (golden / "roberta/tiny/merges.txt").read_bytes())

# shards
def shard(entries, form=tarfile.USTAR_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = out.getvalue().rstrip(b"\0")
    return data + bytes(-len(data) % 512 + 1024)


png = saved(picture("L", (4, 4)), "PNG")
seed("shards", "plain", shard([("0.png", png), ("0.txt", b"a thing"), ("0.json", b'{"caption": "a \\ud83c thing", "x": NaN}')]))
seed("shards", "dots", shard([("v1.0/a.b.png", png), ("v1.0/a.b.txt", b"\xff\xfea\0")]))
seed("shards", "pax", shard([("n" * 150 + "é.png", png), ("n" * 150 + "é.txt", b"long")], tarfile.PAX_FORMAT))
seed("shards", "gnu", shard([("m" * 150 + ".png", png), ("m" * 150 + ".txt", b"long")], tarfile.GNU_FORMAT))

# pictures
forms = load_file(golden / "decode/jpeg.safetensors")
for name in ["420", "mixed", "progressive-restarts", "restarts", "cmyk", "ycck", "1x1", "grey"]:
    seed("pictures", f"{name}.jpg", forms[f"{name}.file"].tobytes())
for mode in ["L", "LA", "RGB", "RGBA"]:
    seed("pictures", f"{mode}.png", saved(picture(mode), "PNG"))
seed("pictures", "sixteen.png", saved(Image.fromarray(numpy.arange(99, dtype=numpy.uint16).reshape(9, 11) * 600), "PNG"))
for name in ["palette.png", "bits.png", "animated.png", "animated.webp"]:
    seed("pictures", name, (golden / "decode" / name).read_bytes())
seed("pictures", "lossy.webp", saved(picture(), "WEBP"))
seed("pictures", "lossless.webp", saved(picture("RGBA"), "WEBP", lossless=True))
seed("pictures", "two.gif", saved(picture().quantize(9), "GIF", save_all=True, append_images=[picture("L").convert("P")]))
seed("pictures", "plain.bmp", saved(picture(size=(5, 3)), "BMP"))
seed("pictures", "palette.bmp", saved(picture(size=(9, 3)).quantize(16), "BMP"))
exif = Image.Exif()
exif[0x112] = 6
seed("pictures", "turned.jpg", saved(picture(size=(9, 5)), "JPEG", exif=exif))

# what PNG files say of themselves
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def texts(*chunks):
    whole = saved(picture("L", (2, 2)), "PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


record = json.dumps({"version": 1, "prompt": "a red apple", "seed": 3, "model": "built-in", "stages": {"base": {"steps": 4, "guidance": 1.5}}}).encode()
seed("png_text", "plain", texts(chunk(b"tEXt", b"parameters\0a red apple"), chunk(b"tEXt", b"imagen\0" + record)))
seed("png_text", "packed", texts(chunk(b"zTXt", b"imagen\0\0" + zlib.compress(record))))
seed("png_text", "international", texts(chunk(b"iTXt", b"imagen\0\1\0de\0imagen\0" + zlib.compress(record)), chunk(b"iTXt", b"parameters\0\0\0\0\0" + "苹果".encode())))

# tables, their kind first
rows = [{"file_name": "0.png", "text": "a thing", "texts": ["a thing", "thing"]}, {"file_name": "1.png", "text": "caf\u00e9", "split": "validation", "concept": "drink"}]
seed("tables", "lines", b"\0" + "".join(json.dumps(row) + "\n" for row in rows).encode())
seed("tables", "lines-utf16", b"\0" + "".join(json.dumps(row) + "\r\n" for row in rows).encode("utf-16"))
seed("tables", "csv", b"\1" + b'file_name,text\n0.png,"a ""red"" thing"\n1.png,"two\nlines"\n')
seed("tables", "semicolons", b"\1" + "file_name;text;concept\r\n0.png;café;x\r\n".encode("cp1252"))
seed("tables", "coco", b"\2" + json.dumps({"images": [{"id": k, "file_name": f"{k}.png"} for k in range(2)], "annotations": [{"id": k, "image_id": k % 2, "caption": f"thing {k}"} for k in range(3)]}).encode())
seed("tables", "text", b"\3" + "\ufeffa thing\r\ncafé\n".encode())

# suites of prompts, which are told from a study's manifest by the first byte
seed("study", "suite", b"\1" + b'prompt,category\n"a red, round thing",Colors\ntwo things,Counting\n')

# statistics, their kind first
for name in ["compressed", "stored", "single", "columns", "other"]:
    seed("statistics", name, b"\1" + (golden / f"eval/npz/{name}.npz").read_bytes())
