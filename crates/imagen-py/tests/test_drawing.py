"""What `load`, `sample` and `steps` promise."""

import _thread
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imagen

ROOT = Path(__file__).parents[3]
APPLE = "a red apple"
# enough to tell pictures apart, and quick
QUICK = {"until": "base", "steps": 2}


def test_one_call_draws_a_red_apple(model):
    picture = model.sample(APPLE, seed=1)
    assert (picture.mode, picture.size) == ("RGB", (256, 256))
    assert picture.info == {"prompt": APPLE, "seed": 1, "stage": "sr256"}
    pixels = np.asarray(picture).astype(int)
    red, green, blue = np.moveaxis(pixels[96:160, 96:160], -1, 0)
    assert red.mean() > 2 * green.mean() and red.mean() > 2 * blue.mean(), "its middle is red"
    assert pixels[:8, :8].min() > 200, "its corner is the white ground"


def test_a_picture_is_a_function_of_its_arguments(model):
    one, again, other = [np.asarray(model.sample(APPLE, seed=seed, **QUICK)) for seed in (5, 5, 6)]
    assert (one == again).all() and (one != other).any()
    assert (one != np.asarray(model.sample("a green apple", seed=5, **QUICK))).any()
    assert (one != np.asarray(model.sample(APPLE, seed=5, until="base", steps=3))).any()
    assert (one != np.asarray(model.sample(APPLE, seed=5, guidance=1.0, **QUICK))).any()


def test_settings_go_to_the_stages_that_they_name(model):
    by_name = model.sample(APPLE, until="base", steps={"base": 2}, guidance={"base": 1.5}, sampler={"base": "ddim"})
    for_all = model.sample(APPLE, until="base", steps=2, guidance=1.5, sampler="ddim")
    assert (np.asarray(by_name) == np.asarray(for_all)).all()
    steps = [(step.stage, step.of) for step in model.steps(APPLE, steps={"base": 1, "sr256": 2}, aug_level=0.05)]
    assert steps == [("base", 1), ("sr256", 2), ("sr256", 2)]


def test_counts_and_lists_give_lists(model):
    alone = np.asarray(model.sample(APPLE, seed=6, **QUICK)).astype(int)
    several = model.sample(APPLE, seed=5, count=2, **QUICK)
    assert [picture.info["seed"] for picture in several] == [5, 6]
    # drawn in one batch: equal up to rounding
    assert abs(np.asarray(several[1]) - alone).max() <= 1
    prompts = [APPLE, "a blue book"]
    assert [picture.info["prompt"] for picture in model.sample(prompts, **QUICK)] == prompts
    assert len(model.sample([APPLE], **QUICK)) == 1


def test_the_program_draws_the_same_picture(model, tmp_path):
    program = ROOT / "target/release/imagen"
    if not program.exists():
        pytest.skip("the program was not built")
    command = [program, "sample", APPLE, "--seed", "3", "--steps", "3", "-o", tmp_path / "apple.png", "--quiet"]
    subprocess.run(command, check=True)
    drawn = np.asarray(Image.open(tmp_path / "apple.png"))
    assert (drawn == np.asarray(model.sample(APPLE, seed=3, steps=3))).all()


def test_every_step_shows_its_estimate(model):
    drawing = model.steps(APPLE, seed=2, count=2, steps={"base": 3, "sr256": 1})
    steps = list(drawing)
    assert [(step.stage, step.index, step.of) for step in steps] == [
        ("base", 0, 3), ("base", 1, 3), ("base", 2, 3), ("sr256", 0, 1),
    ]  # fmt: skip
    for step in steps:
        side = {"base": 64, "sr256": 256}[step.stage]
        assert step.x_hat.shape == (2, side, side, 3) and step.x_hat.dtype == np.float32
        assert step.pictures == range(2)
    last = np.clip(np.rint((steps[-1].x_hat + 1) * 127.5), 0, 255)
    finished = [np.asarray(picture) for picture in drawing.pictures]
    assert abs(last - np.stack(finished)).max() <= 1, "the last estimate is the picture"
    assert [np.asarray(image).tobytes() for image in steps[-1].images()] == [p.tobytes() for p in finished]
    steps[0].x_hat[:] = 0  # the array is the caller's own


def test_whoever_stops_iterating_has_cancelled(model):
    begun = time.monotonic()
    for step in model.steps(APPLE, steps=10_000, until="base"):
        if step.index == 1:
            break
    with model.steps(APPLE, steps=10_000, until="base") as drawing:
        next(drawing)
    assert next(drawing, None) is None and drawing.pictures == []
    model.sample(APPLE, **QUICK)
    assert time.monotonic() - begun < 60


def test_drawings_of_one_model_do_not_disturb_each_other(model):
    alone = [np.asarray(model.sample(APPLE, seed=seed, **QUICK)) for seed in (1, 2)]
    drawings = [model.steps(APPLE, seed=seed, **QUICK) for seed in (1, 2)]
    assert len(list(zip(*drawings, strict=True))) == 2
    for drawing, picture in zip(drawings, alone, strict=True):
        assert list(drawing) == [] and (np.asarray(drawing.pictures[0]) == picture).all()


def test_ctrl_c_ends_a_drawing_and_the_model_draws_on(model):
    threading.Timer(1.0, _thread.interrupt_main).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        model.sample(APPLE, steps=10_000, until="base")
    assert time.monotonic() - begun < 30
    model.sample(APPLE, **QUICK)


def test_other_threads_run_while_a_picture_is_drawn(model):
    ticks, done = [], threading.Event()

    def tick():
        while not done.wait(0.01):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    begun = time.monotonic()
    model.sample(APPLE, until="base", steps=10)
    took = time.monotonic() - begun
    done.set()
    thread.join()
    assert len(ticks) > 0.2 * took / 0.01, "the interpreter was not held"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_model_does_not_hang_in_a_forked_process(model):
    child = os.fork()
    if child == 0:
        try:
            model.sample(APPLE, **QUICK)
        except imagen.ImagenError as error:
            os._exit(0 if "fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_model_says_what_it_has(model):
    stages = {stage.name: stage for stage in model.stages}
    assert list(stages) == ["base", "sr256", "sr1024"]
    assert [stage.size for stage in stages.values()] == [64, 256, 1024]
    assert [stage.on_request for stage in stages.values()] == [False, False, True]
    assert stages["base"].guidance > 1 and stages["base"].steps > 1
    assert "built-in" in repr(model)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"steps": -1}, "steps = -1"),
        ({"count": 0}, "count = 0"),
        ({"batch": 0}, "batch = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 2**64}, "seed = 18446744073709551616"),
        ({"guidance": float("nan")}, "guidance"),
        ({"guidance": "much"}, "guidance = much"),
        ({"until": "sr512"}, "expected one of: base, sr256, sr1024"),
        ({"steps": {"sr512": 3}}, "expected one of: base, sr256, sr1024"),
        ({"steps": {"sr1024": 3}}, "sr1024"),
        ({"sampler": "eulers"}, "eulers"),
        ({"thresholding": "dynamic:2"}, "percentile"),
        ({"aug_level": 2.0}, "augmentation level"),
        ({"aug_level": 0.1, "until": "base"}, "aug_level is for super-resolution"),
    ],
)
def test_bad_arguments_are_value_errors_that_name_them(model, arguments, words):
    with pytest.raises(ValueError, match=words):
        model.sample(APPLE, **arguments)


def test_prompts_are_texts(model):
    for prompt in (3, [3], None):
        with pytest.raises(TypeError, match="a text or a list of texts"):
            model.sample(prompt)
    with pytest.raises(ValueError, match="at least one prompt"):
        model.sample([])


def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path):
    with pytest.raises(imagen.ImagenError, match="nowhere"):
        imagen.load(tmp_path / "nowhere")
    with pytest.raises(imagen.ImagenError, match="base"):
        imagen.load(tmp_path)
    (tmp_path / "base.safetensors").write_bytes(b"nothing")
    with pytest.raises(imagen.ImagenError, match="base.safetensors"):
        imagen.load(str(tmp_path))
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(imagen.ImagenError, match="names the pipeline `nothing`"):
        imagen.load(tmp_path)


def test_a_folder_of_deepfloyd_if_draws(tmp_path):
    golden = ROOT / "crates/imagen/tests/golden"
    folder = tmp_path / "IF"
    shutil.copytree(golden / "if/one", folder)
    for part, name in [("text_encoder", "config.json"), ("text_encoder", "model.safetensors"), ("tokenizer", "spiece.model")]:
        (folder / part).mkdir(exist_ok=True)
        shutil.copy(golden / "t5/gated" / name, folder / part / name)
    index = json.loads((folder / "model_index.json").read_text())
    index.update(text_encoder=["transformers", "T5EncoderModel"], tokenizer=["transformers", "T5Tokenizer"])
    (folder / "model_index.json").write_text(json.dumps(index))
    model = imagen.load(folder)
    assert [(stage.name, stage.size, stage.sampler) for stage in model.stages] == [("base", 8, "learned")]
    first, again, other = (model.sample("a red apple", seed=3, steps=4, **more) for more in ({}, {}, {"sampler": "ddim"}))
    assert first.size == (8, 8) and first.tobytes() == again.tobytes() != other.tobytes()
