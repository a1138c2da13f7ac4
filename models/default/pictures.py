#!/usr/bin/env python3
"""Draws `pictures.png` of GUIDE.md with the built-in model: models/default/pictures.py [PROGRAM]. Needs Pillow."""

import pathlib
import subprocess
import sys
import tempfile

from PIL import Image, ImageDraw, ImageFont

program = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/release/imagen").resolve()
here = pathlib.Path(__file__).parent.resolve()
SIDE, GAP, LINE = 128, 6, 14


def main(folder):
    def draw(name, *arguments, until="base"):
        subprocess.run(
            [program, "sample", *map(str, arguments), "--until", until, "-q", "-f", "-o", name], cwd=folder, check=True,
            stdout=subprocess.DEVNULL,
        )
        return name

    apple = draw("apple.png", "a red apple", "--seed", 7)
    Image.new("L", (64, 64), 0).save(folder / "mask.png")
    mask = Image.open(folder / "mask.png")
    ImageDraw.Draw(mask).ellipse([26, 2, 50, 26], fill=255)
    mask.save(folder / "mask.png")
    Image.open(folder / apple).crop((0, 0, 40, 64)).save(folder / "cut.png")
    shown = [
        (apple, "a red apple, seed 7"),
        (draw("half.png", "a green pear", "--seed", 7, "--image", apple, "--strength", 0.7), "a green pear, --strength 0.7"),
        (draw("most.png", "a green pear", "--seed", 7, "--image", apple, "--strength", 0.9), "a green pear, --strength 0.9"),
        ("mask.png", "--mask"),
        (draw("mended.png", "a red apple with a green leaf", "--seed", 3, "--image", apple, "--mask", "mask.png",
              "--feather", 2, "--resample", 3), "mended, --resample 3"),
        (draw("wide.png", "a red apple", "--seed", 5, "--image", "cut.png", "--extend", "right=24", "--resample", 3),
         "cut, --extend right=24"),
    ]
    shown += [
        (apple, "64 pixels"),
        (draw("large.png", "a red apple", "--from", "sr256", "--image", "apple.png", until="sr256"), "--from sr256"),
    ]
    draw("way-{index}.png", "a red apple", "--to", "a blue car", "--frames", 5, "--seed", 7)
    shown += [(f"way-{k}.png", f"to a blue car, {25 * k} %") for k in range(5)]
    draw("vary-{index}.png", "a red apple", "--seed", 7, "--vary", 0.4, "--count", 3)
    shown += [(f"vary-{k}.png", "--vary 0.4") for k in (1, 2)]
    cells = []
    for name, caption in shown:
        picture = Image.open(folder / name).convert("RGB")
        width = SIDE * picture.width // picture.height
        cells.append((picture.resize((width, SIDE), Image.NEAREST if picture.height < SIDE else Image.LANCZOS), caption))
    rows = [cells[:6], cells[6:8] + cells[13:], cells[8:13]]
    width = max(sum(picture.width + GAP for picture, _ in row) for row in rows) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (SIDE + LINE + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for i, row in enumerate(rows):
        x, y = GAP, GAP + i * (SIDE + LINE + GAP)
        for picture, caption in row:
            sheet.paste(picture, (x, y))
            pen.text((x, y + SIDE + 1), caption, "black", font)
            x += picture.width + GAP
    sheet.save(here / "pictures.png", optimize=True)


with tempfile.TemporaryDirectory() as folder:
    main(pathlib.Path(folder))
