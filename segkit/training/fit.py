"""fit(): the training loop, read from top to bottom."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from segkit.errors import ConfigError, SegkitError
from segkit.evaluation.evaluate import evaluate, make_confusion_step
from segkit.evaluation.metrics import ConfusionMatrix
from segkit.labels import LabelMap
from segkit.models import build_model
from segkit.models.checkpoints import CheckpointRecord, save_checkpoint
from segkit.runs import Run
from segkit.training.average import WeightAverage
from segkit.training.interruption import Interruption, interruptible
from segkit.training.objective import Objective
from segkit.training.optimizers import build_slots, current_learning_rate
from segkit.training.run_log import EpochResult, RunLog
from segkit.training.state import Standing, TrainingState
from segkit.training.strategy import any_worker
from segkit.training.train_step import make_train_step

__all__ = ["Batches", "Outcome", "Plan", "fit"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train, for how long, and where.

    Args:
        network: A key of models.NETWORKS.
        image_size: Height and width that validation sees, pixels. The train images and the model
            may have others.
        aspp_rates: What the network was built with, for the checkpoints' record.
        labels: The classes.
        epochs: Number of passes.
        steps_per_epoch: Optimizer steps a pass.
        global_batch_size: Images a step, over all replicas.
        precision: Name of Keras's policy, already set.
        strategy: The devices.
        objective: What is minimised.
        clip_norm: Longest gradient, see `make_train_step`; 0 for any.
        ema_decay: Of the average of the weights that is evaluated and saved in their stead, see
            `WeightAverage`; 0 for the weights themselves.
        patience: Epochs without a better val mean_iou after which it ends; 0 for never.
        state_seconds: Seconds after which the state is saved within an epoch; it always is after
            one.
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
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    patience: int = 0
    state_seconds: float = 600.0

    def is_over(self, standing: Standing) -> bool:
        """Whether all epochs are done, or patience is at an end."""
        epoch = standing.step // self.steps_per_epoch
        return epoch >= self.epochs or 0 < self.patience <= epoch - standing.best_epoch


@dataclass(frozen=True, kw_only=True)
class Batches:
    """What to train and to validate on.

    Args:
        train: From a step on, counted from 0: this worker's part of each global batch, endless:
            (image float32 (B, h, w, 3), mask uint8 (B, h, w)).
        val: One pass, every image once, the same on all workers; likewise.
        stems: Names the images in the batch of a step.
    """

    train: Callable[[int], tf.data.Dataset]
    val: tf.data.Dataset
    stems: Callable[[int], list[str]]


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Args:
        standing: How far it came, and its best epoch.
        signal: What interrupted it, or None.
    """

    standing: Standing
    signal: signal.Signals | None

    @property
    def matrix(self) -> ConfusionMatrix:
        """The confusion matrix of the best epoch."""
        matrix = ConfusionMatrix(max(1, len(self.standing.best_counts)))
        if self.standing.best_counts:
            matrix.add(self.standing.best_counts)
        return matrix


def fit(
    plan: Plan,
    model: tf.keras.Model,
    *,
    make_optimizer: Callable[[], Any],
    batches: Batches,
    run: Run,
    report: Callable[[str], None],
    on_step: Callable[[Standing], None] = lambda standing: None,
) -> Outcome:
    """Trains a model; leaves last.h5 and best.h5 (by val mean_iou) in the run folder.

    Where the run folder holds the state of a training that ended early, it goes on from there.

    Args:
        plan: What, for how long, where.
        model: The plan's network, built inside the strategy's scope, at the size of the train
            images.
        make_optimizer: Called inside the strategy's scope.
        batches: What to train and to validate on.
        run: Its folder takes checkpoints, results.csv and tensorboard/.
        report: Takes the line of each epoch.
        on_step: Is called after each step.

    Raises:
        SegkitError: The loss is no longer finite.
        CheckpointError: The state in the run folder is damaged or of another training.
        ConfigError: It is one of another global batch size.
    """
    # === Optimizer and steps ===
    strategy = plan.strategy
    with strategy.scope():
        optimizer = make_optimizer()
        if plan.precision == "mixed_float16":
            optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
        build_slots(optimizer, model.trainable_variables)
        average = WeightAverage(model, plan.ema_decay) if plan.ema_decay else None
        val_model = _of_image_size(model, plan)
    train_step = make_train_step(
        model,
        optimizer,
        strategy,
        objective=plan.objective,
        clip_norm=plan.clip_norm,
        average=average,
    )
    confusion_step = make_confusion_step(val_model, plan.labels.num_classes, strategy)

    # === State: a new one, or that of the process before this one ===
    standing = Standing(global_batch_size=plan.global_batch_size)
    held = {"model": model, "optimizer": optimizer} | ({"average": average} if average else {})
    state = TrainingState(run.state, standing, **held)
    if state.restore():
        _check_same_batch(plan, standing)
        report(f"going on after step {standing.step:,}")

    # === Input and output ===
    train_batches = iter(_for_replicas(batches.train(standing.step), plan))
    val_batches = strategy.experimental_distribute_dataset(_shared_by_image(batches.val))
    log = RunLog(run, plan.labels, step=standing.step)
    if standing.step == 0:
        log.first_batch(*_first(batches.train(0)), batches.stems(0))
    val_batch = _first(batches.val)

    # === Loop ===
    started, first_step = time.perf_counter(), standing.step
    with closing(log), interruptible() as interruption:
        epoch = _Epoch(plan, standing, state, interruption)
        while not plan.is_over(standing) and not epoch.interrupted():
            if not epoch.train(train_step, train_batches, stems=batches.stems, on_step=on_step):
                break
            with average.in_place() if average else nullcontext():
                if val_model is not model:
                    val_model.set_weights(model.get_weights())
                matrix = evaluate(confusion_step, val_batches, plan.labels.num_classes)
                result = EpochResult(
                    epoch=standing.step // plan.steps_per_epoch,
                    step=standing.step,
                    loss=sum(standing.losses) / len(standing.losses),
                    learning_rate=current_learning_rate(optimizer),
                    images_per_second=len(standing.losses)
                    * plan.global_batch_size
                    / standing.seconds,
                    waited=standing.waited / standing.seconds,
                    matrix=matrix,
                )
                if _save_weights(model, plan, run, standing=standing, matrix=matrix):
                    log.best(result, val_model, val_batch)
            standing.begin_epoch()
            log.epoch(result)
            state.save()
            steps_left = plan.epochs * plan.steps_per_epoch - standing.step
            pace = (time.perf_counter() - started) / (standing.step - first_step)
            report(_line(plan, standing, result, seconds_left=pace * steps_left))
    return Outcome(standing, interruption.signal)


class _Epoch:
    """Trains until an epoch is done, and saves the state on the way."""

    def __init__(
        self, plan: Plan, standing: Standing, state: TrainingState, interruption: Interruption
    ) -> None:
        self._plan = plan
        self._standing = standing
        self._state = state
        self._interruption = interruption
        self._any_worker = any_worker(plan.strategy)

    def interrupted(self) -> bool:
        """Whether this process or another worker was asked to stop; then all were."""
        asked = self._any_worker(self._interruption.signal is not None)
        if asked and self._interruption.signal is None:
            self._interruption.signal = signal.SIGTERM
        return asked

    def train(
        self,
        step: Callable[[Any], tf.Tensor],
        batches: Iterator[Any],
        *,
        stems: Callable[[int], list[str]],
        on_step: Callable[[Standing], None],
    ) -> bool:
        """Does the steps that are left of the epoch; False if it was interrupted, and saved."""
        standing, steps = self._standing, self._plan.steps_per_epoch
        saved = time.perf_counter()
        pending: list[tf.Tensor] = []  # losses that are not yet read
        while (done := len(standing.losses) + len(pending)) < steps:
            # === Save ===
            asked = self._interruption.signal is not None
            due = bool(pending) and time.perf_counter() - saved > self._plan.state_seconds
            if self._any_worker(asked or due):
                self._read(pending, stems)
                self._state.save()
                saved = time.perf_counter()
                if self.interrupted():
                    return False
            # === Step ===
            started = time.perf_counter()
            batch = next(batches)
            standing.waited += time.perf_counter() - started
            loss = step(batch)
            # Reading the loss of the step before never keeps the device waiting for the next one.
            self._read(pending, stems)
            pending.append(loss)
            if done + 1 == steps:
                self._read(pending, stems)
            standing.seconds += time.perf_counter() - started
            on_step(standing)
        return True

    def _read(self, pending: list[tf.Tensor], stems: Callable[[int], list[str]]) -> None:
        """Moves losses over to the standing, as steps that are done."""
        while pending:
            loss = float(pending.pop(0))
            if not math.isfinite(loss):
                raise self._not_finite(loss, stems)
            self._standing.losses.append(loss)
            self._standing.step += 1

    def _not_finite(self, loss: float, stems: Callable[[int], list[str]]) -> SegkitError:
        step = self._standing.step
        return SegkitError(
            f"the loss became {loss} in step {step + 1:,} (epoch "
            f"{step // self._plan.steps_per_epoch + 1}), on the images {', '.join(stems(step))}",
            expected="a finite loss",
            next_step="look at these images; then lower --lr, limit the gradient by --clip_norm 1, "
            "or train with --mixed_precision false. The last good state is saved",
        )


def _of_image_size(model: tf.keras.Model, plan: Plan) -> tf.keras.Model:
    """The model, or one of its kind at the size of validation."""
    if model.input_shape[1:3] == plan.image_size:
        return model
    return build_model(
        plan.network,
        plan.image_size,
        plan.labels.num_classes,
        auxiliary=len(model.outputs) > 1,
        aspp_rates=plan.aspp_rates,
    )


def _check_same_batch(plan: Plan, standing: Standing) -> None:
    if standing.global_batch_size != plan.global_batch_size:
        raise ConfigError(
            f"the global batch is {plan.global_batch_size} images, but the run that is resumed had "
            f"{standing.global_batch_size}",
            expected="the same: --batch_size times the number of GPUs",
        )


def _save_weights(
    model: tf.keras.Model, plan: Plan, run: Run, *, standing: Standing, matrix: ConfusionMatrix
) -> bool:
    """Writes last.h5, and best.h5 if it is the best; says whether it is."""
    record = CheckpointRecord(
        network=plan.network,
        image_size=plan.image_size,
        aspp_rates=plan.aspp_rates,
        labels=plan.labels,
        auxiliary=len(model.outputs) > 1,
        precision=plan.precision,
        epoch=standing.step // plan.steps_per_epoch,
        step=standing.step,
        val_mean_iou=matrix.mean_iou,
    )
    save_checkpoint(model, record, run.last)
    if not matrix.mean_iou > standing.best:
        return False
    standing.best, standing.best_epoch = matrix.mean_iou, record.epoch
    standing.best_counts = matrix.counts.tolist()
    save_checkpoint(model, record, run.best)
    return True


def _for_replicas(batches: tf.data.Dataset, plan: Plan) -> Any:
    """Batches of this worker, cut into those of its replicas."""
    size, count = plan.global_batch_size, plan.strategy.num_replicas_in_sync
    if count > 1:
        batches = batches.rebatch(size // count, drop_remainder=True)
    return plan.strategy.distribute_datasets_from_function(lambda context: batches)


def _shared_by_image(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Workers take a part of each batch, not some of the files: these may differ in length."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


def _first(batches: tf.data.Dataset) -> tuple[Any, Any]:
    image, mask = next(batches.as_numpy_iterator())
    return image, mask


def _line(plan: Plan, standing: Standing, result: EpochResult, *, seconds_left: float) -> str:
    return (
        f"epoch {result.epoch}/{plan.epochs}  loss {result.loss:.3g}  "
        f"val_mean_iou {result.matrix.mean_iou:.3f} "
        f"(best {standing.best:.3f} @ {standing.best_epoch})  {result.images_per_second:.3g} img/s "
        f" data {result.waited:.0%}  ETA {_duration(seconds_left)}"
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {seconds:02} s"
