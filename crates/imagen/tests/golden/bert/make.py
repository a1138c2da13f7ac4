"""Makes the golden files of this folder with transformers.

    python make.py FOLDER        # needs torch, transformers; FOLDER is the original all-MiniLM-L6-v2

tiny/               a BERT of random weights with every part large enough to matter (config.json, model.safetensors)
tiny.safetensors    token ids, mask and last_hidden_state of that network
tokens.json         awkward captions and the ids that transformers' tokenizer makes of them, cut at 64
minilm.safetensors  last_hidden_state of the original f32 weights for the captions named in the header, one by one
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, BertConfig, BertModel

HERE = Path(__file__).parent
MAX_LENGTH = 64

CAPTIONS = [
    "",
    " ",
    "a red apple",
    "  spaces   and\ttabs\nand lines  ",
    "A CORGI in San Francisco!!",
    "Một quả táo đỏ trên chiếc bàn gỗ",
    "Chú chó đội mũ phớt, nghiêng đầu ngắm hoàng hôn",
    "Phở bò tái chín – 45.000₫",
    # The same words with combining marks instead of composed letters.
    "Mo\u0323\u0302t qua\u0309 ta\u0301o \u0111o\u0309",
    "crème brûlée à la façon de l'Élysée",
    "Größe, Straße, Übermut",
    "İstanbul'da bir kedi",
    "قطة صغيرة تنام على البيانو",
    "חתול שחור על פסנתר",
    "mixed עברית and English تفاحة together",
    "赤いりんごと猫",
    "一只戴帽子的狗",
    "빨간 사과",
    "สุนัขใส่หมวก",
    "लाल सेब",
    "🍎",
    "a 🐶 and a 🐱, 👩‍👩‍👧‍👦 🇻🇳 👍🏽",
    "don't; it's (really) \"quoted\" – $3.50/€2, 50% off… #tag @home",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 100,
    "x" * 101,
    "word " * 100,
    "un" + "believ" * 40 + "able",
    "[MASK] [SEP] [CLS] [PAD] [UNK]",
    "ﬁne ﬂuﬀy ligatures, ｆｕｌｌｗｉｄｔｈ, x² ½ Ⅷ",
    "zero\u200bwidth soft\u00adhyphen bom\ufeff nul\u0000 replacement\ufffd bell\u0007",
    "𝒻𝒶𝓃𝒸𝓎 𐍈 🀄 ☃",
]

DRAWN = [
    "a red apple",
    "A CORGI in San Francisco!!",
    "Một quả táo đỏ trên chiếc bàn gỗ",
    "",
    ".",
    "a green cube on top of a yellow sphere",
]


def tiny():
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=53,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=16,
        layer_norm_eps=0.05,
        hidden_act="gelu",
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.3)
    ids = torch.randint(0, config.vocab_size, (3, 11))
    mask = torch.arange(11) < torch.tensor([[11], [7], [1]])
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    (HERE / "tiny").mkdir(exist_ok=True)
    (HERE / "tiny" / "config.json").write_text(json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, HERE / "tiny" / "model.safetensors")
    golden = {"ids": ids.int(), "mask": mask.int(), "last_hidden_state": states}
    save_file(golden, HERE / "tiny.safetensors")


def minilm(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encode = lambda caption: tokenizer(caption, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    pairs = [{"caption": caption, "ids": encode(caption)} for caption in CAPTIONS]
    lines = ",\n".join(json.dumps(pair, ensure_ascii=True) for pair in pairs)
    (HERE / "tokens.json").write_text(f"[\n{lines}\n]\n")
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        states = [model(torch.tensor([encode(caption)])).last_hidden_state[0] for caption in DRAWN]
    save_file(
        {str(index): state.contiguous() for index, state in enumerate(states)},
        HERE / "minilm.safetensors",
        metadata={"captions": json.dumps(DRAWN)},
    )


tiny()
minilm(sys.argv[1])
