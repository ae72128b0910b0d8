from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from segkit.evaluation.evaluate import confusion, evaluate, make_confusion_step
from segkit.evaluation.metrics import ConfusionMatrix

TRUTH = np.array([[0, 0, 1], [1, 255, 2]], np.uint8)
PREDICTION = np.array([[0, 1, 1], [1, 3, 1]], np.uint8)


def filled(truth: np.ndarray = TRUTH, prediction: np.ndarray = PREDICTION) -> ConfusionMatrix:
    matrix = ConfusionMatrix(4)
    matrix.update(truth, prediction)
    return matrix


def test_known_scores() -> None:
    matrix = filled()
    np.testing.assert_allclose(matrix.class_iou, [1 / 2, 2 / 4, 0, np.nan])
    np.testing.assert_allclose(matrix.class_accuracy, [1 / 2, 1, 0, np.nan])
    assert matrix.mean_iou == pytest.approx(1 / 3)  # class 3 is in neither: left out
    assert matrix.pixel_accuracy == pytest.approx(3 / 5)


def test_a_perfect_prediction_scores_one() -> None:
    matrix = filled(TRUTH, np.where(TRUTH == 255, 0, TRUTH).astype(np.uint8))
    assert matrix.mean_iou == matrix.pixel_accuracy == 1


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    truth, prediction = np.zeros(4, np.uint8), np.array([0, 0, 0, 2], np.uint8)
    assert filled(truth, prediction).mean_iou == pytest.approx((3 / 4 + 0) / 2)


def test_batches_add_up_to_the_whole() -> None:
    parts = ConfusionMatrix(4)
    for truth, prediction in zip(TRUTH, PREDICTION, strict=True):
        parts.update(truth, prediction)
    np.testing.assert_array_equal(parts.counts, filled().counts)


def test_nothing_counted_is_nan_not_zero() -> None:
    matrix = ConfusionMatrix(2)
    assert np.isnan(matrix.mean_iou)
    assert np.isnan(matrix.pixel_accuracy)


@pytest.mark.parametrize(("truth", "prediction"), [([4], [0]), ([0], [4])])
def test_a_foreign_class_id_is_refused(truth: list[int], prediction: list[int]) -> None:
    with pytest.raises(ValueError, match=r"not in 0\.\.3"):
        filled(np.array(truth, np.uint8), np.array(prediction, np.uint8))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        filled(np.zeros(2, np.uint8), np.zeros(3, np.uint8))


def test_the_graph_counts_as_numpy_does() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 3, 255], (2, 16, 16)).astype(np.uint8)
    prediction = rng.integers(0, 4, (2, 16, 16), np.uint8)
    np.testing.assert_array_equal(
        confusion(tf.constant(truth), tf.constant(prediction), 4), filled(truth, prediction).counts
    )


def test_evaluate_scores_the_masks_own_pixels() -> None:
    """Logits at half the mask's size are resized to it, and batches of any size are taken."""
    image = tf.keras.Input((4, 4, 3))
    model = tf.keras.Model(image, tf.keras.layers.Lambda(lambda x: x[..., :2])(image))
    half = np.zeros((3, 4, 4, 3), np.float32)
    half[:, :, :2, 0], half[:, :, 2:, 1] = 1, 1
    mask = np.repeat(np.repeat(np.argmax(half[..., :2], -1), 2, 1), 2, 2).astype(np.uint8)
    batches = tf.data.Dataset.from_tensor_slices((half, mask)).batch(2)
    step = make_confusion_step(model, 2, tf.distribute.get_strategy())
    matrix = evaluate(step, batches, 2)
    assert matrix.counts.sum() == mask.size
    assert matrix.mean_iou == 1
