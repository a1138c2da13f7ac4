"""Writes jpeg.safetensors for tests/it/image.rs: JPEG files of every form that libjpeg-turbo writes, and the pixels that Pillow
reads out of them.

    python make_jpeg.py        (Pillow 13, cjpeg of libjpeg-turbo 2.1)

`NAME.file` holds the bytes of a file, `NAME.pixels` its pixels, [height, width, 3] or [height, width] of grey.
"""

import io
import subprocess
from pathlib import Path

import numpy
from PIL import Image
from safetensors.numpy import save_file

FORMS = {
    "444": ["-sample", "1x1"],
    "422": ["-sample", "2x1"],
    "420": ["-sample", "2x2"],
    "440": ["-sample", "1x2"],
    "411": ["-sample", "4x1"],
    "441": ["-sample", "1x4"],
    "410": ["-sample", "4x2"],
    "mixed": ["-sample", "2x1,1x2"],
    "coarse-first": ["-sample", "1x1,2x2"],
    "progressive": ["-progressive"],
    "progressive-restarts": ["-progressive", "-sample", "2x1", "-restart", "2B"],
    "restarts": ["-restart", "1B"],
    "optimised": ["-optimize", "-quality", "100"],
    "coarse-steps": ["-quality", "1"],
    "grey": ["-grayscale", "-progressive"],
    "rgb": ["-rgb"],
}

numbers = numpy.random.default_rng(3)
y, x = numpy.mgrid[0:21, 0:19]
scene = numpy.stack([x * 37 + y * 11, y * 53, x * y * 3], -1) % 256
scene[5:12, 4:15] = numbers.integers(0, 256, (7, 11, 3))
scene = Image.fromarray(scene.astype(numpy.uint8))
ppm = io.BytesIO()
scene.save(ppm, "PPM")

files = {name: subprocess.run(["cjpeg", *words], input=ppm.getvalue(), capture_output=True, check=True).stdout for name, words in FORMS.items()}
for name, options in {"cmyk": {}, "cmyk-progressive": {"progressive": True, "quality": 90}}.items():
    out = io.BytesIO()
    inks = numpy.concatenate([numpy.asarray(scene), numpy.asarray(scene)[..., :1] // 2], -1)
    Image.frombytes("CMYK", scene.size, inks.tobytes()).save(out, "JPEG", **options)
    files[name] = out.getvalue()
# Adobe's mark of brightness and differences beside black; the pixels are then others, which is what counts
files["ycck"] = files["cmyk"].replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2")
assert files["ycck"] != files["cmyk"]
for wide, high in [(1, 1), (2, 3), (3, 2), (5, 1), (16, 16), (17, 33)]:
    out = io.BytesIO()
    scene.resize((wide, high)).save(out, "JPEG", subsampling=2)
    files[f"{wide}x{high}"] = out.getvalue()

tensors = {}
for name, data in files.items():
    picture = Image.open(io.BytesIO(data))
    tensors[f"{name}.file"] = numpy.frombuffer(data, numpy.uint8)
    tensors[f"{name}.pixels"] = numpy.asarray(picture if picture.mode == "L" else picture.convert("RGB"))
save_file(tensors, Path(__file__).parent / "jpeg.safetensors")
