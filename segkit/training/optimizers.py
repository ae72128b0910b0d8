"""Optimizers by name. Normalisation and biases are never decayed."""

from __future__ import annotations

from typing import Any, Literal, get_args

import tensorflow as tf

__all__ = ["OPTIMIZERS", "OptimizerName", "make_optimizer"]

OptimizerName = Literal["sgd", "adam", "adamw"]
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)


def make_optimizer(
    name: OptimizerName, learning_rate: Any, *, weight_decay: float
) -> tf.keras.optimizers.Optimizer:
    """Builds an optimizer.

    Args:
        name: "sgd" (momentum 0.9), "adam" (which ignores weight_decay) or "adamw".
        learning_rate: A float or a schedule.
        weight_decay: Decoupled weight decay per unit of learning rate (Loshchilov and Hutter
            2019), with SGD too: it does not pass through the momentum.
    """
    if name == "sgd":
        optimizer = tf.keras.optimizers.SGD(
            learning_rate, momentum=0.9, weight_decay=weight_decay or None
        )
    elif name == "adam":
        return tf.keras.optimizers.Adam(learning_rate)
    else:
        optimizer = tf.keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer
