from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.contract import Metadata
from segkit.engines import Code, Engine, StatusError, open_engine
from segkit.engines.variants import Variant, VariantName
from segkit.errors import EngineUnavailable, ExportError
from segkit.export import publish
from segkit.export.formats import TENSORFLOW

IMAGES = np.random.default_rng(2).integers(0, 256, (7, 64, 96, 3), np.uint8)
ONNX = VariantName("onnx")


@pytest.fixture(scope="module")
def version(tiny_model: Any, tiny_metadata: Metadata, tmp_path_factory: Any) -> Path:
    for name in ("onnx", "tf2onnx", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra segkit[onnx]")
    folder: Path = tmp_path_factory.mktemp("onnx")
    return publish(tiny_model, tiny_metadata, folder, variants=(TENSORFLOW, ONNX))


@pytest.fixture(scope="module")
def engine(version: Path) -> Iterator[Any]:
    engine = open_engine(version, "onnx")
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


@pytest.mark.parametrize("batch_size", [1, 3, 7])
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


def test_whoever_wants_class_ids_pays_for_no_confidence(engine: Any) -> None:
    import onnx

    operations = {
        confidence: [node.op_type for node in engine._file._part(outputs).graph.node]
        for confidence, outputs in ((False, ["class_ids"]), (True, ["class_ids", "confidence"]))
    }
    assert "Exp" in operations[True] and "Exp" not in operations[False]
    onnx.checker.check_model(engine._file._part(["class_ids"]), full_check=True)
    assert [output.name for output in engine._session(False).get_outputs()] == ["class_ids"]


def test_results_are_not_written_over_by_the_next_run(engine: Engine) -> None:
    first = engine.run("serving_default", {"image": IMAGES[:1]})["class_ids"]
    kept = first.copy()
    engine.run("serving_default", {"image": 255 - IMAGES[:1]})
    np.testing.assert_array_equal(first, kept)


def test_threads_share_an_engine(engine: Engine) -> None:
    expected = [engine.run("confidence", {"image": image[None]}) for image in IMAGES]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            results = pool.map(lambda x: engine.run("confidence", {"image": x[None]}), IMAGES)
            for result, wanted in zip(results, expected, strict=True):
                for name in ("class_ids", "confidence"):
                    np.testing.assert_array_equal(result[name], wanted[name])


def test_a_run_over_its_time_is_given_up_and_the_next_one_is_right(
    engine: Engine, expected: dict[str, Any]
) -> None:
    many = np.repeat(IMAGES[:1], 400, axis=0)
    with pytest.raises(StatusError) as caught:
        engine.run("serving_default", {"image": many}, timeout_s=0.001)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    image = {"image": IMAGES[:1]}
    ids = engine.run("serving_default", image, timeout_s=600)["class_ids"]
    assert np.mean(ids == expected["class_ids"][:1]) > 0.999


def test_a_version_may_be_removed_while_it_serves(copy: Path, expected: dict[str, Any]) -> None:
    engine = open_engine(copy, "onnx")
    shutil.rmtree(copy)
    both = engine.run("confidence", {"image": IMAGES[:1]})
    assert np.mean(both["class_ids"] == expected["class_ids"][:1]) > 0.999
    engine.close()


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "no network"])
def test_a_damaged_file_is_refused(copy: Path, damage: str) -> None:
    path = copy / "onnx/float32.onnx"
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        half = len(content) // 2
        path.write_bytes({"empty": b"", "cut": content[:half]}.get(damage, b"<xml/>"))
    with pytest.raises(ExportError, match=r"float32\.onnx' cannot be loaded by ONNX") as caught:
        open_engine(copy, "onnx")
    assert "segkit export" in caught.value.next_step


def test_a_file_of_another_image_size_is_refused(
    copy: Path, tiny_metadata: Metadata, engine: Engine
) -> None:
    record = copy / "assets.extra" / "segkit.json"
    record.write_text(record.read_text().replace("64", "32"), encoding="utf-8")
    with pytest.raises(ExportError, match=r"'image', 'tensor\(uint8\)', \[64, 96, 3\]"):
        open_engine(copy, "onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_the_extra_it_says_how_to_install_it(
    tiny_export: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    from segkit.engines.onnx import ONNXEngine

    monkeypatch.setitem(sys.modules, missing, None)
    variant = Variant(name=ONNX, path="onnx/float32.onnx", size_bytes=0)
    with pytest.raises(EngineUnavailable, match="onnx needs packages that are not") as caught:
        ONNXEngine(tiny_export / "1", variant)
    assert '-e ".[onnx]"' in caught.value.next_step
