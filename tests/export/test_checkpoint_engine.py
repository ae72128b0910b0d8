"""A checkpoint that is run in place of an export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import add_tiny_network, save_tiny_checkpoint

from segkit.client import LocalSegmenter
from segkit.errors import CheckpointError
from segkit.export.checkpoint_engine import CheckpointEngine
from segkit.labels import LabelMap
from segkit.models.checkpoints import load_checkpoint

IMAGE = np.random.default_rng(3).integers(0, 256, (64, 96, 3), np.uint8)


@pytest.fixture
def checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, labels: LabelMap) -> Path:
    add_tiny_network(monkeypatch)
    return save_tiny_checkpoint(tmp_path / "best.h5", labels, (64, 96))


def test_it_answers_as_its_network(checkpoint: Path, labels: LabelMap) -> None:
    model, _ = load_checkpoint(checkpoint)
    logits = model(IMAGE[None].astype(np.float32)).numpy()[0]
    with LocalSegmenter(CheckpointEngine(checkpoint), confidence=True) as segmenter:
        assert segmenter.describe().labels == labels
        answer = segmenter.submit(IMAGE).result(60)
    np.testing.assert_array_equal(answer.mask, logits.argmax(-1))
    assert answer.confidence is not None
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    largest = 255 * (probabilities / probabilities.sum(-1, keepdims=True)).max(-1)
    np.testing.assert_allclose(answer.confidence, largest, atol=1)


def test_images_of_another_size_are_resized_by_the_segmenter(checkpoint: Path) -> None:
    with LocalSegmenter(CheckpointEngine(checkpoint)) as segmenter:
        assert segmenter.segment(np.zeros((2, 100, 50, 3), np.uint8)).shape == (2, 64, 96)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.h5"):
        CheckpointEngine(tmp_path / "absent.h5")
