"""Makes the small world that tests compose: seven nouns of plain shapes in three styles, 48 pixels wide.

    pip install pillow==13.0.0 && python make.py
"""

import hashlib
import json
import pathlib

from PIL import Image, ImageDraw

SIDE, FINE = 48, 8
HERE = pathlib.Path(__file__).parent
STYLES = ["3d", "flat", "line icon"]


def shapes(name, s):
    """What a noun is made of, as calls of a drawing of side s: (method, coordinates)."""
    corner = lambda points: [(x * s, y * s) for x, y in points]
    return {
        "ball": [("ellipse", (0, 0, s, s))],
        "box": [("rectangle", (0, 0.1 * s, s, 0.9 * s))],
        "kite": [("polygon", corner([(0.5, 0), (0.9, 0.4), (0.5, 1), (0.1, 0.4)]))],
        "egg": [("ellipse", (0.12 * s, 0, 0.88 * s, s))],
        "pole": [("rectangle", (0.4 * s, 0, 0.6 * s, s))],
        "apple": [("ellipse", (0, 0.15 * s, s, s)), ("rectangle", (0.46 * s, 0, 0.54 * s, 0.2 * s))],
        "flag of nowhere": [("rectangle", (0, 0.2 * s, s, 0.8 * s))],
    }[name]


def draw(name, style, colour):
    """RGBA at SIDE, drawn large and reduced."""
    s = SIDE * FINE
    mask = Image.new("L", (s, s), 0)
    pen = ImageDraw.Draw(mask)
    for method, where in shapes(name, s - 1):
        getattr(pen, method)(where, fill=255)
    if style == "line icon":
        inner = Image.new("L", (s, s), 0)
        pen = ImageDraw.Draw(inner)
        for method, where in shapes(name, s * 0.72):
            getattr(pen, method)(where, fill=255)
        mask.paste(0, (int(s * 0.14), int(s * 0.14)), inner.crop((0, 0, int(s * 0.72), int(s * 0.72))))
        colour = (0, 0, 0)
    picture = Image.new("RGB", (s, s), colour)
    if style == "3d":
        light = Image.linear_gradient("L").resize((s, s))
        picture = Image.composite(Image.new("RGB", (s, s), tuple(c // 2 for c in colour)), picture, light)
    picture.putalpha(mask)
    return picture.resize((SIDE, SIDE), Image.BOX)


NOUNS = [
    ("ball", "balls", "a", [("globe", "globes", "a")], "toy", True, [None]),
    ("box", "boxes", "a", [], "thing", True, [None]),
    ("kite", "kites", "a", [], "toy", True, [None]),
    ("egg", "eggs", "an", [], "food", True, [None]),
    ("pole", "poles", "a", [("post", "posts", "a")], "thing", True, [None]),
    ("apple", "apples", "an", [], "food", True, ["red", "green"]),
    ("flag of nowhere", "flags of nowhere", "the", [], "flag", False, [None]),
]
COLOURS = {None: (200, 130, 60), "red": (210, 50, 50), "green": (60, 150, 70)}

nouns, digest = [], hashlib.sha256()
for noun, plural, article, synonyms, group, core, colours in NOUNS:
    cutouts = []
    for style in STYLES[1:2] if group == "flag" else STYLES:
        for colour in colours if style != "line icon" else [None]:
            picture = draw(noun, style, COLOURS[colour])
            name = "-".join([noun.replace(" ", "-")] + ([colour] if colour else []))
            path = HERE / "cutouts" / style.replace(" ", "-") / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, optimize=True)
            pixels = [p for p in picture.get_flattened_data() if p[3] > 127]
            mean = [sum(p[i] for p in pixels) // len(pixels) for i in range(3)]
            digest.update(picture.tobytes())
            cutouts.append({"file": path.relative_to(HERE).as_posix(), "style": style, "source": "make.py", "colour": colour,
                            "tint": style == "line icon", "mean": mean})
    words = [{"noun": n, "plural": p, "article": a} for n, p, a in synonyms]
    nouns.append({"noun": noun, "plural": plural, "article": article, "synonyms": words, "group": group, "core": core,
                  "flip": group != "flag", "turn": group != "flag", "cutouts": cutouts})
bank = {"imagen_bank": 1, "size": SIDE, "digest": digest.hexdigest()[:16], "sources": [], "nouns": nouns}
(HERE / "bank.json").write_text(json.dumps(bank, indent=1) + "\n")
