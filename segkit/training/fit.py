"""fit(): the training loop, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from segkit.errors import SegkitError
from segkit.evaluation.evaluate import evaluate, make_confusion_step
from segkit.evaluation.metrics import ConfusionMatrix
from segkit.labels import LabelMap
from segkit.models import heads_model
from segkit.models.checkpoints import CheckpointRecord, save_checkpoint
from segkit.runs import Run
from segkit.training.losses import Target
from segkit.training.objective import Objective

__all__ = ["Plan", "fit", "make_train_step"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train, for how long, and where.

    Args:
        network: A key of models.NETWORKS.
        image_size: Height and width of the crops and of validation, pixels.
        aspp_rates: What the network was built with, for the checkpoints' record.
        labels: The classes.
        epochs: Number of passes.
        steps_per_epoch: Optimizer steps a pass.
        global_batch_size: Images a step, over all replicas.
        precision: Name of Keras's policy, already set.
        strategy: The devices.
        objective: What is minimised.
    """

    network: str
    image_size: tuple[int, int]
    aspp_rates: tuple[int, ...]
    labels: LabelMap
    epochs: int
    steps_per_epoch: int
    global_batch_size: int
    precision: str
    strategy: tf.distribute.Strategy
    objective: Objective = field(default_factory=Objective)


def fit(
    plan: Plan,
    model: tf.keras.Model,
    *,
    make_optimizer: Callable[[], tf.keras.optimizers.Optimizer],
    train_batches: tf.data.Dataset,
    val_batches: tf.data.Dataset,
    run: Run,
    report: Callable[[str], None],
) -> ConfusionMatrix:
    """Trains a model; leaves last.h5 and best.h5 (by val mean_iou) in the run folder.

    Args:
        plan: What, for how long, where.
        model: The plan's network, built inside the strategy's scope.
        make_optimizer: Called inside the strategy's scope.
        train_batches: Endless; (image float32 (B, h, w, 3), mask uint8 (B, h, w)).
        val_batches: One pass, every image once; likewise.
        run: Its folder takes checkpoints, results.csv and tensorboard/.
        report: Takes the line of each epoch.

    Returns:
        The confusion matrix of the best epoch.

    Raises:
        SegkitError: The loss is no longer finite.
    """
    # === Optimizer and steps ===
    strategy = plan.strategy
    num_classes = plan.labels.num_classes
    with strategy.scope():
        optimizer = make_optimizer()
        if plan.precision == "mixed_float16":
            optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
    train_step = make_train_step(model, optimizer, strategy, objective=plan.objective)
    confusion_step = make_confusion_step(model, num_classes, strategy)

    # === Input ===
    batches = iter(strategy.experimental_distribute_dataset(train_batches))
    val_batches = strategy.experimental_distribute_dataset(val_batches)

    # === Loop ===
    writer = tf.summary.create_file_writer(str(run.tensorboard))
    best, best_matrix, best_epoch = -1.0, ConfusionMatrix(num_classes), 0
    started = time.perf_counter()
    for epoch in range(1, plan.epochs + 1):
        loss, seconds, waited = _train_epoch(train_step, batches, plan.steps_per_epoch)
        if not math.isfinite(loss):
            raise SegkitError(
                f"the loss became {loss} in epoch {epoch}",
                expected="a finite loss",
                next_step="lower --lr, or train with --mixed_precision false; "
                f"the last good weights are '{run.last}'",
            )
        matrix = evaluate(confusion_step, val_batches, num_classes)
        record = CheckpointRecord(
            network=plan.network,
            image_size=plan.image_size,
            aspp_rates=plan.aspp_rates,
            labels=plan.labels,
            auxiliary=len(model.outputs) > 1,
            precision=plan.precision,
            epoch=epoch,
            step=epoch * plan.steps_per_epoch,
            val_mean_iou=matrix.mean_iou,
        )
        save_checkpoint(model, record, run.last)
        if matrix.mean_iou > best:
            best, best_matrix, best_epoch = matrix.mean_iou, matrix, epoch
            save_checkpoint(model, record, run.best)

        rate = float(tf.convert_to_tensor(optimizer.learning_rate))  # a MirroredVariable on GPUs
        images_per_second = plan.steps_per_epoch * plan.global_batch_size / seconds
        run.add_result(_row(record, loss, rate, images_per_second, matrix))
        with writer.as_default(step=epoch):
            tf.summary.scalar("loss", loss)
            tf.summary.scalar("learning_rate", rate)
            tf.summary.scalar("val_mean_iou", matrix.mean_iou)
            tf.summary.scalar("val_pixel_accuracy", matrix.pixel_accuracy)
        left = (time.perf_counter() - started) / epoch * (plan.epochs - epoch)
        report(
            f"epoch {epoch}/{plan.epochs}  loss {loss:.3g}  val_mean_iou {matrix.mean_iou:.3f} "
            f"(best {best:.3f} @ {best_epoch})  {images_per_second:.3g} img/s  "
            f"data {waited / seconds:.0%}  ETA {_duration(left)}"
        )
    writer.close()
    return best_matrix


def make_train_step(
    model: tf.keras.Model,
    optimizer: tf.keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    *,
    objective: Objective,
) -> Callable[[Any], tf.Tensor]:
    """A graph that takes a distributed batch, updates the weights and gives the loss.

    Args:
        model: Of `build_model`, so that its logits are known before their last resize.
        optimizer: Built; a LossScaleOptimizer for float16.
        strategy: Runs the step on its replicas.
        objective: What is minimised.
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
        # Sums over the replicas; each loss is already a share of the global batch's mean.
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def step(batch: Any) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(on_replica, args=batch), axis=None)

    return step


def _train_epoch(
    step: Callable[[Any], tf.Tensor], batches: Iterator[Any], steps: int
) -> tuple[float, float, float]:
    """Returns mean loss, seconds in all and seconds spent waiting for data."""
    started = time.perf_counter()
    waited = 0.0
    losses = []
    for _ in range(steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        losses.append(step(batch))
    # Reading the losses waits for the device: before that, the seconds mean nothing.
    loss = float(tf.reduce_mean(losses))
    return loss, time.perf_counter() - started, waited


def _row(
    record: CheckpointRecord, loss: float, rate: float, speed: float, matrix: ConfusionMatrix
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "epoch": record.epoch,
        "step": record.step,
        "loss": loss,
        "learning_rate": rate,
        "images_per_second": speed,
        "val_mean_iou": matrix.mean_iou,
        "val_pixel_accuracy": matrix.pixel_accuracy,
    }
    names = zip(record.labels.names, matrix.class_iou, strict=True)
    return row | {f"val_iou_{name}": iou for name, iou in names}


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {seconds:02} s"
