"""A tiny random safety checker in the layout of DeepFloyd IF's folders, and what diffusers makes of pictures with it.

Run from anywhere: `python make_safety.py` (diffusers 0.42, transformers 5.23, torch 2.15, Pillow). It writes `safety/`:
`safety_checker/` and `feature_extractor/` as `save_pretrained` leaves them, `pictures.safetensors`: pictures u8 [h, w, 3],
the logits of both heads [n] and what diffusers withheld (i32 [n]).
"""

import pathlib
import shutil

import numpy as np
import torch
from diffusers.pipelines.deepfloyd_if.safety_checker import IFSafetyChecker
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPVisionConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

HERE = pathlib.Path(__file__).parent / "safety"


def main():
    torch.manual_seed(3)
    shutil.rmtree(HERE, ignore_errors=True)
    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, image_size=24, patch_size=8,
        projection_dim=20, hidden_act="quick_gelu",
    )
    checker = IFSafetyChecker(CLIPConfig(vision_config=vision.to_dict(), projection_dim=20)).eval()
    with torch.no_grad():
        for name, value in checker.named_parameters():
            value.normal_(1.0 if "norm" in name and "weight" in name else 0.0, 0.2)
    # with Pillow, as the original was; the processor on tensors rounds some bytes otherwise
    extractor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})

    generator = np.random.default_rng(4)
    pictures = []
    for width, height in [(16, 16), (31, 20), (64, 64), (24, 50), (16, 16), (40, 40)]:
        small = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        pictures.append(np.asarray(Image.fromarray(small).resize((width, height), Image.BICUBIC)))
    pixels = [torch.as_tensor(np.array(extractor(Image.fromarray(p)).pixel_values[0])) for p in pictures]
    pixels = torch.stack(pixels)
    with torch.no_grad():
        embeds = checker.vision_model(pixels)[0]
        # heads that part the pictures into four kinds, far from the threshold
        for head, seed in [(checker.p_head, 1), (checker.w_head, 2)]:
            logits = embeds @ head.weight[0]
            order = logits.sort().values
            middle = (order[3] + order[4]) / 2
            scale = 2.0 / (order[4] - order[3])
            head.weight.mul_(scale)
            head.bias.fill_(float(0.5 - middle * scale))
        logits = torch.stack([checker.p_head(embeds)[:, 0], checker.w_head(embeds)[:, 0]])
    images = [p.astype(np.float32) / 255 + 0.01 for p in pictures]
    images, unsafe, marked = checker(pixels, images)
    checker.save_pretrained(HERE / "safety_checker")
    extractor.save_pretrained(HERE / "feature_extractor")
    for file in HERE.glob("*/model.safetensors"):
        file.chmod(0o644)
    out = {f"picture.{i}": torch.from_numpy(p.copy()) for i, p in enumerate(pictures)}
    out["logits.p"], out["logits.w"] = logits[0].contiguous(), logits[1].contiguous()
    out["withheld"] = torch.tensor([int(not image.any()) for image in images], dtype=torch.int32)
    out["unsafe"] = torch.tensor([int(x) for x in unsafe], dtype=torch.int32)
    out["marked"] = torch.tensor([int(x) for x in marked], dtype=torch.int32)
    print(logits, unsafe, marked)
    save_file(out, HERE / "pictures.safetensors")
    (HERE / "pictures.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
