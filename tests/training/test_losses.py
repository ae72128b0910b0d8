"""Every loss against an independent computation in NumPy, and two replicas against one."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from segkit.training.losses import (
    AUXILIARY_WEIGHT,
    BinaryCrossEntropy,
    BinaryFocal,
    CrossEntropy,
    Dice,
    Focal,
    Loss,
    Lovasz,
    Ohem,
    WeightedSum,
    deeply_supervised,
    make_target,
    upsample,
)

REPOSITORY = Path(__file__).resolve().parents[2]
LOSSES: dict[str, Loss] = {
    "cross-entropy": CrossEntropy(),
    "smoothed": CrossEntropy(label_smoothing=0.1),
    "focal": Focal(),
    "focal, gamma 1.5": Focal(gamma=1.5),
    "binary": BinaryCrossEntropy(),
    "binary focal": BinaryFocal(),
    "ohem": Ohem(threshold=0.3, min_kept=0.5),
    "dice": Dice(),
    "lovasz": Lovasz(),
}


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (4, 2, 9, 11)).astype(np.float32)


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(1).choice([0, 1, 2, 3, 255], (2, 9, 11)).astype(np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=0)


def counted(logits: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits (C, N) and class ids (N,) of the pixels that are not ignored."""
    return logits[:, mask != 255].astype(np.float64), mask[mask != 255]


def truth_probability(logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
    values, ids = counted(logits, mask)
    return np.take_along_axis(softmax(values), ids[None].astype(int), axis=0)[0]


# === Against NumPy ===


def test_cross_entropy(logits: np.ndarray, mask: np.ndarray) -> None:
    expected = -np.log(truth_probability(logits, mask)).mean()
    assert float(CrossEntropy()(logits, make_target(mask))) == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_is_that_of_keras(logits: np.ndarray, mask: np.ndarray) -> None:
    values, ids = counted(logits, mask)
    keras = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    expected = float(keras(np.eye(4)[ids], values.T))
    found = CrossEntropy(label_smoothing=0.1)(logits, make_target(mask))
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_focal(logits: np.ndarray, mask: np.ndarray, gamma: float) -> None:
    p = truth_probability(logits, mask)
    expected = (-((1 - p) ** gamma) * np.log(p)).mean()
    assert float(Focal(gamma)(logits, make_target(mask))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("loss", "gamma"), [(BinaryCrossEntropy(), 0), (BinaryFocal(), 2)])
def test_binary(logits: np.ndarray, mask: np.ndarray, loss: Loss, gamma: float) -> None:
    values, ids = counted(logits, mask)
    probability = 1 / (1 + np.exp(-values))
    p = np.where(np.eye(4)[ids].T > 0, probability, 1 - probability)
    expected = (-((1 - p) ** gamma) * np.log(p)).mean()
    assert float(loss(logits, make_target(mask))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.0, 0.25), (0.3, 0.1), (1.0, 0.1)])
def test_ohem_keeps_the_hardest(
    logits: np.ndarray, mask: np.ndarray, threshold: float, min_kept: float
) -> None:
    p = np.sort(truth_probability(logits, mask))
    kept = p[: max(int(np.ceil(min_kept * p.size)), int((p < threshold).sum()))]
    expected = -np.log(kept).mean()
    found = Ohem(threshold, min_kept)(logits, make_target(mask))
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_dice(logits: np.ndarray, mask: np.ndarray) -> None:
    mask[mask == 3] = 0  # a class that is nowhere does not enter
    values, ids = counted(logits, mask)
    p, truth = softmax(values), np.eye(4)[ids].T
    dice = (2 * (p * truth).sum(1) + 1) / (p.sum(1) + truth.sum(1) + 1)
    assert float(Dice()(logits, make_target(mask))) == pytest.approx(
        (1 - dice[:3]).mean(), rel=1e-5
    )


def test_lovasz_is_the_mean_jaccard_index_of_hard_answers() -> None:
    # Where every error is 0 or 1 the Lovasz extension is 1 - IoU itself (Berman et al., section 2).
    rng = np.random.default_rng(2)
    truth, prediction = rng.integers(0, 3, (2, 8, 8)), rng.integers(0, 3, (2, 8, 8))
    logits = 1e4 * np.eye(3, dtype=np.float32)[prediction].transpose(3, 0, 1, 2)
    expected = np.mean(
        [
            1 - ((t == c) & (p == c)).sum() / ((t == c) | (p == c)).sum()
            for t, p in zip(truth, prediction, strict=True)
            for c in range(3)
        ]
    )
    assert float(Lovasz()(logits, make_target(truth))) == pytest.approx(expected, rel=1e-5)


def test_lovasz_of_soft_answers_is_the_convex_closure() -> None:
    # One class, three pixels: the integral over thresholds of 1 - IoU of the errors above them.
    p = np.array([0.9, 0.4, 0.2], np.float32)  # of class 1
    truth = np.array([[[1, 1, 0]]])
    logits = np.log(np.stack([1 - p, p]))[:, None, None, :]
    expected = []
    for class_, probability in enumerate([1 - p, p]):
        own = truth[0, 0] == class_
        errors = np.abs(own - probability)
        levels = sorted([0.0, *errors])
        closure = 0.0
        for low, high in itertools.pairwise(levels):
            wrong = errors > low
            closure += (high - low) * (1 - (own & ~wrong).sum() / (own | wrong).sum())
        expected.append(closure)
    found = Lovasz()(logits, make_target(truth))
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_a_sum_is_weighted(logits: np.ndarray, mask: np.ndarray) -> None:
    target = make_target(mask)
    both = WeightedSum(((1.0, CrossEntropy()), (0.5, Dice())))
    expected = float(CrossEntropy()(logits, target)) + 0.5 * float(Dice()(logits, target))
    assert float(both(logits, target)) == pytest.approx(expected, rel=1e-6)


# === Weights ===


def test_class_weights_weigh_the_mean(logits: np.ndarray, mask: np.ndarray) -> None:
    weights = np.array([1.0, 2.0, 0.5, 0.0])
    weight = weights[mask[mask != 255]]
    expected = (-np.log(truth_probability(logits, mask)) * weight).sum() / weight.sum()
    found = CrossEntropy()(logits, make_target(mask, class_weights=weights.tolist()))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_pixels_near_a_boundary_weigh_more() -> None:
    mask = np.zeros((1, 7, 12), np.uint8)
    mask[:, :, 5:] = 1
    mask[:, :, 9] = 255  # what is ignored is no boundary
    weight = make_target(mask, boundary_weight=3.0, boundary_radius=2).weight.numpy()
    assert np.array_equal(weight[0, 3], [1, 1, 1, 3, 3, 3, 3, 1, 1, 0, 1, 1])


# === All of them ===


@pytest.mark.parametrize("name", LOSSES)
def test_an_ignored_pixel_changes_nothing_and_has_no_gradient(
    name: str, logits: np.ndarray, mask: np.ndarray
) -> None:
    loss, target = LOSSES[name], make_target(mask)
    other = np.where(mask == 255, 50 - logits, logits)
    assert float(loss(other, target)) == pytest.approx(float(loss(logits, target)), rel=1e-5)
    values = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = loss(values, target)
    gradient = tape.gradient(result, values).numpy()
    assert not gradient[:, mask == 255].any()
    assert np.isfinite(gradient).all() and gradient[:, mask != 255].any()


@pytest.mark.parametrize("name", LOSSES)
def test_all_ignored_is_zero_not_nan(name: str, logits: np.ndarray) -> None:
    values = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = LOSSES[name](values, make_target(np.full((2, 9, 11), 255, np.uint8)))
    assert float(loss) == 0
    assert not tape.gradient(loss, values).numpy().any()


@pytest.mark.parametrize("name", LOSSES)
def test_large_logits_stay_finite(name: str, logits: np.ndarray, mask: np.ndarray) -> None:
    values = tf.constant(1e4 * logits)
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = LOSSES[name](values, make_target(mask))
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, values).numpy()).all()


@pytest.mark.parametrize("name", LOSSES)
def test_compiled_is_the_same(name: str, logits: np.ndarray, mask: np.ndarray) -> None:
    target = make_target(mask)
    compiled = tf.function(LOSSES[name], jit_compile=True)
    expected = float(LOSSES[name](logits, target))
    assert float(compiled(tf.constant(logits), target)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CrossEntropy(label_smoothing=2), "label_smoothing is 2: expected 0 to 1"),
        (lambda: Focal(gamma=-1), "gamma is -1"),
        (lambda: Ohem(min_kept=0), "min_kept is 0"),
    ],
)
def test_a_parameter_out_of_range_is_named(make: Callable[[], Loss], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from test_losses import LOSSES
from segkit.training.losses import make_target

rng = np.random.default_rng(0)
logits = rng.normal(0, 2, (4, 6, 9, 11)).astype(np.float32)
mask = rng.choice([0, 1, 2, 3, 255], (6, 9, 11)).astype(np.uint8)
mask[:3][mask[:3] == 2] = 255  # a class that one replica alone has
mask[4:] = 255
weights = [1.0, 2.0, 0.5, 3.0]

def slopes(loss, values, truth):
    target = make_target(truth, class_weights=weights, boundary_weight=2.0)
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = loss(values, target)
    return result, tape.gradient(result, values)

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name, loss in LOSSES.items():
    expected, slope = slopes(loss, tf.constant(logits), mask)
    def part(context):
        here = slice(3 * context.replica_id_in_sync_group, 3 * context.replica_id_in_sync_group + 3)
        return tf.constant(logits[:, here]), tf.constant(mask[here])
    batch = strategy.experimental_distribute_values_from_function(part)
    shares, parts = tf.function(lambda batch: strategy.run(
        lambda values, truth: slopes(loss, values, truth), args=batch))(batch)
    found = sum(float(share) for share in strategy.experimental_local_results(shares))
    together = np.concatenate(strategy.experimental_local_results(parts), axis=1)
    np.testing.assert_allclose(found, float(expected), rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(together, slope, rtol=1e-3, atol=1e-7, err_msg=name)
print("all equal")
"""


def test_two_replicas_have_the_loss_and_the_gradient_of_one() -> None:
    reply = subprocess.run(
        [sys.executable, "-c", REPLICAS],
        cwd=REPOSITORY,
        env={"PYTHONPATH": f"{REPOSITORY}:{Path(__file__).parent}", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert "all equal" in reply.stdout, reply.stderr[-3000:]


# === Heads ===


def test_upsampling_is_that_of_the_network() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    expected = tf.transpose(tf.image.resize(logits, (40, 56)), [3, 0, 1, 2])
    np.testing.assert_allclose(upsample(tf.constant(logits), (40, 56)), expected, atol=1e-5)


def test_heads_are_compared_at_the_size_of_the_mask_and_the_auxiliary_ones_weigh_less() -> None:
    rng = np.random.default_rng(0)
    logits = tf.constant(rng.normal(0, 3, (2, 5, 7, 4)), tf.float32)
    mask = rng.choice([0, 1, 2, 3, 255], (2, 33, 50)).astype(np.uint8)
    keras = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    expected = float(keras(mask, tf.image.resize(logits, (33, 50))))
    for heads, factor in (([logits], 1.0), ([logits, logits], 1.0 + AUXILIARY_WEIGHT)):
        found = deeply_supervised(
            heads, make_target(mask), image_size=(33, 50), loss=CrossEntropy()
        )
        assert float(found) == pytest.approx(factor * expected, rel=1e-5)
