"""Two tiny random pipelines in the layout of DeepFloyd IF, and what diffusers draws with them.

Run from anywhere: `python make.py` (diffusers 0.42, torch 2.15). It writes `one/` and `two/`, folders as
`save_pretrained` leaves them, `golden.safetensors`: inputs, every random number that diffusers drew, every step and the
final pictures ([n, h, w, c]), `timesteps.json`: the eight named lists, and `captions.json`: captions and what cleaning
makes of them (needs beautifulsoup4 and ftfy).
"""

import json
import pathlib

import torch
from diffusers import (
    DDPMScheduler,
    IFImg2ImgPipeline,
    IFImg2ImgSuperResolutionPipeline,
    IFInpaintingPipeline,
    IFInpaintingSuperResolutionPipeline,
    IFPipeline,
    IFSuperResolutionPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.deepfloyd_if import timesteps
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
TOKENS, TEXT = 5, 24
OUT = {}

COMMON = dict(
    out_channels=6, mid_block_type="UNetMidBlock2DSimpleCrossAttn", cross_attention_dim=32, attention_head_dim=8,
    act_fn="gelu", norm_num_groups=8, addition_embed_type="text", addition_embed_type_num_heads=3,
    encoder_hid_dim=TEXT, encoder_hid_dim_type="text_proj", cross_attention_norm="group_norm",
    resnet_time_scale_shift="scale_shift", only_cross_attention=False,
)
ONE = dict(
    sample_size=8, in_channels=3, block_out_channels=(8, 16), layers_per_block=2,
    down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), **COMMON,
)
TWO = dict(
    sample_size=16, in_channels=6, block_out_channels=(8, 8, 16), layers_per_block=(1, 2, 1), time_embedding_dim=40,
    down_block_types=("ResnetDownsampleBlock2D",) * 2 + ("SimpleCrossAttnDownBlock2D",),
    up_block_types=("SimpleCrossAttnUpBlock2D",) + ("ResnetUpsampleBlock2D",) * 2,
    class_embed_type="timestep", time_embedding_act_fn="gelu", resnet_skip_time_act=True,
    resnet_out_scale_factor=1.4142271248762552, mid_block_scale_factor=1.4142271248762552, **COMMON,
)


def network(config):
    """Random weights; norms too, which start as the identity."""
    unet = UNet2DConditionModel(**config).eval()
    with torch.no_grad():
        for name, value in unet.named_parameters():
            if "norm" in name:
                value.add_(0.2 * torch.randn_like(value))
    return unet


def scheduler(sample_max_value):
    return DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", variance_type="learned_range", thresholding=True,
        dynamic_thresholding_ratio=0.95, sample_max_value=sample_max_value,
    )


def nhwc(x):
    return x.detach().permute(0, 2, 3, 1).contiguous().clone()


CAPTIONS = [
    "", "a red apple", "  A Photo of a CAT  ", "một con mèo đen ngồi trên bàn gỗ", "été à la plage, ciel bleu",
    "a kangaroo holding a sign that says \"very deep learning\"", "'quoted all around'", "it's a dog's life",
    "see https://example.com/a/b?c=1 for more", "visit www.example.org/cats today", "write to me@example.com now",
    "hello @someone_99 and friends", "<b>bold</b> and <i class='x'>tilted</i> text", "a <person> on a horse",
    "fish &amp; chips &lt;fresh&gt;", "caf&eacute; au lait", "&quot;quoted&quot;", "漢字 and kana かな", "a cat — the best – one",
    "«guillemets» and “curly” ‘single’", "ip 192.168.0.1 here", "IMG_2034.jpg of a bird", "photo.png", "page 12 of a book",
    "article 1234567 in red", "jacket jc6640 and jc6640vc", "code 6640vc231 and j2d1a2a", "#1 best #12345 #winner",
    "***SALE*** (new) [hot] {now}", "free shipping worldwide", "Worldwide free shipping on shoes", "free download free icons",
    "click for details and click on me", "png image of a dog, jpg images", "dots... and more....end", "a . b . c",
    "this-is-my-cute-cat", "this_is_my_very_cute_cat_now", "two-word", "30x40 cm poster, 5.5×7", "name : value",
    "one,two.three/four", "tabs\tand\nlines\\n here", "100%25 wool%20sweater", "a+b=c", "-starts with a dash",
    "ends with a dash-", ".hidden", "emoji 😀🎉 party", "مرحبا بالعالم", "price: $19.99!", "12:30 ", "™ © ® signs · dots",
    "a very long word: donaudampfschifffahrtsgesellschaftskapitän", "3d render of a 4k tv", "\"\"double\"\" quotes",
    "mixed 'quotes\" here", "v2.0 release", "rock&roll", "x" * 300,
]


class Recorder:
    """Keeps what diffusers draws at random and what its scheduler is given and gives."""

    def __init__(self, name, pipeline, steps=False):
        self.name, self.pipeline, self.steps, self.draws = name, pipeline, steps, []

    def __enter__(self):
        import diffusers.schedulers.scheduling_ddpm as ddpm
        import sys

        self.modules = [ddpm, sys.modules[type(self.pipeline).__module__]]
        self.originals = [module.randn_tensor for module in self.modules]

        def randn(shape, generator=None, device=None, dtype=None):
            draw = torch.randn(shape, generator=None, dtype=dtype)
            self.draws.append(nhwc(draw))
            return draw

        for module in self.modules:
            module.randn_tensor = randn
        step = self.pipeline.scheduler.step
        self.step = step
        outputs = []

        def recorded(model_output, t, sample, **kwargs):
            kwargs["return_dict"] = True
            out = step(model_output, t, sample, **kwargs)
            outputs.append((int(t), model_output, sample, out.prev_sample, out.pred_original_sample))
            return (out.prev_sample,)

        self.pipeline.scheduler.step = recorded
        self.outputs = outputs
        return self

    def __exit__(self, *_):
        for module, original in zip(self.modules, self.originals):
            module.randn_tensor = original
        self.pipeline.scheduler.step = self.step
        for i, draw in enumerate(self.draws):
            OUT[f"{self.name}.noise.{i}"] = draw
        OUT[f"{self.name}.timesteps"] = torch.tensor([o[0] for o in self.outputs], dtype=torch.int32)
        if self.steps:
            for part, at in [("model_output", 1), ("sample", 2), ("previous", 3), ("x_hat", 4)]:
                OUT[f"{self.name}.{part}"] = torch.stack([nhwc(o[at]) for o in self.outputs])


def main():
    torch.manual_seed(0)
    one, two = network(ONE), network(TWO)
    none = dict(
        tokenizer=None, text_encoder=None, safety_checker=None, feature_extractor=None, watermarker=None,
        requires_safety_checker=False,
    )
    noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    first = IFPipeline(unet=one, scheduler=scheduler(1.5), **none)
    second = IFSuperResolutionPipeline(unet=two, scheduler=scheduler(1.0), image_noising_scheduler=noising, **none)
    first.save_pretrained(HERE / "one", max_shard_size="200KB")
    second.save_pretrained(HERE / "two")

    texts, empty = torch.randn(2, TOKENS, TEXT), torch.randn(1, TOKENS, TEXT).expand(2, -1, -1).contiguous()
    OUT["prompt_embeds"], OUT["negative_prompt_embeds"] = texts, empty
    embeds = dict(prompt_embeds=texts, negative_prompt_embeds=empty, output_type="pt")

    with torch.no_grad():
        for name, unet, channels, side in [("unet.one", one, 3, 8), ("unet.two", two, 6, 16)]:
            x = torch.randn(2, channels, side, 2 * side)
            OUT[f"{name}.x"] = nhwc(x)
            for t in [0, 377, 999]:
                labels = torch.tensor([250, 250]) if channels == 6 else None
                out = unet(x, t, encoder_hidden_states=texts, class_labels=labels, return_dict=False)[0]
                OUT[f"{name}.{t}"] = nhwc(out)

    OUT["alphas_cumprod"] = first.scheduler.alphas_cumprod
    OUT["betas"] = first.scheduler.betas

    with Recorder("draw", first, steps=True):
        picture = first(num_inference_steps=6, **embeds).images
    OUT["draw.picture"] = nhwc(picture)
    with Recorder("fast27", first):
        OUT["fast27.picture"] = nhwc(first(timesteps=timesteps.fast27_timesteps, **embeds).images)
    with Recorder("enlarge", second, steps=True):
        enlarged = second(image=picture, num_inference_steps=4, **embeds).images
    OUT["enlarge.picture"] = nhwc(enlarged)

    # variants: from a picture, and within a mask
    image = torch.rand(2, 3, 8, 8) * 2 - 1
    large = torch.rand(2, 3, 16, 16) * 2 - 1
    mask = (torch.rand(1, 1, 8, 8) > 0.5).float()
    large_mask = (torch.rand(1, 1, 16, 16) > 0.5).float()
    OUT["image"], OUT["large"], OUT["mask"], OUT["large_mask"] = nhwc(image), nhwc(large), nhwc(mask), nhwc(large_mask)
    parts = dict(unet=one, scheduler=first.scheduler, **none)
    more = dict(unet=two, scheduler=second.scheduler, image_noising_scheduler=noising, **none)
    pipeline = IFImg2ImgPipeline(**parts)
    with Recorder("img2img", pipeline):
        OUT["img2img.picture"] = nhwc(pipeline(image=image, strength=0.7, num_inference_steps=7, **embeds).images)
    pipeline = IFInpaintingPipeline(**parts)
    with Recorder("inpaint", pipeline):
        out = pipeline(image=image, mask_image=mask, strength=1.0, num_inference_steps=5, **embeds).images
        OUT["inpaint.picture"] = nhwc(out)
    pipeline = IFImg2ImgSuperResolutionPipeline(**more)
    with Recorder("img2img2", pipeline):
        out = pipeline(image=image, original_image=large, strength=0.8, num_inference_steps=5, **embeds).images
        OUT["img2img2.picture"] = nhwc(out)
    pipeline = IFInpaintingSuperResolutionPipeline(**more)
    with Recorder("inpaint2", pipeline):
        out = pipeline(
            image=image, original_image=large, mask_image=large_mask, strength=0.8, num_inference_steps=5, **embeds
        ).images
        OUT["inpaint2.picture"] = nhwc(out)
    lists = {name[: -len("_timesteps")]: value for name, value in vars(timesteps).items() if name.endswith("_timesteps")}
    (HERE / "timesteps.json").write_text(json.dumps(lists, indent=None) + "\n")
    clean = lambda caption: first._text_preprocessing(caption, clean_caption=True)[0]
    pairs = [[caption, clean(caption)] for caption in CAPTIONS]
    (HERE / "captions.json").write_text(json.dumps(pairs, ensure_ascii=False, indent=1) + "\n")
    save_file({name: value.contiguous() for name, value in OUT.items()}, HERE / "golden.safetensors")


if __name__ == "__main__":
    main()
