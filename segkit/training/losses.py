"""Losses over class ids (B, H, W) and logits (B, H, W, C). IGNORE_ID counts nowhere."""

from __future__ import annotations

import tensorflow as tf

from segkit.labels import IGNORE_ID

__all__ = ["AUXILIARY_WEIGHT", "cross_entropy", "deeply_supervised"]

AUXILIARY_WEIGHT = 0.4  # Zhao et al. 2017 (PSPNet), section 4; mmsegmentation's DDRNet likewise


def cross_entropy(mask: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy over the valid pixels of the global batch.

    Inside a distribution strategy each replica returns its share: the sum over its own pixels
    divided by the number of valid pixels on all replicas. The shares, and so their gradients, add
    up to what one device would have computed for the whole batch.

    Args:
        mask: Class ids of any integer dtype, (B, H, W).
        logits: float32, (B, H, W, C).

    Returns:
        A scalar; 0 where no pixel is valid.
    """
    valid = tf.not_equal(tf.cast(mask, tf.int32), IGNORE_ID)
    # An ignored id is no index into the logits: it must not even reach the op.
    safe = tf.where(valid, tf.cast(mask, tf.int32), 0)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=safe, logits=logits)
    weight = tf.cast(valid, loss.dtype)
    total = tf.reduce_sum(weight)
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        total = replica.all_reduce(tf.distribute.ReduceOp.SUM, total)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * weight), total)


def deeply_supervised(mask: tf.Tensor, outputs: tf.Tensor | list[tf.Tensor]) -> tf.Tensor:
    """Loss of the main logits and, where the network has an auxiliary head, of its, weighted."""
    main, *auxiliary = (cross_entropy(mask, logits) for logits in tf.nest.flatten(outputs))
    return main + AUXILIARY_WEIGHT * tf.add_n(auxiliary) if auxiliary else main
