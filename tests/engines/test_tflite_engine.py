from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit import contract
from segkit.contract import Metadata
from segkit.engines import Code, Engine, StatusError, open_engine
from segkit.engines.variants import VariantName
from segkit.errors import EngineUnavailable, ExportError
from segkit.export import publish
from segkit.export.formats import TENSORFLOW

REPOSITORY = Path(__file__).resolve().parent.parent.parent
IMAGES = np.random.default_rng(2).integers(0, 256, (5, 64, 96, 3), np.uint8)
TFLITE = VariantName("tflite")


@pytest.fixture(scope="module")
def version(tiny_model: Any, tiny_metadata: Metadata, tmp_path_factory: Any) -> Path:
    pytest.importorskip("ai_edge_litert", reason="needs LiteRT, the package ai-edge-litert")
    folder: Path = tmp_path_factory.mktemp("tflite")
    return publish(tiny_model, tiny_metadata, folder, variants=(TENSORFLOW, TFLITE))


@pytest.fixture(scope="module")
def engine(version: Path) -> Iterator[Engine]:
    engine = open_engine(version, "tflite")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def expected(version: Path) -> dict[str, Any]:
    """What TensorFlow answers."""
    tensorflow = open_engine(version, "tensorflow")
    results = tensorflow.run("confidence", {"image": IMAGES})
    tensorflow.close()
    return results


@pytest.fixture
def copy(version: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(version, tmp_path / "1"))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_batch_of_any_size_is_answered_as_tensorflow_does(
    engine: Engine, expected: dict[str, Any], batch_size: int
) -> None:
    image = IMAGES[:batch_size]
    ids = engine.run("serving_default", {"image": image})["class_ids"]
    assert ids.dtype == np.uint8 and ids.shape == (batch_size, 64, 96)
    assert np.mean(ids == expected["class_ids"][:batch_size]) > 0.999
    both = engine.run("confidence", {"image": image})
    np.testing.assert_array_equal(both["class_ids"], ids)
    difference = np.abs(both["confidence"].astype(int) - expected["confidence"][:batch_size])
    assert difference.max() <= 1


def test_results_are_not_written_over_by_the_next_run(engine: Engine) -> None:
    first = engine.run("serving_default", {"image": IMAGES[:1]})["class_ids"]
    kept = first.copy()
    engine.run("serving_default", {"image": 255 - IMAGES[:1]})
    np.testing.assert_array_equal(first, kept)


def test_threads_share_an_engine(engine: Engine) -> None:
    alone = [engine.run("confidence", {"image": image[None]}) for image in IMAGES]

    def both(image: Any) -> tuple[Any, Any]:
        ids = engine.run("serving_default", {"image": image[None]})
        return ids["class_ids"], engine.run("confidence", {"image": image[None]})["confidence"]

    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for result, right in zip(pool.map(both, IMAGES), alone, strict=True):
                np.testing.assert_array_equal(result[0], right["class_ids"])
                np.testing.assert_array_equal(result[1], right["confidence"])


def test_a_run_over_its_time_is_given_up_and_the_next_one_is_right(
    engine: Engine, expected: dict[str, Any]
) -> None:
    many = np.repeat(IMAGES[:1], 1000, axis=0)
    with pytest.raises(StatusError) as caught:
        engine.run("serving_default", {"image": many}, timeout_s=0.01)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    ids = engine.run("serving_default", {"image": IMAGES[:1]})["class_ids"]
    assert np.mean(ids == expected["class_ids"][:1]) > 0.999


def test_a_run_that_waits_for_another_is_given_up_too(engine: Any) -> None:
    waited = threading.Event()

    def wait() -> None:
        with pytest.raises(StatusError) as caught:
            engine.run("serving_default", {"image": IMAGES[:1]}, timeout_s=0.05)
        assert caught.value.code == Code.DEADLINE_EXCEEDED
        waited.set()

    with engine._lock:
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert waited.is_set()


def test_tensorflow_is_not_imported(version: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from segkit.engines import open_engine\n"
        f"engine = open_engine(Path({str(version)!r}), 'tflite')\n"
        "engine.run('serving_default', {'image': np.zeros((1, 64, 96, 3), np.uint8)})\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_without_litert_it_says_what_to_install(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(EngineUnavailable, match="tflite needs LiteRT") as caught:
        open_engine(copy, "tflite")
    assert "pip install" in caught.value.next_step


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "another kind"])
def test_a_damaged_form_is_refused(copy: Path, damage: str) -> None:
    path = copy / "tflite/float32.tflite"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        parts = {"empty": b"", "cut": content[:-500], "another kind": b"<xml/>" * 500}
        path.write_bytes(parts[damage])
    with pytest.raises(ExportError, match=r"float32\.tflite' cannot be loaded") as caught:
        open_engine(copy, "tflite")
    assert caught.value.expected and "segkit export" in caught.value.next_step


def test_a_file_of_another_image_size_is_refused(copy: Path, tiny_metadata: Metadata) -> None:
    other = replace(tiny_metadata, image_size=(32, 32))
    (copy / contract.METADATA_FILE).write_text(other.to_json(), encoding="utf-8")
    with pytest.raises(ExportError, match=r"it takes uint8 images \(1, 64, 96, 3\)"):
        open_engine(copy, "tflite")
