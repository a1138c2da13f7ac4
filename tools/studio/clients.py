"""The published clients of two interfaces against a running studio: `openai` and `webuiapi`, unchanged.

    imagen serve --port 7860 --data /tmp/studio &
    pip install openai webuiapi && python tools/studio/clients.py http://127.0.0.1:7860
"""

import base64
import io
import sys
import threading
import time
import urllib.request
from urllib.parse import urlparse

import openai
import webuiapi
from PIL import Image, ImageChops

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860"


def opened(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


# OpenAI
client = openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0)
models = [model.id for model in client.models.list()]
assert client.models.retrieve(models[0]).id == models[0]
answer = client.images.generate(model="dall-e-2", prompt="a red apple", size="256x256", n=1, response_format="b64_json")
assert opened(answer.data[0].b64_json).size == (256, 256), answer.size
again = client.images.generate(prompt="a red apple", n=2, extra_body={"seed": 1, "steps": 4}, size="auto")
with urllib.request.urlopen(again.data[1].url) as reply:
    assert Image.open(reply).size == opened(again.data[1].b64_json).size
kinds = [event.type for event in client.images.generate(
    model="gpt-image-1", prompt="a red apple", stream=True, partial_images=2, output_format="webp", quality="low")]
assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], kinds
for wrong, kind in [({"model": "nonsense"}, openai.NotFoundError), ({"size": "1536x1024"}, openai.BadRequestError)]:
    try:
        client.images.generate(prompt="a", **wrong)
        raise SystemExit(f"{wrong} was taken")
    except kind as problem:
        assert problem.code and problem.param in wrong and problem.body["message"], problem.body

# a picture with a hole, and a mask: what is not drawn anew stays
whole = opened(answer.data[0].b64_json).convert("RGB")


def as_file(picture: Image.Image) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, "PNG")
    file.seek(0)
    file.name = "picture.png"
    return file


def apart(a: Image.Image, b: Image.Image, box: tuple[int, int, int, int]) -> int:
    return max(high for _, high in ImageChops.difference(a.crop(box).convert("RGB"), b.crop(box).convert("RGB")).getextrema())


mask = Image.new("RGBA", (256, 256), (0, 0, 0, 255))
mask.paste((0, 0, 0, 0), (0, 0, 128, 256))
edited = client.images.edit(image=as_file(whole), mask=as_file(mask), prompt="a green apple", n=2, size="256x256",
                            response_format="b64_json", extra_body={"seed": 3, "steps": 6})
assert len(edited.data) == 2
for one in edited.data:
    picture = opened(one.b64_json)
    assert apart(picture, whole, (132, 0, 256, 256)) <= 1 and apart(picture, whole, (0, 0, 120, 256)) > 20
over = client.images.edit(model="gpt-image-1", image=[as_file(whole)], prompt="a green apple", extra_body={"strength": 0.5})
assert opened(over.data[0].b64_json).size == (256, 256)
kinds = [event.type for event in client.images.edit(
    model="gpt-image-1", image=as_file(whole), prompt="a green apple", stream=True, partial_images=1)]
assert kinds == ["image_edit.partial_image", "image_edit.completed"], kinds
try:
    client.images.edit(image=as_file(whole), mask=as_file(whole), prompt="a")
    raise SystemExit("a mask without a hole was taken")
except openai.BadRequestError as problem:
    assert problem.param == "mask", problem.body
print(f"openai {openai.__version__}: models, generations (both forms, extras, stream), edits (mask, whole, stream), errors")

# AUTOMATIC1111
place = urlparse(address)
api = webuiapi.WebUIApi(host=place.hostname, port=place.port, sampler="DDIM", steps=4)
assert models[0] in api.util_get_model_names() and "ddim" in api.util_get_sampler_names()
drawn = api.txt2img(prompt="a red apple", seed=1, cfg_scale=1.5, width=256, height=256, batch_size=2)
assert len(drawn.images) == 2 and drawn.image.size == (256, 256) and drawn.info["all_seeds"] == [1, 2], drawn.info
assert drawn.info["infotexts"][0] == drawn.image.text["parameters"] == api.png_info(drawn.image).info
over = api.img2img(images=[drawn.image], prompt="a green apple", steps=6, denoising_strength=0.6, seed=2, width=256, height=256)
assert over.image.size == (256, 256) and apart(over.image, drawn.image, (0, 0, 256, 256)) > 20
white = Image.new("L", (256, 256), 0)
white.paste(255, (0, 0, 128, 256))
mended = api.img2img(images=[drawn.image], mask_image=white, prompt="a green apple", steps=6, denoising_strength=1.0, seed=2,
                     mask_blur=0, width=256, height=256)
assert apart(mended.image, drawn.image, (132, 0, 256, 256)) <= 1 and apart(mended.image, drawn.image, (0, 0, 120, 256)) > 20
inverted = api.img2img(images=[drawn.image], mask_image=white, inpainting_mask_invert=1, prompt="a green apple", steps=6,
                       denoising_strength=1.0, seed=2, mask_blur=0, width=256, height=256)
assert apart(inverted.image, drawn.image, (0, 0, 124, 256)) <= 1
assert "Denoising strength: 0.6" in api.png_info(over.image).info
api.util_set_model(models[0])
assert api.util_get_current_model() == models[0] and api.get_options()["sd_model_checkpoint"] == models[0]
thread = threading.Thread(target=lambda: seen.append(str(interrupted())))
seen: list[str] = []


def interrupted() -> object:
    try:
        return api.txt2img(prompt="a red apple", steps=200, cfg_scale=1.5)
    except RuntimeError as problem:
        return problem


thread.start()
while api.get_progress()["progress"] == 0:
    time.sleep(0.1)
assert api.get_progress()["current_image"]
api.interrupt()
thread.join()
assert "cancelled" in seen[0], seen
print("webuiapi: models, samplers, options, txt2img, img2img (whole, mask, inverted), png-info, progress, interrupt")
