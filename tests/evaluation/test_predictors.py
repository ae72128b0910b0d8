from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tiny_checkpoints import add_tiny_network, save_tiny_checkpoint

from segkit.client import LocalSegmenter
from segkit.errors import DataError
from segkit.evaluation.predictors import (
    CheckpointPredictor,
    Passes,
    SegmenterPredictor,
    open_checkpoint,
)
from segkit.labels import LabelMap
from segkit.models.checkpoints import load_checkpoint
from segkit.video.resize import resize_image

SIZE = (48, 64)
LABEL_SIZE = (60, 81)


@pytest.fixture
def checkpoint(labels: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    add_tiny_network(monkeypatch)
    return save_tiny_checkpoint(tmp_path / "best.h5", labels, SIZE)


@pytest.fixture
def image() -> np.ndarray:
    """Smooth, so that neighbouring passes mostly agree and averaging decides the rest."""
    rng = np.random.default_rng(4)
    return resize_image(rng.integers(0, 256, (9, 12, 3), np.uint8), LABEL_SIZE)


def opened(checkpoint: Path, **passes: Any) -> CheckpointPredictor:
    return open_checkpoint(checkpoint, passes=Passes(**passes))[0]


def probabilities(checkpoint: Path, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One pass, step by step: (*size, num_classes)."""
    model, _ = load_checkpoint(checkpoint, image_size=image.shape[:2])
    logits = model(image[None].astype(np.float32))
    return tf.nn.softmax(tf.image.resize(logits, size)).numpy()[0]


def test_one_pass_is_the_argmax_at_the_labels_size(checkpoint: Path, image: np.ndarray) -> None:
    expected = probabilities(checkpoint, resize_image(image, SIZE), LABEL_SIZE).argmax(-1)
    predicted = opened(checkpoint).predict(image, LABEL_SIZE)
    assert predicted.dtype == np.uint8
    assert len(np.unique(predicted)) > 1
    np.testing.assert_array_equal(predicted, expected)


def test_scales_and_flip_are_the_mean_of_their_probabilities(
    checkpoint: Path, image: np.ndarray
) -> None:
    total = 0
    for scale in (0.75, 1.0, 1.5):
        seen = resize_image(image, (round(48 * scale), round(64 * scale)))
        total = total + probabilities(checkpoint, seen, LABEL_SIZE)
        mirrored = np.ascontiguousarray(seen[:, ::-1])
        total = total + probabilities(checkpoint, mirrored, LABEL_SIZE)[:, ::-1]
    predictor = opened(checkpoint, scales=(0.75, 1.0, 1.5), flip=True)
    predicted = predictor.predict(image, LABEL_SIZE)
    np.testing.assert_array_equal(predicted, np.argmax(total, -1))
    assert (predicted != opened(checkpoint).predict(image, LABEL_SIZE)).any()


def test_a_mirrored_image_gives_the_mirrored_mask(checkpoint: Path, image: np.ndarray) -> None:
    predictor = opened(checkpoint, flip=True)
    mirrored = predictor.predict(np.ascontiguousarray(image[:, ::-1]), LABEL_SIZE)
    agreement = (mirrored[:, ::-1] == predictor.predict(image, LABEL_SIZE)).mean()
    assert agreement > 0.999  # the sums run in another order


def test_a_window_as_large_as_the_image_is_the_plain_result(
    checkpoint: Path, image: np.ndarray
) -> None:
    plain, _ = open_checkpoint(checkpoint, image_size=LABEL_SIZE)
    windows = opened(checkpoint, window=LABEL_SIZE, stride=(8, 8))
    expected = plain.predict(image, LABEL_SIZE)
    np.testing.assert_array_equal(windows.predict(image, LABEL_SIZE), expected)


def test_windows_that_overlap_are_averaged(checkpoint: Path, image: np.ndarray) -> None:
    """60 rows in windows of 40 every 30: at 0 and 20; 81 columns in 50 every 25: 0, 25 and 31."""
    total, counts = np.zeros((*LABEL_SIZE, 3)), np.zeros((*LABEL_SIZE, 1))
    for top in (0, 20):
        for left in (0, 25, 31):
            part = np.s_[top : top + 40, left : left + 50]
            total[part] += probabilities(checkpoint, image[part], (40, 50))
            counts[part] += 1
    predictor = opened(checkpoint, window=(40, 50), stride=(30, 25))
    assert predictor.image_size is None
    predicted = predictor.predict(image, LABEL_SIZE)
    assert counts.min() == 1
    np.testing.assert_array_equal(predicted, (total / counts).argmax(-1))
    larger = tf.image.resize((total / counts).astype(np.float32), (96, 130))
    np.testing.assert_array_equal(predictor.predict(image, (96, 130)), np.argmax(larger, -1))


def test_a_window_larger_than_the_image_is_refused(checkpoint: Path, image: np.ndarray) -> None:
    predictor = opened(checkpoint, window=(64, 64), stride=(32, 32))
    with pytest.raises(DataError, match="window of 64 64 is larger than an image of 60 81"):
        predictor.predict(image, LABEL_SIZE)


def test_a_segmenters_mask_is_resized_by_nearest(tiny_export: Path, labels: LabelMap) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    with LocalSegmenter.open(tiny_export / "1") as segmenter:
        predictor = SegmenterPredictor(segmenter)
        mask = segmenter.segment(image[None])[0]
        assert (predictor.labels, predictor.image_size) == (labels, (64, 96))
        np.testing.assert_array_equal(predictor.predict(image, (64, 96)), mask)
        twice = predictor.predict(image, (128, 192))
    np.testing.assert_array_equal(twice, mask.repeat(2, 0).repeat(2, 1))
