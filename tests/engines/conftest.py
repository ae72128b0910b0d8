"""One version in all forms that this machine can make, for the tests of the engines."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.contract import Metadata
from segkit.engines import open_engine
from segkit.engines.variants import VariantName
from segkit.export import publish
from segkit.export.formats import TENSORFLOW

# Engine -> the modules that it needs beyond requirements.txt.
NEEDS = {"openvino": (), "tflite": (), "onnx": ("onnx", "tf2onnx", "onnxruntime")}


def is_available(engine: str) -> bool:
    return all(importlib.util.find_spec(module) for module in NEEDS[engine])


@pytest.fixture(scope="session")
def all_forms(tiny_model: Any, tiny_metadata: Metadata, tmp_path_factory: Any) -> Path:
    """Do not change it: take `copy`."""
    folder: Path = tmp_path_factory.mktemp("all_forms")
    metadata = replace(tiny_metadata, batch_sizes=(1, 4))
    names = [VariantName(engine) for engine in NEEDS if is_available(engine)]
    names += [TENSORFLOW, VariantName("openvino", "bfloat16")]
    return publish(tiny_model, metadata, folder, variants=names)


@pytest.fixture(scope="session")
def version(all_forms: Path) -> Path:
    return all_forms


@pytest.fixture
def copy(version: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(version, tmp_path / "1"))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (7, 64, 96, 3), np.uint8)


@pytest.fixture(scope="session")
def expected(all_forms: Path, images: np.ndarray) -> dict[str, Any]:
    """What TensorFlow answers."""
    tensorflow = open_engine(all_forms, "tensorflow")
    results = tensorflow.run("confidence", {"image": images})
    tensorflow.close()
    return results
