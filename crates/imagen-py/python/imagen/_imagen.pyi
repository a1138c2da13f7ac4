from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Literal, Self, TypeAlias, final, overload

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

_StageName: TypeAlias = Literal["base", "sr256", "sr1024"]
_Pictures: TypeAlias = NDArray[np.uint8] | Iterable[NDArray[np.uint8] | Image]

__all__ = [
    "Drawing",
    "Extractor",
    "ImagenError",
    "Model",
    "Score",
    "Stage",
    "Step",
    "Summary",
    "__version__",
    "fid",
    "kid",
    "load",
    "precision_recall",
    "set_threads",
]

__version__: str

class ImagenError(Exception): ...

def load(model: str | PathLike[str] | None = None) -> Model: ...
def set_threads(count: int) -> None: ...
@final
class Stage:
    @property
    def name(self) -> _StageName: ...
    @property
    def size(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def guidance(self) -> float: ...
    @property
    def sampler(self) -> str: ...
    @property
    def thresholding(self) -> str: ...
    @property
    def on_request(self) -> bool: ...

@final
class Model:
    @property
    def stages(self) -> list[Stage]: ...
    @overload
    def sample(
        self,
        prompt: str,
        *,
        seed: int = 0,
        count: Literal[1] = 1,
        steps: int | Mapping[_StageName, int] | None = None,
        guidance: float | Mapping[_StageName, float] | None = None,
        sampler: str | Mapping[_StageName, str] | None = None,
        thresholding: str | Mapping[_StageName, str] | None = None,
        aug_level: float | Mapping[_StageName, float] | None = None,
        until: _StageName | None = None,
        batch: int = 4,
    ) -> Image: ...
    @overload
    def sample(
        self,
        prompt: list[str] | tuple[str, ...],
        *,
        seed: int = 0,
        count: int = 1,
        steps: int | Mapping[_StageName, int] | None = None,
        guidance: float | Mapping[_StageName, float] | None = None,
        sampler: str | Mapping[_StageName, str] | None = None,
        thresholding: str | Mapping[_StageName, str] | None = None,
        aug_level: float | Mapping[_StageName, float] | None = None,
        until: _StageName | None = None,
        batch: int = 4,
    ) -> list[Image]: ...
    @overload
    def sample(
        self,
        prompt: str,
        *,
        seed: int = 0,
        count: int = 1,
        steps: int | Mapping[_StageName, int] | None = None,
        guidance: float | Mapping[_StageName, float] | None = None,
        sampler: str | Mapping[_StageName, str] | None = None,
        thresholding: str | Mapping[_StageName, str] | None = None,
        aug_level: float | Mapping[_StageName, float] | None = None,
        until: _StageName | None = None,
        batch: int = 4,
    ) -> Image | list[Image]: ...
    def steps(
        self,
        prompt: str | Sequence[str],
        *,
        seed: int = 0,
        count: int = 1,
        steps: int | Mapping[_StageName, int] | None = None,
        guidance: float | Mapping[_StageName, float] | None = None,
        sampler: str | Mapping[_StageName, str] | None = None,
        thresholding: str | Mapping[_StageName, str] | None = None,
        aug_level: float | Mapping[_StageName, float] | None = None,
        until: _StageName | None = None,
        batch: int = 4,
    ) -> Drawing: ...

@final
class Drawing(Iterator[Step]):
    @property
    def pictures(self) -> list[Image]: ...
    def close(self) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Step: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exception: object) -> None: ...

@final
class Step:
    @property
    def stage(self) -> _StageName: ...
    @property
    def index(self) -> int: ...
    @property
    def of(self) -> int: ...
    @property
    def pictures(self) -> range: ...
    @property
    def x_hat(self) -> NDArray[np.float32]: ...
    def images(self) -> list[Image]: ...

@final
class Extractor:
    def __new__(
        cls, inception: str | PathLike[str] | None = None, *, resize: Literal["original", "clean"] = "original"
    ) -> Self: ...
    @property
    def protocol(self) -> str: ...
    def summary(self, pictures: _Pictures) -> Summary: ...

@final
class Summary:
    @staticmethod
    def load(path: str | PathLike[str]) -> Summary: ...
    def save(self, path: str | PathLike[str]) -> None: ...
    @property
    def features(self) -> NDArray[np.float32] | None: ...
    @property
    def protocol(self) -> str: ...
    def __len__(self) -> int: ...

@final
class Score:
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float] | None: ...
    @property
    def protocol(self) -> str: ...
    def __float__(self) -> float: ...

def fid(a: _Pictures | Summary, b: _Pictures | Summary, *, extractor: Extractor | None = None) -> Score: ...
def kid(a: _Pictures | Summary, b: _Pictures | Summary, *, seed: int = 0, extractor: Extractor | None = None) -> Score: ...
def precision_recall(
    drawn: _Pictures | Summary, real: _Pictures | Summary, *, neighbours: int = 3, extractor: Extractor | None = None
) -> tuple[Score, Score]: ...
