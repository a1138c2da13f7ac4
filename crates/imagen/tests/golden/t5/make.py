"""Makes the golden files of this folder with transformers and sentencepiece.

    python make.py        # needs torch, transformers, sentencepiece, protobuf

gated/                T5 v1.1 of random weights, encoder and decoder in one file, with spiece.model: what a folder looks like
plain/                T5 v1.0 of random weights, encoder alone, f16, cut into shards under an index, with tokenizer.json
states.safetensors    token ids, masks and last_hidden_state of both: a padded batch, one token, 512 tokens
tokens.json           awkward captions and the ids that sentencepiece and transformers make of them, cut at 128
"""

import json
import shutil
import tempfile
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration, T5Tokenizer

HERE = Path(__file__).parent
MAX_LENGTH = 128

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
    "x" * 300,
    "word " * 200,
    "un" + "believ" * 40 + "able",
    "ﬁne ﬂuﬀy ligatures, ｆｕｌｌｗｉｄｔｈ, x² ½ Ⅷ",
    "zero\u200bwidth soft\u00adhyphen bom\ufeff nul\u0000 replacement\ufffd bell\u0007",
    "line\u2028separator\u2029paragraph\u0085next\u00a0no-break\u3000wide",
    "𝒻𝒶𝓃𝒸𝓎 𐍈 🀄 ☃",
    "▁already ▁▁marked▁",
]
# Marks in a caption: sentencepiece reads them as text, transformers as what they mark.
MARKED = ["an <extra_id_0> apple <extra_id_99>", "an apple</s> and <pad> more <unk>"]

TEXT = """
a red apple on a wooden table . a green cube on top of a yellow sphere . a photo of a corgi wearing a hat in san francisco
một quả táo đỏ trên chiếc bàn gỗ . chú chó đội mũ phớt nghiêng đầu ngắm hoàng hôn . phở bò tái chín
crème brûlée à la façon de l'élysée . größe straße übermut . the quick brown fox jumps over the lazy dog
pictures of cats and dogs and apples , believe it or not , unbelievable words and wordy wording
0 1 2 3 4 5 6 7 8 9 10 45 100 $ % # @ ( ) " ' ; ! ? … – é à ô
"""


def train(folder, name, rule):
    corpus = Path(folder) / "corpus.txt"
    corpus.write_text("\n".join(TEXT.strip().splitlines() * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(Path(folder) / name), vocab_size=200, model_type="unigram",
        normalization_rule_name=rule, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False,
        num_threads=1, minloglevel=2,
    )
    return Path(folder) / f"{name}.model"


def randomise(model, std):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name:
                parameter.normal_(1.0, 0.2)
            elif "relative_attention_bias" in name:
                parameter.normal_(0.0, 1.5)
            elif "embed" in name or "shared" in name:
                parameter.normal_(0.0, 1.0)
            else:
                parameter.normal_(0.0, std)
    return model.eval()


def states(model, ids, mask):
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask.long()).last_hidden_state


def golden(name, model, vocabulary):
    ids = torch.randint(3, vocabulary, (3, 11))
    mask = torch.arange(11) < torch.tensor([[11], [7], [1]])
    ids[~mask] = 0
    one = torch.tensor([[1]])
    long = torch.randint(3, vocabulary, (1, 512))
    result = {}
    for case, (i, m) in {"batch": (ids, mask), "one": (one, one == 1), "long": (long, long >= 0)}.items():
        result |= {f"{name}.{case}.ids": i.int(), f"{name}.{case}.mask": m.int()}
        result[f"{name}.{case}.states"] = states(model, i, m).contiguous()
    return result


def configuration(**more):
    return T5Config(
        vocab_size=320, d_model=24, d_kv=8, num_layers=2, num_decoder_layers=1, relative_attention_num_buckets=32,
        relative_attention_max_distance=128, decoder_start_token_id=0, **more,
    )


def main():
    torch.manual_seed(5)
    gated = configuration(d_ff=40, num_heads=2, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    full = randomise(T5ForConditionalGeneration(gated), 0.3)
    plain = configuration(d_ff=36, num_heads=4, feed_forward_proj="relu")
    encoder = randomise(T5EncoderModel(plain), 0.3)
    encoder = encoder.half().float()  # what f16 holds
    for name in ["gated", "plain"]:
        shutil.rmtree(HERE / name, ignore_errors=True)
        (HERE / name).mkdir()
    write = lambda folder, config: (HERE / folder / "config.json").write_text(
        json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"
    )
    write("gated", gated)
    write("plain", plain)
    save_file({k: v.clone().contiguous() for k, v in full.state_dict().items()}, HERE / "gated" / "model.safetensors")
    # an encoder that is saved alone, its table under the name that it has there
    tensors = {k: v.half().contiguous() for k, v in encoder.state_dict().items() if k != "shared.weight"}
    half = len(tensors) // 2
    weight_map = {}
    for number, names in enumerate([list(tensors)[:half], list(tensors)[half:]], 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({k: tensors[k].clone() for k in names}, HERE / "plain" / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": sum(2 * t.numel() for t in tensors.values())}, "weight_map": weight_map}
    (HERE / "plain" / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    save_file(golden("gated", full.encoder, 320) | golden("plain", encoder, 320), HERE / "states.safetensors")

    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(train(folder, "full", "nmt_nfkc"), HERE / "gated" / "spiece.model")
        shutil.copy(train(folder, "bare", "identity"), Path(folder) / "spiece.model")
        bare = T5Tokenizer.from_pretrained(folder)
        bare.save_pretrained(Path(folder) / "saved")
        shutil.copy(Path(folder) / "saved" / "tokenizer.json", HERE / "plain" / "tokenizer.json")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(HERE / "gated" / "spiece.model"))
    cut = lambda ids: ids[: MAX_LENGTH - 1] + [1]
    fast = T5Tokenizer.from_pretrained(HERE / "gated")
    encode = lambda tokenizer, caption: tokenizer(caption, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    rows = []
    for caption in CAPTIONS + MARKED:
        row = {"caption": caption, "transformers": encode(fast, caption), "bare": encode(bare, caption)}
        if caption not in MARKED:
            row["sentencepiece"] = cut(processor.encode(caption))
            if row["sentencepiece"] != row["transformers"]:
                print("differ:", repr(caption[:60]), row["sentencepiece"][:30], row["transformers"][:30])
        rows.append(row)
    lines = ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    (HERE / "tokens.json").write_text(f"[\n{lines}\n]\n")


main()
