"""One step of the optimizer, as a graph on every replica."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from segkit.models import heads_model
from segkit.training.average import WeightAverage
from segkit.training.losses import Target
from segkit.training.objective import Objective

__all__ = ["make_train_step"]


def make_train_step(
    model: tf.keras.Model,
    optimizer: Any,
    strategy: tf.distribute.Strategy,
    *,
    objective: Objective,
    clip_norm: float = 0.0,
    average: WeightAverage | None = None,
) -> Callable[[Any], tf.Tensor]:
    """A graph that takes a distributed batch, updates the weights and gives the loss.

    Args:
        model: Of `build_model`, so that its logits are known before their last resize.
        optimizer: With its slots; a LossScaleOptimizer for float16.
        strategy: Runs the step on its replicas.
        objective: What is minimised.
        clip_norm: Gradients that are longer, all weights and replicas together, are shortened to
            this (Pascanu et al. 2013, algorithm 1); 0 leaves them.
        average: Takes in the weights after each step.
    """
    scaled = isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    heads = heads_model(model)

    # Compiled, a CPU computes it in one pass. Replicas cannot talk in compiled code, and on GPUs it
    # is untested.
    alone = strategy.num_replicas_in_sync == 1 and not tf.config.list_physical_devices("GPU")

    @tf.function(jit_compile=alone)
    def loss_and_slopes(logits: list[tf.Tensor], target: Target) -> tuple[tf.Tensor, Any]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = objective(logits, target, image_size=model.input_shape[1:3])
        return loss, tape.gradient(loss, logits)

    def on_replica(image: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = tf.nest.flatten(heads(image, training=True))
        loss, slopes = loss_and_slopes(logits, objective.target(mask))
        if scaled:
            slopes = [optimizer.get_scaled_loss(slope) for slope in slopes]
        gradients = tape.gradient(logits, model.trainable_variables, output_gradients=slopes)
        if scaled:
            gradients = optimizer.get_unscaled_gradients(gradients)
        # Each loss is already a share of the global batch's mean. Summed here and not by the
        # optimizer, so that what is clipped is the gradient of the global batch.
        gradients = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
        if clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, clip_norm)
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True),
            experimental_aggregate_gradients=False,
        )
        if average is not None:
            average.update(optimizer.iterations)
        return loss

    @tf.function
    def step(batch: Any) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(on_replica, args=batch), axis=None)

    return step
