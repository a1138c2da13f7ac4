"""The stubs say what the module does."""

import subprocess
import sys

import imagen


def test_the_stubs_describe_the_module():
    check = [sys.executable, "-m", "mypy.stubtest", "imagen", "--ignore-disjoint-bases"]
    found = subprocess.run(check, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_a_program_in_types_is_accepted_and_a_wrong_one_is_not(tmp_path):
    program = """\
import imagen
from PIL.Image import Image

model = imagen.load()
one: Image = model.sample("a", seed=1)
many: list[Image] = model.sample(["a", "b"], steps={"base": 3})
for step in model.steps("a", until="base"):
    shape: tuple[int, ...] = step.x_hat.shape
score: float = imagen.fid([one], many).value
"""
    (tmp_path / "right.py").write_text(program)
    (tmp_path / "wrong.py").write_text(program + 'model.sample("a", until="sr512")\n')
    for name, code in (("right.py", 0), ("wrong.py", 1)):
        check = [sys.executable, "-m", "mypy", "--strict", name]
        found = subprocess.run(check, capture_output=True, text=True, cwd=tmp_path)
        assert found.returncode == code, found.stdout + found.stderr


def test_everything_is_documented():
    things = [getattr(imagen, name) for name in imagen.__all__ if name != "__version__"]
    members = [v for t in things if isinstance(t, type) for n, v in vars(t).items() if not n.startswith("_")]
    assert [t for t in [imagen, *things, *members] if not t.__doc__] == []
