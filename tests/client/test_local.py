"""LocalSegmenter: an engine behind the client's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.client import LocalSegmenter
from segkit.engines import Code, StatusError
from segkit.errors import ContractMismatch, MessageTooLarge


class BrokenEngine:
    def __init__(self, metadata: Any) -> None:
        self.signatures: dict[str, Any] = {}
        self.metadata = metadata

    def run(self, *_: Any, **__: Any) -> Any:
        raise StatusError(Code.RESOURCE_EXHAUSTED, "out of memory")

    def close(self) -> None:
        pass


def test_an_export_segments_as_its_model_does(tiny_export: Path, tiny_model: Any) -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    expected = np.argmax(tiny_model.predict(image[None].astype(np.float32), verbose=0)[0], -1)
    with LocalSegmenter.open(tiny_export / "1") as segmenter:
        assert segmenter.describe().image_size == (64, 96)
        np.testing.assert_array_equal(segmenter.submit(image).result(timeout=60).mask, expected)
        larger = np.repeat(np.repeat(image, 2, 0), 2, 1)
        np.testing.assert_array_equal(segmenter.segment(larger[None])[0], expected)


def test_a_failed_run_is_an_error_of_the_same_kind_as_a_servers(tiny_metadata: Any) -> None:
    with (
        LocalSegmenter(BrokenEngine(tiny_metadata)) as segmenter,
        pytest.raises(MessageTooLarge, match="out of memory"),
    ):
        segmenter.segment(np.zeros((1, 64, 96, 3), np.uint8))


def test_a_version_that_is_not_segkits_is_refused() -> None:
    with pytest.raises(ContractMismatch, match="segkit export"):
        LocalSegmenter(BrokenEngine(None))
