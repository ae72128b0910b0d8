from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.contract import Metadata
from segkit.engines import open_engine
from segkit.engines.variants import VariantName
from segkit.errors import EngineUnavailable, ExportError
from segkit.export import publish
from segkit.export.formats import TENSORFLOW


def test_a_version_for_larger_batches_alone_takes_smaller_ones(
    tiny_model: Any,
    tiny_metadata: Metadata,
    tmp_path: Path,
    images: np.ndarray,
    expected: dict[str, Any],
) -> None:
    metadata = replace(tiny_metadata, batch_sizes=(4,))
    large = publish(tiny_model, metadata, tmp_path, variants=(TENSORFLOW, VariantName("openvino")))
    engine = open_engine(large, "openvino")
    ids = engine.run("serving_default", {"image": images[:6]})["class_ids"]
    assert np.mean(ids == expected["class_ids"][:6]) > 0.999
    engine.close()


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


def test_a_network_without_its_weights_is_refused(copy: Path) -> None:
    (copy / "openvino/float32.bin").unlink()
    with pytest.raises(ExportError, match=r"float32\.xml' cannot be read by OpenVINO"):
        open_engine(copy, "openvino")
