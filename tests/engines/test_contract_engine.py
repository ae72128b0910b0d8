"""The four signatures in NumPy, held to those of the SavedModel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segkit.engines import Code, Engine, StatusError, open_engine
from segkit.engines.contract_engine import ContractEngine, Segmented
from segkit.errors import ContractMismatch

IMAGE = np.random.default_rng(2).integers(0, 256, (2, 64, 96, 3), np.uint8)


class Around(ContractEngine):
    """The contract's signatures round the SavedModel's own class ids."""

    def __init__(self, version_dir: Path) -> None:
        super().__init__(version_dir)
        self.inner = open_engine(version_dir)
        self.asked: list[tuple[bool, float | None]] = []

    def segment(self, image: Any, *, confidence: bool, deadline: float | None) -> Segmented:
        assert image.flags.c_contiguous
        self.asked.append((confidence, deadline))
        results = self.inner.run("confidence", {"image": image})
        return Segmented(results["class_ids"], results["confidence"] if confidence else None)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def engine(tiny_export: Path) -> Iterator[Around]:
    engine = Around(tiny_export / "1")
    yield engine
    engine.close()


def files(*contents: bytes) -> Any:
    array = np.empty(len(contents), object)
    array[:] = contents
    return array


def png(image: Any) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def test_signatures_and_record_are_those_of_the_saved_model(engine: Around) -> None:
    assert engine.signatures == engine.inner.signatures
    assert engine.metadata == engine.inner.metadata
    query = {"query": files(b"", b"?")}
    ours, theirs = (each.run("describe", query)["metadata"] for each in (engine, engine.inner))
    assert ours.tolist() == theirs.tolist() and ours.dtype == object


def test_confidence_is_computed_only_when_it_is_asked_for(engine: Around) -> None:
    assert set(engine.run("serving_default", {"image": IMAGE})) == {"class_ids"}
    assert set(engine.run("confidence", {"image": IMAGE}, outputs=["class_ids"])) == {"class_ids"}
    assert set(engine.run("confidence", {"image": IMAGE})) == {"class_ids", "confidence"}
    assert [confidence for confidence, _ in engine.asked] == [False, False, True]


def test_encoded_answers_as_the_saved_model_does(engine: Around) -> None:
    request = {"encoded_image": files(*map(png, IMAGE))}
    ours, theirs = (each.run("encoded", request)["encoded_mask"] for each in (engine, engine.inner))
    for mask, expected in zip(ours, theirs, strict=True):
        decoded = [
            cv2.imdecode(np.frombuffer(x, np.uint8), cv2.IMREAD_UNCHANGED) for x in (mask, expected)
        ]
        np.testing.assert_array_equal(*decoded)


def test_encoded_answers_at_the_size_of_its_image(engine: Around) -> None:
    request = {"encoded_image": files(png(np.zeros((50, 70, 3), np.uint8)), png(IMAGE[0]))}
    masks = engine.run("encoded", request)["encoded_mask"]
    shapes = [cv2.imdecode(np.frombuffer(x, np.uint8), cv2.IMREAD_UNCHANGED).shape for x in masks]
    assert shapes == [(50, 70), (64, 96)]


@pytest.mark.parametrize("signature", ["serving_default", "confidence", "encoded", "describe"])
def test_an_empty_batch_is_answered_by_an_empty_one(engine: Around, signature: str) -> None:
    spec = engine.signatures[signature]
    ((name, tensor),) = spec.inputs.items()
    assert tensor.shape is not None
    shape = (0, *(size or 0 for size in tensor.shape[1:]))
    dtype = object if tensor.dtype == "string" else np.uint8
    results = engine.run(signature, {name: np.empty(shape, dtype)})
    assert {key: len(value) for key, value in results.items()} == dict.fromkeys(spec.outputs, 0)
    assert engine.asked == []


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        (
            "serving_default",
            {"image": IMAGE.astype(np.float32)},
            "Expects arg[0] to be uint8 but float is provided",
        ),
        (
            "serving_default",
            {"image": IMAGE[0]},
            "[64,96,3] is not compatible with expected shape [?,64,96,3]",
        ),
        ("confidence", {"image": IMAGE[:, :32]}, "[2,32,96,3] is not compatible"),
        ("describe", {"query": np.array(b"", object)}, "[] is not compatible with expected shape"),
        (
            "encoded",
            {"encoded_image": files(b"GIF?")},
            "Unknown image file format. One of JPEG, PNG, GIF, BMP required.",
        ),
        ("encoded", {"encoded_image": files(b"")}, "Input is empty."),
        ("encoded", {"encoded_image": IMAGE}, "Expects arg[0] to be string but uint8"),
    ],
)
def test_what_does_not_fit_fails_as_in_tensorflow(
    engine: Around, signature: str, inputs: dict[str, Any], message: str
) -> None:
    for each in (engine, engine.inner):
        with pytest.raises(StatusError) as caught:
            each.run(signature, inputs)
        assert caught.value.code == Code.INVALID_ARGUMENT
        assert message in caught.value.message, type(each)


def test_a_timeout_becomes_a_deadline(engine: Around) -> None:
    before = time.monotonic()
    engine.run("serving_default", {"image": IMAGE}, timeout_s=60)
    ((_, deadline),) = engine.asked
    assert deadline is not None and before + 60 <= deadline <= time.monotonic() + 60


def test_a_version_without_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractMismatch, match=r"has no assets\.extra/segkit\.json"):
        Around(tmp_path)


def test_it_is_an_engine(engine: Around) -> None:
    protocol: Engine = engine
    assert protocol.metadata is not None
