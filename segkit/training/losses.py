"""Losses over logits with the class first, float32 (C, B, H, W). IGNORE_ID counts nowhere.

With the class first a sum over the classes is a sum of planes: on a CPU several times faster than
one over neighbours, and XLA makes one pass of it (docs/training-speed.md).

Inside a distribution strategy each replica returns its share of the loss. The shares, and so their
gradients, add up to what one device would have computed for the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from segkit.labels import IGNORE_ID
from segkit.models.layers import interpolation_matrix

__all__ = [
    "AUXILIARY_WEIGHT",
    "Target",
    "cross_entropy",
    "deeply_supervised",
    "make_target",
    "upsample",
]

AUXILIARY_WEIGHT = 0.4  # Zhao et al. 2017 (PSPNet), section 4; mmsegmentation's DDRNet likewise


class Target(NamedTuple):
    """What the logits should say.

    Attributes:
        ids: Class ids, int32 (B, H, W); 0 where the pixel does not count.
        valid: 1.0 where a pixel counts, else 0.0, float32 (B, H, W).
        total: Number of pixels that count on all replicas, at least 1; a scalar, float32.
    """

    ids: tf.Tensor
    valid: tf.Tensor
    total: tf.Tensor


def make_target(mask: tf.Tensor) -> Target:
    """Splits a mask (class ids of any integer dtype, (B, H, W)) into ids and what counts."""
    ids = tf.cast(mask, tf.int32)
    counts = tf.not_equal(ids, IGNORE_ID)
    valid = tf.cast(counts, tf.float32)
    total = tf.reduce_sum(valid)
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        total = replica.all_reduce(tf.distribute.ReduceOp.SUM, total)
    # An ignored id is no index of a class: it must not even reach the loss.
    return Target(tf.where(counts, ids, 0), valid, tf.maximum(total, 1.0))


def upsample(logits: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Logits (B, h, w, C) -> (C, B, H, W), bilinear: what a network's last layer does, turned."""
    planes = tf.transpose(logits, [3, 0, 1, 2])
    rows, columns = (
        tf.constant(interpolation_matrix(size, out_size))
        for size, out_size in zip(logits.shape[1:3], image_size, strict=True)
    )
    return tf.matmul(tf.matmul(rows, planes), columns, transpose_b=True)


def cross_entropy(logits: tf.Tensor, target: Target) -> tf.Tensor:
    """This replica's share of the mean cross-entropy over the pixels that count; a scalar."""
    one_hot = tf.one_hot(target.ids, logits.shape[0], axis=0)
    loss = tf.reduce_logsumexp(logits, axis=0) - tf.reduce_sum(one_hot * logits, axis=0)
    return tf.reduce_sum(loss * target.valid) / target.total


def deeply_supervised(
    heads: Sequence[tf.Tensor], target: Target, *, image_size: tuple[int, int]
) -> tf.Tensor:
    """Loss of the main logits and, where the network has an auxiliary head, of its, weighted.

    Args:
        heads: Logits (B, h, w, C) before they are resized to the image, the main ones first.
        target: See make_target.
        image_size: Height and width of the masks, pixels.
    """
    main, *auxiliary = (cross_entropy(upsample(logits, image_size), target) for logits in heads)
    return main + AUXILIARY_WEIGHT * tf.add_n(auxiliary) if auxiliary else main
