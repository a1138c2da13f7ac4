"""Writes pictures in forms that the image crate does not write, for tests/it/image.rs.

    python make.py        (Pillow 13)

All are of 16x16 pixels in four quarters; the tests know their colours.
"""

from pathlib import Path

from PIL import Image

here = Path(__file__).parent


def quarters(mode, upper_left, upper_right, lower_left, lower_right):
    picture = Image.new(mode, (16, 16))
    corners = {(0, 0): upper_left, (8, 0): upper_right, (0, 8): lower_left, (8, 8): lower_right}
    for (x, y), colour in corners.items():
        picture.paste(colour, (x, y, x + 8, y + 8))
    return picture


# Cyan, magenta, yellow and black ink; Pillow writes inks upside down, as Adobe does, and says so with its marker.
inks = quarters("CMYK", (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255))
inks.save(here / "cmyk.jpg", quality=95)

first = quarters("RGBA", (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255), (0, 0, 0, 0))
second = quarters("RGBA", (9, 9, 9, 255), (9, 9, 9, 255), (9, 9, 9, 255), (9, 9, 9, 255))
animation = dict(save_all=True, append_images=[second, second], duration=100, loop=0)
first.save(here / "animated.webp", lossless=True, exact=True, **animation)
first.save(here / "animated.png", **animation)

# Two bits a pixel, the last entry of the palette clear.
palette = Image.new("P", (16, 16))
palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 1, 2, 3])
for index, (x, y) in enumerate([(0, 0), (8, 0), (0, 8), (8, 8)]):
    palette.paste(index, (x, y, x + 8, y + 8))
palette.save(here / "palette.png", transparency=bytes([255, 255, 255, 0]), bits=2)

quarters("RGB", (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)).save(here / "progressive.jpg", progressive=True, quality=95)
quarters("L", 0, 85, 170, 255).convert("1").save(here / "bits.png")
Image.new("RGB", (4, 4), (1, 2, 3)).save(here / "picture.avif")
