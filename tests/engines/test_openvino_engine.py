from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.contract import Metadata
from segkit.engines import Code, Engine, StatusError, open_engine
from segkit.engines.variants import VariantName
from segkit.errors import EngineUnavailable, ExportError
from segkit.export import publish
from segkit.export.formats import TENSORFLOW

IMAGES = np.random.default_rng(2).integers(0, 256, (7, 64, 96, 3), np.uint8)
OPENVINO = VariantName("openvino")


@pytest.fixture(scope="module")
def version(tiny_model: Any, tiny_metadata: Metadata, tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("openvino")
    metadata = replace(tiny_metadata, batch_sizes=(1, 4))
    names = (TENSORFLOW, OPENVINO, VariantName("openvino", "bfloat16"))
    return publish(tiny_model, metadata, folder, variants=names)


@pytest.fixture(scope="module")
def engine(version: Path) -> Iterator[Engine]:
    engine = open_engine(version, "openvino")
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


@pytest.mark.parametrize("batch_size", [1, 3, 4, 5, 7])
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


def test_a_version_for_larger_batches_alone_takes_smaller_ones(
    tiny_model: Any, tiny_metadata: Metadata, tmp_path: Path, expected: dict[str, Any]
) -> None:
    metadata = replace(tiny_metadata, batch_sizes=(4,))
    large = publish(tiny_model, metadata, tmp_path, variants=(TENSORFLOW, OPENVINO))
    engine = open_engine(large, "openvino")
    ids = engine.run("serving_default", {"image": IMAGES[:6]})["class_ids"]
    assert np.mean(ids == expected["class_ids"][:6]) > 0.999
    engine.close()


def test_results_are_not_written_over_by_the_next_run(engine: Engine) -> None:
    first = engine.run("serving_default", {"image": IMAGES[:1]})["class_ids"]
    kept = first.copy()
    engine.run("serving_default", {"image": 255 - IMAGES[:1]})
    np.testing.assert_array_equal(first, kept)


def test_threads_share_an_engine(engine: Engine) -> None:
    expected = [engine.run("serving_default", {"image": x[None]})["class_ids"] for x in IMAGES]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            results = pool.map(lambda x: engine.run("serving_default", {"image": x[None]}), IMAGES)
            for result, ids in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result["class_ids"], ids)


def test_a_run_over_its_time_is_given_up_and_the_next_one_is_right(
    engine: Engine, expected: dict[str, Any]
) -> None:
    many = np.repeat(IMAGES[:1], 400, axis=0)
    with pytest.raises(StatusError) as caught:
        engine.run("serving_default", {"image": many}, timeout_s=0.001)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    ids = engine.run("serving_default", {"image": IMAGES[:1]})["class_ids"]
    assert np.mean(ids == expected["class_ids"][:1]) > 0.999


def test_bfloat16_is_the_same_file_and_needs_a_cpu_that_has_it(
    version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [path.name for path in sorted((version / "openvino").iterdir())] == [
        "float32.bin",
        "float32.xml",
    ]
    monkeypatch.setattr("segkit.engines.cpu.computes_bfloat16", lambda: False)
    with pytest.raises(EngineUnavailable, match="no instructions for bfloat16") as caught:
        open_engine(version, "openvino:bfloat16")
    assert "openvino:float32" in caught.value.next_step


@pytest.mark.parametrize("damage", ["no weights", "no network", "cut network"])
def test_a_damaged_form_is_refused(copy: Path, damage: str) -> None:
    network, weights = copy / "openvino/float32.xml", copy / "openvino/float32.bin"
    if damage == "no weights":
        weights.unlink()
    elif damage == "no network":
        network.unlink()
    else:
        network.write_bytes(network.read_bytes()[:500])
    with pytest.raises(ExportError, match=r"float32\.xml' cannot be read by OpenVINO") as caught:
        open_engine(copy, "openvino")
    assert "segkit export" in caught.value.next_step


def test_it_opens_and_runs_without_tensorflow(version: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from segkit.client import LocalSegmenter\n"
        f"with LocalSegmenter.open(Path({str(version)!r}), 'openvino') as local:\n"
        "    assert local.segment(np.zeros((1, 30, 40, 3), np.uint8)).shape == (1, 64, 96)\n"
        "assert 'tensorflow' not in sys.modules"
    )
    reply = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert reply.returncode == 0, reply.stderr
