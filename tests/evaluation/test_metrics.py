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


def test_a_replica_without_images_counts_nothing() -> None:
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    image = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Conv2D(5, 3, padding="same", strides=2)(image)
    x = tf.keras.layers.BatchNormalization(fused=False)(x)
    model = tf.keras.Model(image, tf.keras.layers.Conv2D(2, 1, dtype="float32")(x))
    step = make_confusion_step(model, 2, tf.distribute.get_strategy())
    for number in (0, 1):
        batch = np.zeros((number, 8, 8, 3), np.float32), np.zeros((number, 8, 8), np.uint8)
        assert step(tuple(map(tf.constant, batch))).numpy().sum() == number * 64


def by_hand(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> dict[str, float]:
    """Every score from sets of pixel positions, without a confusion matrix."""
    places = [i for i, id_ in enumerate(truth.ravel()) if id_ != 255]
    true = {c: {i for i in places if truth.ravel()[i] == c} for c in range(num_classes)}
    said = {c: {i for i in places if prediction.ravel()[i] == c} for c in range(num_classes)}
    ious, dices, accuracies, weighted, agreed, chance = [], [], [], 0.0, 0, 0.0
    for c in range(num_classes):
        hit = len(true[c] & said[c])
        agreed += hit
        chance += len(true[c]) * len(said[c]) / len(places) ** 2
        if true[c] | said[c]:
            ious.append(hit / len(true[c] | said[c]))
            dices.append(2 * hit / (len(true[c]) + len(said[c])))
            weighted += len(true[c]) / len(places) * ious[-1]
        if true[c]:
            accuracies.append(hit / len(true[c]))
    accuracy = agreed / len(places)
    return {
        "mean_iou": sum(ious) / len(ious),
        "mean_dice": sum(dices) / len(dices),
        "mean_accuracy": sum(accuracies) / len(accuracies),
        "frequency_weighted_iou": weighted,
        "pixel_accuracy": accuracy,
        "kappa": (accuracy - chance) / (1 - chance),
    }


@pytest.mark.parametrize("seed", range(5))
def test_every_score_is_what_sets_of_pixels_give(seed: int) -> None:
    """Of 7 classes 5 and 6 are in no truth, 6 in no prediction either, 3 is never predicted."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 3, 4, 255], (9, 13)).astype(np.uint8)
    wrong = rng.choice([0, 1, 2, 4, 5], truth.shape).astype(np.uint8)
    right = (rng.random(truth.shape) < 0.6) & (truth != 3) & (truth != 255)
    prediction = np.where(right, truth, wrong)
    matrix = ConfusionMatrix(7)
    matrix.update(truth, prediction)
    for name, value in by_hand(truth, prediction, 7).items():
        assert getattr(matrix, name) == pytest.approx(value), name
    assert matrix.pixels.tolist() == [(truth == c).sum() for c in range(7)]
    assert np.isnan(matrix.class_dice[6])
    assert matrix.class_dice[5] == 0


def test_kappa_is_zero_for_chance_and_one_for_agreement() -> None:
    truth = np.array([0, 0, 1, 1], np.uint8)
    for prediction, kappa in (([0, 1, 0, 1], 0), ([0, 0, 1, 1], 1), ([1, 1, 0, 0], -1)):
        assert filled(truth, np.array(prediction, np.uint8)).kappa == pytest.approx(kappa)
    assert np.isnan(filled(np.zeros(4, np.uint8), np.zeros(4, np.uint8)).kappa)


@pytest.mark.parametrize("name", ["mean_accuracy", "mean_dice", "frequency_weighted_iou", "kappa"])
def test_nothing_counted_has_no_score(name: str) -> None:
    assert np.isnan(getattr(filled(np.full(4, 255, np.uint8), np.zeros(4, np.uint8)), name))
