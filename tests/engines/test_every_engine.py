"""What every engine but TensorFlow's own is held to: TensorFlow's answers, threads, deadlines."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit import contract
from segkit.engines import Code, Engine, StatusError, find_variant, open_engine
from segkit.errors import ExportError

EXTRAS = {"onnx": ("onnx", "tf2onnx", "onnxruntime")}


@pytest.fixture(scope="module", params=["openvino", "tflite", "onnx"])
def name(request: Any) -> str:
    for module in EXTRAS.get(request.param, ()):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs the extra segkit[{request.param}]")
    return request.param


@pytest.fixture(scope="module")
def engine(name: str, version: Path) -> Iterator[Engine]:
    engine = open_engine(version, name)
    yield engine
    engine.close()


@pytest.mark.parametrize("batch_size", [1, 3, 4, 5, 7])
def test_a_batch_of_any_size_is_answered_as_tensorflow_does(
    engine: Engine, images: np.ndarray, expected: dict[str, Any], batch_size: int
) -> None:
    ids = engine.run("serving_default", {"image": images[:batch_size]})["class_ids"]
    assert ids.dtype == np.uint8 and ids.shape == (batch_size, 64, 96)
    assert np.mean(ids == expected["class_ids"][:batch_size]) > 0.999
    both = engine.run("confidence", {"image": images[:batch_size]})
    np.testing.assert_array_equal(both["class_ids"], ids)
    difference = np.abs(both["confidence"].astype(int) - expected["confidence"][:batch_size])
    assert difference.max() <= 1


def test_results_are_not_written_over_by_the_next_run(engine: Engine, images: np.ndarray) -> None:
    first = engine.run("serving_default", {"image": images[:1]})["class_ids"]
    kept = first.copy()
    engine.run("serving_default", {"image": 255 - images[:1]})
    np.testing.assert_array_equal(first, kept)


def test_threads_share_an_engine(engine: Engine, images: np.ndarray) -> None:
    alone = [engine.run("confidence", {"image": image[None]}) for image in images]

    def both(image: np.ndarray) -> tuple[Any, Any]:
        ids = engine.run("serving_default", {"image": image[None]})
        return ids["class_ids"], engine.run("confidence", {"image": image[None]})["confidence"]

    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for result, right in zip(pool.map(both, images), alone, strict=True):
                np.testing.assert_array_equal(result[0], right["class_ids"])
                np.testing.assert_array_equal(result[1], right["confidence"])


def test_a_run_over_its_time_is_given_up_and_the_next_one_is_right(
    engine: Engine, images: np.ndarray, expected: dict[str, Any]
) -> None:
    many = np.repeat(images[:1], 1000, axis=0)
    with pytest.raises(StatusError) as caught:
        engine.run("serving_default", {"image": many}, timeout_s=0.001)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    image = {"image": images[:1]}
    ids = engine.run("serving_default", image, timeout_s=600)["class_ids"]
    assert np.mean(ids == expected["class_ids"][:1]) > 0.999


def test_a_version_may_be_removed_while_it_serves(
    name: str, copy: Path, images: np.ndarray, expected: dict[str, Any]
) -> None:
    engine = open_engine(copy, name)
    shutil.rmtree(copy)
    for _ in range(2):  # the first confidence is asked of what is not loaded yet
        both = engine.run("confidence", {"image": images[:5]})
        assert np.mean(both["class_ids"] == expected["class_ids"][:5]) > 0.999
    engine.close()


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "another kind"])
def test_a_damaged_form_is_refused(name: str, copy: Path, damage: str) -> None:
    path = copy / find_variant(copy, name).path
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        parts = {"empty": b"", "cut": content[: len(content) // 2], "another kind": b"<xml/>" * 500}
        path.write_bytes(parts[damage])
    with pytest.raises(ExportError, match=f"{path.name}' cannot be") as caught:
        open_engine(copy, name)
    assert caught.value.expected and "segkit export" in caught.value.next_step


def test_a_file_of_another_image_size_is_refused(name: str, copy: Path) -> None:
    record = copy / contract.METADATA_FILE
    record.write_text(record.read_text().replace("64", "32"), encoding="utf-8")
    with pytest.raises(ExportError, match=r"64, 96, 3"):
        open_engine(copy, name)


def test_it_opens_and_runs_without_tensorflow(name: str, version: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from segkit.client import LocalSegmenter\n"
        f"with LocalSegmenter.open(Path({str(version)!r}), {name!r}) as local:\n"
        "    assert local.segment(np.zeros((1, 30, 40, 3), np.uint8)).shape == (1, 64, 96)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    reply = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert reply.returncode == 0, reply.stderr
