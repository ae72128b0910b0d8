"""What only a GPU with TensorRT can show. NOT YET RUN anywhere: they were written without one.

In the container of serving/convert.Dockerfile, with the checkout mounted and pytest installed:
pytest -m gpu tests/export/test_tensorrt_gpu.py
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from segkit.contract import Metadata
from segkit.engines import Engine, StatusError, open_engine
from segkit.export.tensorrt import (
    PRECISIONS,
    ConvertedCore,
    EngineSettings,
    convert_core,
    without_fallback,
    write_served_core,
)
from segkit.export.tensorrt_check import check_batch_sizes
from segkit.export.tensorrt_preflight import preflight
from segkit.labels import LabelMap
from segkit.models import NETWORKS, build_model
from segkit.serving.server import ModelServer

pytestmark = pytest.mark.gpu

IMAGE_SIZE = (128, 192)
BATCH_SIZES = (1, 2, 4)


@pytest.fixture(scope="module", autouse=True)
def machine() -> Any:
    found = preflight()
    if found.missing:
        pytest.skip("needs a GPU with TensorRT: " + "; ".join(found.missing))
    return found.machine


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.uint8]:
    squares = np.random.default_rng(1).integers(0, 256, (8, 8, 12, 3), np.uint8)
    return squares.repeat(16, axis=1).repeat(16, axis=2)


def _models(name: str) -> tuple[Any, Any]:
    """A network in the form for TensorRT, and in that which runs anywhere."""
    tf.keras.utils.set_random_seed(3)
    model = build_model(name, IMAGE_SIZE, 5, resize="matmul")
    reference = build_model(name, IMAGE_SIZE, 5)
    reference.set_weights(model.get_weights())
    return model, reference


def _write(core: ConvertedCore, path: Path, mode: str, machine: Any) -> Path:
    metadata = Metadata(
        labels=LabelMap.from_names("abcde"),
        image_size=IMAGE_SIZE,
        architecture="ddrnet23_slim",
        normalization="",
        precision=PRECISIONS[mode],
        tensorrt=machine,
        batch_sizes=BATCH_SIZES,
    )
    write_served_core(core, path, metadata, model_name="segkit")
    return path


@pytest.fixture(scope="module", params=["FP32", "FP16", "INT8"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def converted(
    mode: Any, images: Any, machine: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """A version of DDRNet-23-slim in each precision, and the network it was made of."""
    model, reference = _models("ddrnet23_slim")
    folder = tmp_path_factory.mktemp(mode)
    settings = EngineSettings(floating_mode=mode, batch_sizes=BATCH_SIZES)
    calibration = list(images) if mode == "INT8" else []
    core = convert_core(model, folder, settings, calibration=calibration)
    assert core.num_engines == 1, "as tensorrt-report predicts"
    return _write(core, folder / "base" / "1", mode, machine), reference


@pytest.fixture
def engine(converted: tuple[Path, Any]) -> Iterator[Engine]:
    with without_fallback():
        opened = open_engine(converted[0], "tensorflow")
        yield opened
        opened.close()


def test_the_engine_answers_as_the_network(
    engine: Engine, converted: tuple[Path, Any], images: Any, mode: str
) -> None:
    expected = np.argmax(converted[1](images.astype(np.float32)), axis=-1)
    answers = [engine.run("serving_default", {"image": image[None]}) for image in images]
    found = np.concatenate([answer["class_ids"] for answer in answers])
    # Random weights: logits lie closer together than those of a trained network.
    assert np.mean(found == expected) > {"FP32": 0.99, "FP16": 0.97, "INT8": 0.7}[mode]


def test_every_batch_size_has_an_engine(engine: Engine, images: Any) -> None:
    check_batch_sizes(engine, images[0], (1, 2, 3, 4), min_agreement=0.95)


def test_no_engine_is_built_for_another_batch_size(engine: Engine, images: Any) -> None:
    with pytest.raises(StatusError, match="disallowed engine native segment execution"):
        engine.run("serving_default", {"image": images[:5]})


def test_its_engines_can_be_loaded_twice(converted: tuple[Path, Any], images: Any) -> None:
    with without_fallback():
        for _ in range(2):
            loaded = tf.saved_model.load(str(converted[0]))
            loaded.signatures["serving_default"](image=tf.constant(images[:1]))
            del loaded
            gc.collect()


def test_the_embedded_server_serves_it(converted: tuple[Path, Any], images: Any) -> None:
    from segkit.client import RemoteSegmenter

    with (
        without_fallback(),
        ModelServer.of("segkit", converted[0].parent) as server,
        RemoteSegmenter(server.address, "segkit") as remote,
    ):
        assert remote.segment(images[:2]).shape == (2, *IMAGE_SIZE)
        assert remote.describe().tensorrt["tensorrt"] == "8.6.1"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "ddrnet23_slim"])
def test_every_network_becomes_one_engine(
    name: str, images: Any, machine: Any, tmp_path: Path
) -> None:
    model, reference = _models(name)
    core = convert_core(model, tmp_path, EngineSettings(floating_mode="FP32", batch_sizes=(1, 2)))
    assert core.num_engines == 1, "as tensorrt-report predicts"
    version = _write(core, tmp_path / "1", "FP32", machine)
    with without_fallback():
        engine = open_engine(version, "tensorflow")
        answer = engine.run("serving_default", {"image": images[:2]})["class_ids"]
        engine.close()
    expected = np.argmax(reference(images[:2].astype(np.float32)), axis=-1)
    assert np.mean(answer == expected) > 0.99
