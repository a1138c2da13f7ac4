"""Makes the golden adapters for cascade/lora.rs and train/lora.rs: `python make.py`, with torch and peft 0.21.

A network of two modules, `down.conv` (Conv2d 3 → 5 channels, 3 × 3) and `attention.q` (Linear 6 → 4), is wrapped by PEFT
with rank 2 and alpha 6 and given adapters that are not zero.

adapter_model.safetensors  as PEFT saves it, plus what its adapter_config.json says of alpha, as kohya's tools write it
lora.safetensors           in this project's layouts (convolutions [kh, kw, in, out], linear layers [in, out]): `base.P` and
                           `merged.P` of both parameters; `grad.P`, the gradient of a loss by the merged parameter;
                           and `grad_a.P`, `grad_b.P`, those by the adapters from PEFT's own backward pass, A as [r, kh · kw · in]
"""

import os
import tempfile

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
RANK, ALPHA = 2, 6


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.down = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(3, 5, 3, padding=1)})
        self.attention = torch.nn.ModuleDict({"q": torch.nn.Linear(6, 4)})

    def forward(self, picture, tokens):
        return self.down["conv"](picture).sin().sum() + (self.attention["q"](tokens) ** 2).sum()


def ours(tensor):
    return tensor.permute(2, 3, 1, 0).contiguous() if tensor.dim() == 4 else tensor.T.contiguous()


def flat_a(tensor):
    return tensor.permute(0, 2, 3, 1).flatten(1).contiguous() if tensor.dim() == 4 else tensor.contiguous()


torch.manual_seed(5)
network = Network()
base = {name: p.detach().clone() for name, p in network.named_parameters() if name.endswith("weight")}
model = get_peft_model(network, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["conv", "q"]))
for name, parameter in model.named_parameters():
    if "lora_" in name:
        parameter.data = 0.3 * torch.randn_like(parameter)

picture, tokens = torch.randn(2, 3, 7, 7), torch.randn(5, 6)
model(picture, tokens).backward()
found = {}
for name, parameter in model.named_parameters():
    for letter in "AB":
        if f"lora_{letter}" in name:
            module = name.removeprefix("base_model.model.").split(".lora_")[0]
            gradient = flat_a(parameter.grad) if letter == "A" else parameter.grad.flatten(1).contiguous()
            found[f"grad_{letter.lower()}.{module}.weight"] = gradient

with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    adapters = load_file(os.path.join(folder, "adapter_model.safetensors"))
modules = {name.split(".lora_")[0] for name in adapters}
adapters |= {f"{module}.alpha": torch.tensor(float(ALPHA)) for module in modules}
save_file(adapters, os.path.join(HERE, "adapter_model.safetensors"))

merged = model.merge_and_unload()
for parameter in merged.parameters():
    parameter.requires_grad_(True)
    parameter.grad = None
merged(picture, tokens).backward()
for name, parameter in merged.named_parameters():
    if name in base:
        found[f"base.{name}"] = ours(base[name])
        found[f"merged.{name}"] = ours(parameter.detach())
        found[f"grad.{name}"] = ours(parameter.grad)
save_file(found, os.path.join(HERE, "lora.safetensors"))
for name, tensor in sorted((found | adapters).items()):
    print(name, list(tensor.shape))
