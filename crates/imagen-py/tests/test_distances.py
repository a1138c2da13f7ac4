"""What `fid`, `kid`, `precision_recall` and their features promise, against NumPy and against pytorch-fid's numbers."""

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imagen

GOLDEN = Path(__file__).parents[2] / "imagen/tests/golden/inception/inception.safetensors"


def pictures(count, seed, shade=0):
    """Smooth colours, [n, 16, 16, 3] of uint8."""
    random = np.random.default_rng(seed)
    coarse = random.integers(shade, 256, (count, 4, 4, 3)).astype(np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def safetensors(path):
    """Name → array of a file."""
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    kinds = {"U8": np.uint8, "F32": np.float32, "F64": np.float64}
    entries = {name: entry for name, entry in json.loads(data[8:end]).items() if name != "__metadata__"}
    array = lambda e: np.frombuffer(data[end:][slice(*e["data_offsets"])], kinds[e["dtype"]]).reshape(e["shape"])
    return {name: array(entry) for name, entry in entries.items() if entry["dtype"] in kinds}


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    header = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def test_the_frechet_distance_is_that_of_its_formula():
    a, b = [imagen.Extractor().summary(pictures(400, seed, shade)) for seed, shade in ((1, 0), (2, 60))]
    found = imagen.fid(a, b)
    one, two = [summary.features.astype(np.float64) for summary in (a, b)]
    covariance = [np.cov(rows, rowvar=False) for rows in (one, two)]
    root = np.sqrt(np.linalg.eigvals(covariance[0] @ covariance[1]).astype(complex)).real.sum()
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + sum(map(np.trace, covariance)) - 2 * root
    assert found.value == pytest.approx(expected, rel=1e-3)
    assert found.name == "Frechet distance" and float(found) == found.value
    low, high = found.interval
    assert low < found.value < high and "layout-1" in found.protocol


def test_sets_of_one_kind_are_nearer_than_sets_of_two():
    one, same, other = pictures(200, 1), pictures(200, 2), pictures(200, 3, shade=120)
    for distance in (imagen.fid, imagen.kid):
        assert distance(one, same).value < distance(one, other).value
    assert imagen.fid(one, one).value == pytest.approx(0, abs=1e-6)
    low, high = imagen.kid(one, same).interval
    assert low < 0 < high, "the estimate is unbiased"


def test_precision_and_recall_of_a_set_and_itself_are_one():
    one = pictures(50, 1)
    precision, recall = imagen.precision_recall(one, one)
    assert (precision.value, recall.value) == (1.0, 1.0)
    assert (precision.name, recall.name) == ("precision", "recall")
    precision, _ = imagen.precision_recall(pictures(50, 2, shade=250), one, neighbours=1)
    assert precision.value < 0.1


def test_pictures_are_taken_as_arrays_lists_and_generators():
    array = pictures(70, 1)
    expected = imagen.Extractor().summary(array).features
    assert expected.shape[0] == 70
    ways = [list(array), (Image.fromarray(a) for a in array), iter(array), array[:, ::-1][:, ::-1], np.asfortranarray(array)]
    for way in ways:
        assert (imagen.Extractor().summary(way).features == expected).all()
    mixed = imagen.Extractor().summary([array[0], array[0, :, :, 0], Image.new("RGBA", (8, 9), "red")])
    assert len(mixed) == 3


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (pictures(5, 1).astype(np.float32), ValueError, "float32.*expected uint8"),
        (pictures(5, 1)[0], ValueError, r"expected \[n, h, w, c\]"),
        (np.zeros((5, 4, 4, 5), np.uint8), ValueError, "channels"),
        ([np.zeros(3, np.uint8)], ValueError, r"expected \[h, w, c\]"),
        (3, TypeError, "expected pictures"),
        (pictures(1, 1), ValueError, "at least two"),
        ([], ValueError, "at least two"),
    ],
)
def test_what_is_no_set_of_pictures_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        imagen.fid(given, pictures(10, 1))


def test_an_error_of_a_generator_arrives():
    def broken():
        yield pictures(1, 1)[0]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        imagen.fid(broken(), pictures(10, 1))


def test_summaries_are_written_and_read(tmp_path):
    summary = imagen.Extractor().summary(pictures(20, 1))
    summary.save(tmp_path / "a.safetensors")
    again = imagen.Summary.load(tmp_path / "a.safetensors")
    assert len(again) == 20 and (again.features == summary.features).all() and again.protocol == summary.protocol
    with pytest.raises(OSError, match="missing"):
        imagen.Summary.load(tmp_path / "missing.safetensors")
    with pytest.raises(OSError, match="no folder"):
        summary.save(tmp_path / "no folder" / "a.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"nothing at all")
    with pytest.raises(imagen.ImagenError, match="other"):
        imagen.Summary.load(tmp_path / "other.safetensors")


def formula(name, shape):
    """The weights of the golden numbers; see make.py beside them."""
    h = (np.arange(1, np.prod(shape) + 1, dtype=np.uint64) * 2654435761 + zlib.crc32(name.encode())) & 0xFFFFFFFF
    h ^= h >> 15
    h = (h * 2246822519) & 0xFFFFFFFF
    h ^= h >> 13
    spread, middle = 0.4, 0.0
    if name.endswith("conv.weight"):
        spread = 5.0 / np.sqrt(np.prod(shape[1:]))
    elif name.endswith(("running_var", "bn.weight")):
        spread, middle = 0.5, 1.0
    return ((h / 2**32 - 0.5) * spread + middle).astype(np.float32).reshape(shape)


def test_inceptions_features_are_those_of_pytorch_fid(tmp_path):
    file = tmp_path / "inception.safetensors"
    write_safetensors(file, {"nothing": np.zeros(1, np.float32)})
    with pytest.raises(imagen.ImagenError, match="does not fit") as missing:
        imagen.Extractor(file)
    wanted = re.findall(r"`([^`]+)` is missing \(expected (\[[^]]*\])\)", str(missing.value))
    write_safetensors(file, {name: formula(name, json.loads(shape)) for name, shape in wanted})
    golden = safetensors(GOLDEN)
    for resize in ("clean", "original"):
        extractor = imagen.Extractor(file, resize=resize)
        summary = extractor.summary(golden[f"picture.{i}"] for i in range(3))
        expected = np.stack([golden[f"{resize}.{i}"] for i in range(3)])
        error = abs(summary.features - expected).max() / abs(expected).max()
        assert summary.features.shape == expected.shape and error < 1e-3, f"{resize}: {error}"
    a, b = [extractor.summary(golden[name]) for name in ("set.a", "set.b")]
    found = [imagen.fid(a, b), imagen.kid(a, b), *imagen.precision_recall(a, b)]
    assert [score.name for score in found] == ["FID", "KID", "precision", "recall"]
    for score, name in zip(found, ("frechet", "kid", "precision", "recall"), strict=True):
        assert score.value == pytest.approx(golden[name][0], rel=2e-3), name
    with pytest.raises(ValueError, match="same extractor"):
        imagen.fid(summary, pictures(5, 1))
    with pytest.raises(ValueError, match="resize"):
        imagen.Extractor(file, resize="bilinear")
