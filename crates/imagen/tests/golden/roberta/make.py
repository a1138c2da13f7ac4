"""Makes the golden files of this folder with transformers.

    python make.py        # needs torch, transformers, tokenizers

tiny/                 a RoBERTa of random weights (config.json, model.safetensors with the prefix of a model with a head,
                      vocab.json, merges.txt)
states.safetensors    token ids, mask and last_hidden_state
tokens.json           awkward captions and the ids that transformers' tokenizer makes of them, cut at 20
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

HERE = Path(__file__).parent
CAPTIONS = [row["caption"] for row in json.loads((HERE.parent / "t5" / "tokens.json").read_text())]
CAPTIONS += ["a <mask> apple", "an end</s> inside <pad>"]
LINES = ["a red apple on a wooden table", "một quả táo đỏ trên chiếc bàn gỗ", "pictures of cats and dogs", "it's what we'll see"]


def main():
    torch.manual_seed(6)
    shutil.rmtree(HERE / "tiny", ignore_errors=True)
    (HERE / "tiny").mkdir()
    tokenizer = ByteLevelBPETokenizer()
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(LINES * 10, vocab_size=320, special_tokens=marks, show_progress=False)
    tokenizer.save_model(str(HERE / "tiny"))
    vocab = tokenizer.get_vocab_size()
    config = RobertaConfig(
        vocab_size=vocab, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=22, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )
    model = RobertaModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.3)
    (HERE / "tiny" / "config.json").write_text(json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n")
    save_file({"roberta." + k: v.contiguous() for k, v in model.state_dict().items()}, HERE / "tiny" / "model.safetensors")
    ids = torch.randint(5, vocab, (3, 20))
    mask = torch.arange(20) < torch.tensor([[20], [7], [1]])
    ids[~mask] = 1
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    save_file({"ids": ids.int(), "mask": mask.int(), "states": states.contiguous()}, HERE / "states.safetensors")
    reference = RobertaTokenizer.from_pretrained(HERE / "tiny")
    encode = lambda caption: reference(caption, truncation=True, max_length=20)["input_ids"]
    lines = ",\n".join(json.dumps({"caption": c, "ids": encode(c)}, ensure_ascii=True) for c in CAPTIONS)
    (HERE / "tokens.json").write_text(f"[\n{lines}\n]\n")


main()
