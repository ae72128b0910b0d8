"""The training loop on a network of three layers, so that each test takes seconds."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from segkit import models
from segkit.errors import SegkitError
from segkit.labels import LabelMap
from segkit.models.checkpoints import load_checkpoint, read_record
from segkit.models.layers import Normalization
from segkit.models.network import Network, NetworkOptions
from segkit.runs import Run
from segkit.training.fit import Batches, Plan, fit
from segkit.training.optimizers import make_optimizer

SIZE = (32, 40)


def tiny_network(image: tf.Tensor, num_classes: int, options: NetworkOptions) -> tuple[Any, Any]:
    x = tf.keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="a")(image)
    x = tf.keras.layers.BatchNormalization(name="norm")(x)
    head = tf.keras.layers.Conv2D(num_classes, 1, dtype="float32", name="head")(x)
    if not options.auxiliary:
        return head, None
    return head, tf.keras.layers.Conv2D(num_classes, 1, dtype="float32", name="extra")(x)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    same = Normalization((128.0,) * 3, (64.0,) * 3, "RGB / 64 - 2")
    monkeypatch.setitem(models.NETWORKS, "tiny", Network(tiny_network, same, head=()))
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def plan(labels: LabelMap) -> Plan:
    return Plan(
        network="tiny",
        image_size=SIZE,
        aspp_rates=(),
        labels=labels,
        epochs=3,
        steps_per_epoch=12,
        global_batch_size=4,
        precision="float32",
        strategy=tf.distribute.get_strategy(),
    )


def bright_and_dark(count: int) -> tf.data.Dataset:
    """Images whose bright half is class 1 and whose dark half is class 2, with ignored pixels."""
    rng = np.random.default_rng(3)
    mask = np.full((count, *SIZE), 2, np.uint8)
    mask[:, :, : SIZE[1] // 2] = 1
    image = np.where(mask[..., None] == 1, 200, 50) + rng.normal(0, 5, (count, *SIZE, 3))
    mask[:, :2] = 255
    return tf.data.Dataset.from_tensor_slices((image.astype(np.float32), mask))


def batches(plan: Plan) -> Batches:
    size = plan.global_batch_size
    train = bright_and_dark(8).repeat()
    return Batches(
        train=lambda step: train.skip(step * size).batch(size),
        val=bright_and_dark(5).batch(2),
        stems=lambda step: [f"image_{(step * size + i) % 8}" for i in range(size)],
    )


def train(plan: Plan, run: Run, *, learning_rate: float = 0.02) -> tuple[Any, list[str]]:
    lines: list[str] = []
    tf.keras.utils.set_random_seed(1)
    model = models.build_model("tiny", SIZE, plan.labels.num_classes, auxiliary=True)
    outcome = fit(
        plan,
        model,
        make_optimizer=lambda: make_optimizer("adamw", learning_rate, weight_decay=0.0),
        batches=batches(plan),
        run=run,
        report=lines.append,
    )
    return outcome.matrix, lines


def test_learns_and_leaves_the_run_folder(plan: Plan, tmp_path: Path) -> None:
    run = Run.create(tmp_path, "run", plan.labels)
    matrix, lines = train(plan, run)
    assert matrix.mean_iou > 0.9
    assert matrix.counts.sum() == 5 * (SIZE[0] - 2) * SIZE[1]  # every val image, once, unignored
    assert lines[2].startswith("epoch 3/3  loss ")
    with run.results.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["12", "24", "36"]
    assert float(rows[2]["loss"]) < float(rows[0]["loss"])
    assert "val_iou_road" in rows[0]
    assert {path.stem for path in run.path.glob("*.png")} == {
        "confusion_matrix",
        "curves",
        "train_batch0",
        "val_pred0",
    }
    assert logged(run) == {
        "images_per_second",
        "learning_rate",
        "loss",
        "train_batch0",
        "val_mean_iou",
        "val_pixel_accuracy",
        "val_pred0",
    }
    best = max(range(3), key=lambda i: float(rows[i]["val_mean_iou"])) + 1
    assert read_record(run.best).epoch == best
    assert read_record(run.last).epoch == 3


def logged(run: Run) -> set[str]:
    """Names of what TensorBoard shows."""
    (file,) = run.tensorboard.iterdir()
    events = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    return {
        value.tag
        for event in map(tf.compat.v1.Event.FromString, events)
        for value in event.summary.value
    }


def test_the_best_checkpoint_is_the_model_that_scored(plan: Plan, tmp_path: Path) -> None:
    run = Run.create(tmp_path, "run", plan.labels)
    matrix, _ = train(plan, run)
    model, record = load_checkpoint(run.path)
    again = models_confusion(model, plan)
    np.testing.assert_array_equal(again.counts, matrix.counts)
    assert record.val_mean_iou == matrix.mean_iou


def models_confusion(model: tf.keras.Model, plan: Plan) -> Any:
    from segkit.evaluation.evaluate import evaluate, make_confusion_step

    step = make_confusion_step(model, plan.labels.num_classes, plan.strategy)
    return evaluate(step, bright_and_dark(5).batch(2), plan.labels.num_classes)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_learns_in_half_precision(plan: Plan, precision: str, tmp_path: Path) -> None:
    tf.keras.mixed_precision.set_global_policy(precision)
    matrix, _ = train(replace(plan, precision=precision), Run.create(tmp_path, "run", plan.labels))
    assert matrix.mean_iou > 0.9


def test_a_loss_that_is_not_finite_stops_with_what_to_do(plan: Plan, tmp_path: Path) -> None:
    run = Run.create(tmp_path, "run", plan.labels)
    with pytest.raises(
        SegkitError, match="loss became (nan|inf) in step 2 .epoch 1., on the images image_4,"
    ) as caught:
        train(plan, run, learning_rate=1e38)
    assert "--lr" in caught.value.next_step
    assert "--clip_norm" in caught.value.next_step
    assert not run.best.exists()


def test_crops_may_be_smaller_than_what_validation_sees(plan: Plan, tmp_path: Path) -> None:
    large = (2 * SIZE[0], 2 * SIZE[1])
    double = bright_and_dark(5).map(
        lambda image, mask: (
            tf.image.resize(image, large),
            tf.repeat(tf.repeat(mask, 2, axis=0), 2, axis=1),
        )
    )
    tf.keras.utils.set_random_seed(1)
    model = models.build_model("tiny", SIZE, plan.labels.num_classes, auxiliary=True)
    run = Run.create(tmp_path, "run", plan.labels)
    outcome = fit(
        replace(plan, image_size=large),
        model,
        make_optimizer=lambda: make_optimizer("adamw", 0.02, weight_decay=0.0),
        batches=replace(batches(plan), val=double.batch(2)),
        run=run,
        report=lambda line: None,
    )
    assert outcome.matrix.counts.sum() == 5 * (large[0] - 4) * large[1]
    assert outcome.matrix.mean_iou > 0.9
    model, record = load_checkpoint(run.path)
    assert record.image_size == large == model.input_shape[1:3]
