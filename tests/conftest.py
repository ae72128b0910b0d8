"""What several tests need: the tiny label map, model, export and clip, and a running server."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from segkit.contract import Metadata
from segkit.labels import Label, LabelMap

# A shell starts what runs in the background with SIGINT ignored, and children inherit that: then no
# test could interrupt one.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent
IMAGE_SIZE = (64, 96)


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where commands keep what they can make again; never that of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SEGKIT_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def float32_policy() -> Iterator[None]:
    """Whatever precision a test trains in, the next one computes in float32."""
    yield
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data beside the repository."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (real labelled streets and clips), which is absent here")
    return folder


@pytest.fixture(scope="session")
def labels() -> LabelMap:
    return LabelMap(
        (Label("background", (0, 0, 0)), Label("road", (128, 64, 128)), Label("car", (64, 0, 128)))
    )


@pytest.fixture(scope="session")
def tiny_metadata(labels: LabelMap) -> Metadata:
    return Metadata(
        labels=labels, image_size=IMAGE_SIZE, architecture="tiny", normalization="RGB / 255"
    )


@pytest.fixture(scope="session")
def tiny_model() -> Any:
    """A model of two convolutions whose answer depends on the image: brightness decides."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(7)
    inputs = tf.keras.Input((*IMAGE_SIZE, 3))
    x = tf.keras.layers.Rescaling(1 / 255)(inputs)
    x = tf.keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    return tf.keras.Model(inputs, tf.keras.layers.Conv2D(3, 1, dtype="float32")(x))


@pytest.fixture(scope="session")
def tiny_export(tiny_model: Any, tiny_metadata: Metadata, tmp_path_factory: Any) -> Path:
    """A base path with version 1 of the tiny model. Do not add versions to it: copy it."""
    from segkit.export import publish

    base_path: Path = tmp_path_factory.mktemp("exports") / "segkit"
    publish(tiny_model, tiny_metadata, base_path)
    return base_path


@pytest.fixture(scope="session")
def running_server(tiny_export: Path) -> Iterator[str]:
    """Address of an embedded server over the tiny export."""
    from segkit.serving.server import ModelServer

    with ModelServer.of("segkit", tiny_export) as server:
        yield server.address


@pytest.fixture(scope="session")
def clip(tmp_path_factory: Any) -> Path:
    """A small H.264 clip: 30 frames of 96x160 at 30000/1001 fps, a square moving over noise."""
    import av

    path: Path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    rng = np.random.default_rng(5)
    noise = rng.integers(60, 120, (96, 160, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.height, stream.width, stream.pix_fmt = 96, 160, "yuv420p"
        for index in range(30):
            image = noise.copy()
            image[30:60, 4 * index : 4 * index + 30] = (220, 40, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path
