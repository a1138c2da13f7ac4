"""Makes score.json of this folder with transformers' CLIPModel: CLIP scores of the pictures of clip.safetensors.

    python make_score.py        # after make.py; needs torch, transformers

Each row is a picture's number, a caption and 100 max(cos, 0).
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTokenizer

HERE = Path(__file__).parent
CAPTIONS = ["a red apple on a wooden table", "pictures of cats and dogs", "it's what we'll see", "a", "12345 apples"]


def main():
    model = CLIPModel.from_pretrained(HERE / "tiny").eval()
    tokenizer = CLIPTokenizer.from_pretrained(HERE / "tiny")
    golden = load_file(HERE / "clip.safetensors")
    words = tokenizer(CAPTIONS, padding=True, truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():
        logits = model(**words, pixel_values=golden["pixels"].permute(0, 3, 1, 2)).logits_per_image
    scores = 100 * (logits / model.logit_scale.exp()).clamp(min=0)
    rows = [
        {"picture": n, "caption": caption, "score": scores[n, k].item()}
        for n in range(len(scores)) for k, caption in enumerate(CAPTIONS)
    ]
    print(scores)
    lines = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "score.json").write_text(f"[\n{lines}\n]\n")


main()
