"""Losses over logits with the class first, float32 (C, B, H, W). IGNORE_ID counts nowhere.

With the class first a sum over the classes is a sum of planes: on a CPU several times faster than
one over neighbours, and XLA makes one pass of it (docs/training-speed.md).

Inside a distribution strategy each replica returns its share of the loss. The shares, and so their
gradients, add up to what one device would have computed for the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from segkit.labels import IGNORE_ID
from segkit.models.layers import interpolation_matrix

__all__ = [
    "AUXILIARY_WEIGHT",
    "BinaryCrossEntropy",
    "BinaryFocal",
    "CrossEntropy",
    "Dice",
    "Focal",
    "Loss",
    "Lovasz",
    "Ohem",
    "Target",
    "WeightedSum",
    "deeply_supervised",
    "make_target",
    "upsample",
]

AUXILIARY_WEIGHT = 0.4  # Zhao et al. 2017 (PSPNet), section 4; mmsegmentation's DDRNet likewise
_BISECTIONS = 16  # of the probabilities 0..1: Ohem's threshold is right to 1 / 65536


class Target(NamedTuple):
    """What the logits should say.

    Attributes:
        ids: Class ids, int32 (B, H, W); 0 where the pixel does not count.
        weight: How much a pixel counts, 0 where it is ignored, float32 (B, H, W).
        total: Sum of the weights on all replicas, above 0; a scalar, float32.
    """

    ids: tf.Tensor
    weight: tf.Tensor
    total: tf.Tensor


# (logits float32 (C, B, H, W), target) -> this replica's share, a scalar.
Loss = Callable[[tf.Tensor, Target], tf.Tensor]


def make_target(
    mask: tf.Tensor,
    *,
    class_weights: Sequence[float] | None = None,
    boundary_weight: float = 1.0,
    boundary_radius: int = 2,
) -> Target:
    """Splits a mask into class ids and how much each pixel counts.

    Args:
        mask: Class ids of any integer dtype, (B, H, W).
        class_weights: How much a pixel of each class counts; all alike, by default.
        boundary_weight: By how much more a pixel near a boundary of two classes counts.
        boundary_radius: How near, in pixels, in a square.
    """
    ids = tf.cast(mask, tf.int32)
    counts = tf.not_equal(ids, IGNORE_ID)
    # An ignored id is no index of a class: it must not even reach the loss.
    safe = tf.where(counts, ids, 0)
    weight = tf.cast(counts, tf.float32)
    if class_weights is not None:
        weight *= tf.gather(tf.constant(class_weights, tf.float32), safe)
    if boundary_weight != 1.0:
        near = tf.cast(_near_boundary(safe, counts, boundary_radius), tf.float32)
        weight *= 1.0 + (boundary_weight - 1.0) * near
    total = _sum_of_replicas(tf.reduce_sum(weight))
    return Target(safe, weight, tf.where(total > 0, total, 1.0))


def upsample(logits: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Logits (B, h, w, C) -> (C, B, H, W), bilinear: what a network's last layer does, turned."""
    planes = tf.transpose(logits, [3, 0, 1, 2])
    rows, columns = (
        tf.constant(interpolation_matrix(size, out_size))
        for size, out_size in zip(logits.shape[1:3], image_size, strict=True)
    )
    return tf.matmul(tf.matmul(rows, planes), columns, transpose_b=True)


def deeply_supervised(
    heads: Sequence[tf.Tensor],
    target: Target,
    *,
    image_size: tuple[int, int],
    loss: Loss,
    auxiliary_weight: float = AUXILIARY_WEIGHT,
) -> tf.Tensor:
    """Loss of the main logits and, where the network has an auxiliary head, of its, weighted.

    Args:
        heads: Logits (B, h, w, C) before they are resized to the image, the main ones first.
        target: See make_target.
        image_size: Height and width of the masks, pixels.
        loss: Of every head.
        auxiliary_weight: Of all heads but the first.
    """
    main, *auxiliary = (loss(upsample(logits, image_size), target) for logits in heads)
    return main + auxiliary_weight * tf.add_n(auxiliary) if auxiliary else main


@dataclass(frozen=True)
class WeightedSum:
    """Several losses in one.

    Args:
        parts: Pairs of a weight and a loss.
    """

    parts: tuple[tuple[float, Loss], ...]

    def __call__(self, logits: tf.Tensor, target: Target) -> tf.Tensor:
        """This replica's share."""
        return tf.add_n([weight * loss(logits, target) for weight, loss in self.parts])


# === By pixel: a weighted mean over the pixels of the whole batch ===


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the softmax.

    Args:
        label_smoothing: Share of the truth that is spread over all classes, 0..1 (Szegedy et al.
            2016, section 7).
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check(self, label_smoothing=(0, 1))

    def __call__(self, logits: tf.Tensor, target: Target) -> tf.Tensor:
        """This replica's share."""
        return _mean(self.by_pixel(logits, target), target)

    def by_pixel(self, logits: tf.Tensor, target: Target) -> tf.Tensor:
        """Not weighted, float32 (B, H, W)."""
        truth = tf.reduce_sum(_one_hot(logits, target) * logits, axis=0)
        if self.label_smoothing:
            truth += self.label_smoothing * (tf.reduce_mean(logits, axis=0) - truth)
        return tf.reduce_logsumexp(logits, axis=0) - truth


@dataclass(frozen=True)
class Focal:
    """Cross-entropy that easy pixels hardly enter: times (1 - p)^gamma (Lin et al. 2017, eq. 4).

    Args:
        gamma: How much less easy pixels count, 0 or more; 0 is cross-entropy.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        _check(self, gamma=(0, 100))

    def __call__(self, logits: tf.Tensor, target: Target) -> tf.Tensor:
        """This replica's share."""
        loss = CrossEntropy().by_pixel(logits, target)
        return _mean(_power(1.0 - tf.exp(-loss), self.gamma) * loss, target)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Cross-entropy of a sigmoid for each class against all others, the mean over the classes."""

    def __call__(self, logits: tf.Tensor, target: Target) -> tf.Tensor:
        """This replica's share."""
        return _mean(tf.reduce_mean(self.by_class(logits, target), axis=0), target)

    def by_class(self, logits: tf.Tensor, target: Target) -> tf.Tensor:
        """Not weighted, float32 (C, B, H, W)."""
        return tf.nn.sigmoid_cross_entropy_with_logits(_one_hot(logits, target), logits)


@dataclass(frozen=True)
class BinaryFocal:
    """BinaryCrossEntropy times (1 - p)^gamma, as Lin et al. 2017 (eq. 4) have it.

    Args:
        gamma: How much less easy pixels count, 0 or more.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        _check(self, gamma=(0, 100))

    def __call__(self, logits: tf.Tensor, target: Target) -> tf.Tensor:
        """This replica's share."""
        loss = BinaryCrossEntropy().by_class(logits, target)
        focal = _power(1.0 - tf.exp(-loss), self.gamma) * loss
        return _mean(tf.reduce_mean(focal, axis=0), target)


@dataclass(frozen=True)
class Ohem:
    """Cross-entropy of the hardest pixels: online hard example mining, as HRNet and PIDNet have it.

    A pixel counts where its class's probability is below `threshold`; of all pixels that are not
    ignored at least a share counts, the hardest ones. Threshold and share are of the whole batch,
    over all replicas.

    Args:
        threshold: Probability of the true class, 0..1.
        min_kept: Share of the pixels that counts at least, above 0, at most 1. HRNet's 131,072
            pixels are 1/48 of a batch of 6 x 1024 x 1024.
    """

    threshold: float = 0.9
    min_kept: float = 0.0625

    def __post_init__(self) -> None:
        _check(self, threshold=(0, 1), min_kept=(1e-6, 1))

    def __call__(self, logits: tf.Tensor, target: Target) -> tf.Tensor:
        """This replica's share."""
        loss = CrossEntropy().by_pixel(logits, target)
        truth = tf.stop_gradient(tf.exp(-loss))
        counts = target.weight > 0
        least = self.min_kept * _sum_of_replicas(tf.reduce_sum(tf.cast(counts, tf.float32)))
        # The probability below which just enough pixels lie, by bisection: sorting them takes
        # longer than all the rest, and replicas cannot sort together.
        low, high = tf.zeros([]), tf.ones([])
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            below = tf.reduce_sum(tf.cast(counts & (truth < middle), tf.float32))
            enough = _sum_of_replicas(below) >= least
            low, high = tf.where(enough, low, middle), tf.where(enough, middle, high)
        kept = target.weight * tf.cast(truth <= tf.maximum(high, self.threshold), tf.float32)
        total = _sum_of_replicas(tf.reduce_sum(kept))
        return tf.reduce_sum(loss * kept) / tf.where(total > 0, total, 1.0)


# === By region ===


@dataclass(frozen=True)
class Dice:
    """1 - Dice of the probabilities, the mean over the classes that the batch has.

    Milletari et al. 2016, eq. 2, with sums over the whole batch, over all replicas.

    Args:
        smooth: Added above and below, in pixels.
    """

    smooth: float = 1.0

    def __post_init__(self) -> None:
        _check(self, smooth=(0, 1e9))

    def __call__(self, logits: tf.Tensor, target: Target) -> tf.Tensor:
        """This replica's share."""
        probabilities = tf.nn.softmax(logits, axis=0) * target.weight
        truth = _one_hot(logits, target) * target.weight
        pixels = [1, 2, 3]
        hit = _sum_of_replicas(tf.reduce_sum(probabilities * _one_hot(logits, target), pixels))
        predicted = _sum_of_replicas(tf.reduce_sum(probabilities, pixels))
        true = _sum_of_replicas(tf.reduce_sum(truth, pixels))
        dice = (2.0 * hit + self.smooth) / (predicted + true + self.smooth)
        there = tf.cast(true > 0, tf.float32)
        # All replicas have the same value, and each one's gradient is summed with the others'.
        mean = tf.math.divide_no_nan(tf.reduce_sum((1.0 - dice) * there), tf.reduce_sum(there))
        return mean / _num_replicas()


@dataclass(frozen=True)
class Lovasz:
    """Lovasz-softmax: the convex closure of 1 - IoU (Berman et al. 2018, section 3).

    The mean over the images of the mean over the classes that an image has. It sorts the pixels of
    every image for every class, so it is slow on a CPU. How much a pixel counts does not enter.
    """

    def __call__(self, logits: tf.Tensor, target: Target) -> tf.Tensor:
        """This replica's share."""
        counts = tf.cast(target.weight > 0, tf.float32)
        truth = _one_hot(logits, target) * counts
        errors = tf.abs(truth - tf.nn.softmax(logits, axis=0)) * counts  # ignored ones sort last
        classes, images = logits.shape[0], tf.shape(logits)[1]
        errors, truth = (tf.reshape(x, [classes, images, -1]) for x in (errors, truth))
        order = tf.argsort(tf.stop_gradient(errors), axis=-1, direction="DESCENDING")
        errors, truth = (tf.gather(x, order, batch_dims=2) for x in (errors, truth))
        loss = tf.reduce_sum(errors * tf.stop_gradient(_jaccard_steps(truth)), axis=-1)
        there = tf.cast(tf.reduce_any(truth > 0, axis=-1), tf.float32)  # (C, B)
        by_image = tf.math.divide_no_nan(
            tf.reduce_sum(loss * there, axis=0), tf.reduce_sum(there, axis=0)
        )
        return tf.reduce_mean(by_image) / _num_replicas()


def _jaccard_steps(truth: tf.Tensor) -> tf.Tensor:
    """Gradient of the Lovasz extension of 1 - IoU for sorted errors; algorithm 1 of the paper."""
    total = tf.reduce_sum(truth, axis=-1, keepdims=True)
    intersection = total - tf.cumsum(truth, axis=-1)
    union = total + tf.cumsum(1.0 - truth, axis=-1)
    jaccard = 1.0 - tf.math.divide_no_nan(intersection, union)
    return tf.concat([jaccard[..., :1], jaccard[..., 1:] - jaccard[..., :-1]], axis=-1)


# === What they share ===


def _mean(by_pixel: tf.Tensor, target: Target) -> tf.Tensor:
    return tf.reduce_sum(by_pixel * target.weight) / target.total


def _one_hot(logits: tf.Tensor, target: Target) -> tf.Tensor:
    return tf.one_hot(target.ids, logits.shape[0], axis=0)


def _power(base: tf.Tensor, exponent: float) -> tf.Tensor:
    # The gradient of 0 ** x is not finite for an x below 1, and squares are much faster.
    return tf.square(base) if exponent == 2 else tf.pow(tf.maximum(base, 1e-7), exponent)


def _near_boundary(ids: tf.Tensor, counts: tf.Tensor, radius: int) -> tf.Tensor:
    """Where a pixel of another class lies within a radius: bool, (B, H, W)."""

    def highest(values: tf.Tensor) -> tf.Tensor:
        size = 2 * radius + 1
        return tf.nn.max_pool2d(values[..., None], size, 1, "SAME")[..., 0]

    planes = tf.cast(ids, tf.float32)
    largest = highest(tf.where(counts, planes, -1.0))
    smallest = -highest(tf.where(counts, -planes, -256.0))
    return counts & (largest > smallest)


def _num_replicas() -> int:
    replica = tf.distribute.get_replica_context()
    return 1 if replica is None else int(replica.num_replicas_in_sync)


def _sum_of_replicas(value: tf.Tensor) -> tf.Tensor:
    if _num_replicas() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def _check(loss: object, **ranges: tuple[float, float]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(loss, name)
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}: expected {low:g} to {high:g}")
