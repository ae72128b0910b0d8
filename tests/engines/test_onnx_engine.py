from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segkit.engines import open_engine
from segkit.engines.variants import Variant, VariantName
from segkit.errors import EngineUnavailable

ONNX = VariantName("onnx")


@pytest.fixture(scope="module")
def engine(version: Path) -> Iterator[Any]:
    for name in ("onnx", "tf2onnx", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra segkit[onnx]")
    engine = open_engine(version, "onnx")
    yield engine
    engine.close()


def test_whoever_wants_class_ids_pays_for_no_confidence(engine: Any) -> None:
    import onnx

    operations = {
        confidence: [node.op_type for node in engine._file._part(outputs).graph.node]
        for confidence, outputs in ((False, ["class_ids"]), (True, ["class_ids", "confidence"]))
    }
    assert "Exp" in operations[True] and "Exp" not in operations[False]
    onnx.checker.check_model(engine._file._part(["class_ids"]), full_check=True)
    assert [output.name for output in engine._session(False).get_outputs()] == ["class_ids"]


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
