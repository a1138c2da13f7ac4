"""Makes the golden files of this folder with transformers and Pillow.

    python make.py        # needs torch, transformers, tokenizers, pillow

tiny/             a CLIP of random weights, both towers (config.json, model.safetensors, preprocessor_config.json, vocab.json,
                  merges.txt), trained on no text but a few lines of words
gelu/             the text tower alone with exact GELU (clip_text_model), under the names that transformers saves it by
clip.safetensors  ids, masks, hidden_states[-2], last_hidden_state and embeddings of texts; pictures, pixels and embeddings
tokens.json       awkward captions and the ids that transformers' tokenizer makes of them, cut at 24
"""

import json
import shutil
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers, Regex
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

HERE = Path(__file__).parent
MARKS = ["<|startoftext|>", "<|endoftext|>"]
CAPTIONS = json.loads((HERE.parent / "t5" / "tokens.json").read_text())
CAPTIONS = [row["caption"] for row in CAPTIONS] + ["it's what we'll 've 12345 UPPER", "marks <|endoftext|> inside"]
LINES = ["a red apple on a wooden table", "một quả táo đỏ trên chiếc bàn gỗ", "pictures of cats and dogs", "it's what we'll see"]


def vocabulary(folder):
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=MARKS[1]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    trainer = trainers.BpeTrainer(
        vocab_size=600, end_of_word_suffix="</w>", initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(LINES * 10, trainer)
    saved = json.loads(tokenizer.to_str())["model"]
    words = list(saved["vocab"])
    words += [w + "</w>" for w in words if len(w) == 1 and w + "</w>" not in saved["vocab"]]
    ids = {word: i for i, word in enumerate(words + MARKS)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False) + "\n")
    merges = [" ".join(m) if isinstance(m, list) else m for m in saved["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return ids


def randomise(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2)
    return model.eval()


def batch(vocab, end):
    ids = torch.randint(0, vocab - 2, (3, 9))
    ids[:, 0] = vocab - 2
    mask = torch.arange(9) < torch.tensor([[9], [6], [2]])
    for row, length in enumerate([9, 6, 2]):
        ids[row, length - 1 :] = end
    return ids, mask


PREPROCESSOR = {
    "do_resize": True, "size": {"shortest_edge": 24}, "resample": 3, "do_center_crop": True,
    "crop_size": {"height": 24, "width": 24}, "do_rescale": True, "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def preprocess(picture):
    """The steps of the published preprocessor, with Pillow."""
    side, (wide, high) = 24, picture.size
    short = min(wide, high)
    picture = picture.resize((int(side * wide / short), int(side * high / short)), Image.BICUBIC)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    pixels = torch.tensor(list(picture.tobytes()), dtype=torch.float32).reshape(side, side, 3) / 255
    return (pixels - torch.tensor(PREPROCESSOR["image_mean"])) / torch.tensor(PREPROCESSOR["image_std"])


def write(folder, config):
    (folder / "config.json").write_text(json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n")


def main():
    torch.manual_seed(4)
    for name in ["tiny", "gelu"]:
        shutil.rmtree(HERE / name, ignore_errors=True)
        (HERE / name).mkdir()
    ids = vocabulary(HERE / "tiny")
    vocab, end = len(ids), ids[MARKS[1]]
    text = dict(vocab_size=vocab, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3,
                max_position_embeddings=24, projection_dim=20, bos_token_id=ids[MARKS[0]], eos_token_id=end, pad_token_id=end)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=24,
                  patch_size=8, projection_dim=20)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    model = randomise(CLIPModel(config))
    write(HERE / "tiny", config)
    save_file({k: v.clone().contiguous() for k, v in model.state_dict().items() if "position_ids" not in k},
              HERE / "tiny" / "model.safetensors")
    golden = {}
    i, m = batch(vocab, end)
    golden |= {"ids": i.int(), "mask": m.int()}
    with torch.no_grad():
        states = model.text_model(input_ids=i, attention_mask=m.long(), output_hidden_states=True)
        golden["penultimate"] = states.hidden_states[-2]
        golden["last"] = states.last_hidden_state
        golden["text"] = model.text_projection(states.pooler_output)

    alone = CLIPTextConfig(**(text | dict(hidden_act="gelu", num_hidden_layers=2)))
    tower = randomise(CLIPTextModel(alone))
    tower.save_pretrained(HERE / "gelu")
    write(HERE / "gelu", alone)
    with torch.no_grad():
        states = tower(input_ids=i, attention_mask=m.long(), output_hidden_states=True)
        golden["gelu.penultimate"] = states.hidden_states[-2]
        golden["gelu.last"] = states.last_hidden_state

    (HERE / "tiny" / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=1, sort_keys=True) + "\n")
    pixels = []
    for n, (wide, high) in enumerate([(40, 31), (24, 24), (17, 50)]):
        picture = torch.randint(0, 256, (high // 3 + 1, wide // 3 + 1, 3), dtype=torch.uint8).numpy()
        picture = Image.fromarray(picture).resize((wide, high), Image.BILINEAR)
        golden[f"picture.{n}"] = torch.tensor(list(picture.tobytes()), dtype=torch.uint8).reshape(high, wide, 3)
        pixels.append(preprocess(picture))
    golden["pixels"] = torch.stack(pixels)
    pixels = golden["pixels"].permute(0, 3, 1, 2)
    with torch.no_grad():
        golden["image"] = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        unit = lambda x: x / x.norm(dim=1, keepdim=True)
        golden["similarity"] = unit(golden["image"]) @ unit(golden["text"]).T
        golden["scale"] = model.logit_scale.exp().reshape(1)
    save_file({k: v.contiguous() for k, v in golden.items()}, HERE / "clip.safetensors")

    tokenizer = CLIPTokenizer.from_pretrained(HERE / "tiny")
    encode = lambda caption: tokenizer(caption, truncation=True, max_length=24)["input_ids"]
    lines = ",\n".join(json.dumps({"caption": c, "ids": encode(c)}, ensure_ascii=True) for c in CAPTIONS)
    (HERE / "tokens.json").write_text(f"[\n{lines}\n]\n")


main()
