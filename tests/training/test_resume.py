"""A training that is cut off and goes on must end as the one that was left in peace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from segkit import models
from segkit.errors import CheckpointError, ConfigError
from segkit.labels import LabelMap
from segkit.models.layers import Dropout, Normalization
from segkit.models.network import Network, NetworkOptions
from segkit.models.pretrained import read_layers
from segkit.runs import Run
from segkit.training.fit import Batches, Outcome, Plan, fit
from segkit.training.optimizers import by_part, make_optimizer
from segkit.training.schedules import WarmupDecay

SIZE = (32, 32)
EPOCHS, STEPS, BATCH = 4, 5, 4
LABELS = LabelMap.from_names("abc")


def small_network(image: tf.Tensor, num_classes: int, options: NetworkOptions) -> tuple[Any, None]:
    x = tf.keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(image)
    x = tf.keras.layers.BatchNormalization(name="norm")(x)
    x = Dropout(0.3, name="dropout")(x)
    return tf.keras.layers.Conv2D(num_classes, 1, dtype="float32", name="head")(x), None


def make_plan(**changes: Any) -> Plan:
    plan = Plan(
        network="small",
        image_size=SIZE,
        aspp_rates=(),
        labels=LABELS,
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        global_batch_size=BATCH,
        precision="float32",
        strategy=tf.distribute.get_strategy(),
    )
    return replace(plan, **changes)


def noise(count: int, seed: int) -> tf.data.Dataset:
    rng = np.random.default_rng(seed)
    mask = rng.choice([0, 1, 2, 255], (count, *SIZE)).astype(np.uint8)
    image = mask[..., None] % 3 * 60 + rng.normal(0, 20, (count, *SIZE, 3))
    return tf.data.Dataset.from_tensor_slices((image.astype(np.float32), mask))


def make_batches(on_step: Callable[[int], None] = lambda step: None) -> Batches:
    """Calls `on_step` with the number of each batch, before it is trained on."""

    def train(first: int) -> tf.data.Dataset:
        def told(step: tf.Tensor, batch: Any) -> Any:
            def tell(number: tf.Tensor) -> tf.Tensor:
                on_step(int(number))
                return number

            with tf.control_dependencies([tf.py_function(tell, [step], tf.int64)]):
                return tf.nest.map_structure(tf.identity, batch)

        numbered = noise(24, 1).repeat().batch(BATCH).enumerate().skip(first)
        # Else tf.data prepares, and tells of, batches ahead of the steps.
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        return numbered.map(told).with_options(options)

    return Batches(train=train, val=noise(6, 2).batch(4), stems=lambda step: [])


def train(
    folder: Path,
    plan: Plan,
    *,
    batches: Batches | None = None,
    optimizer: str = "adamw",
    backbone: float = 1.0,
    report: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Begins in a new folder, goes on in one that is there."""
    network = Network(small_network, Normalization((90.0,) * 3, (60.0,) * 3, "x"), head=("head",))
    models.NETWORKS["small"] = network
    tf.keras.utils.set_random_seed(5)
    model = models.build_model("small", SIZE, LABELS.num_classes)

    def optimizer_at(factor: float) -> Any:
        rate = WarmupDecay(0.02 * factor, total_steps=plan.epochs * STEPS, warmup_steps=3)
        return make_optimizer(optimizer, rate, weight_decay=0.1)

    if not folder.exists():
        folder = Run.create(folder.parent, folder.name[:-2], LABELS).path
    return fit(
        plan,
        model,
        make_optimizer=lambda: by_part(optimizer_at, model, backbone=backbone),
        batches=batches or make_batches(),
        run=Run(folder),
        report=report,
    )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(models.NETWORKS, "small", None)  # taken out again at the end
    yield


def what_is_left(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Weights of both checkpoints, and the results but for the seconds."""
    run = Run(folder)
    weights = {
        f"{path.stem} {layer} {index}": array
        for path in (run.last, run.best)
        for layer, arrays in read_layers(path).items()
        for index, array in enumerate(arrays)
    }
    rows = run.read_results()
    for row in rows:
        del row["images_per_second"]
    return weights, rows


def assert_same_end(folder: Path, other: Path) -> None:
    (weights, rows), (other_weights, other_rows) = what_is_left(folder), what_is_left(other)
    for name, array in weights.items():
        np.testing.assert_allclose(array, other_weights[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert len(rows) == len(other_rows)
    for row, other_row in zip(rows, other_rows, strict=True):
        found, expected = ([float(value) for value in r.values()] for r in (row, other_row))
        assert found == pytest.approx(expected, rel=1e-5)


def interrupt_at(step: int, number: signal.Signals) -> Callable[[int], None]:
    return lambda now: os.kill(os.getpid(), number) if now == step else None


@pytest.mark.parametrize(
    ("optimizer", "backbone", "changes"),
    [
        ("adamw", 1.0, {}),
        ("sgd", 0.1, {"ema_decay": 0.9, "clip_norm": 0.5}),
        ("adamw", 0.5, {"precision": "mixed_float16", "ema_decay": 0.99}),
        ("radam", 1.0, {"ema_decay": 0.9}),
        ("ranger", 0.2, {}),
    ],
)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    optimizer: str, backbone: float, changes: dict[str, Any], tmp_path: Path
) -> None:
    plan = make_plan(**changes)
    tf.keras.mixed_precision.set_global_policy(plan.precision)
    how: dict[str, Any] = {"optimizer": optimizer, "backbone": backbone}
    whole, cut = tmp_path / "whole_1", tmp_path / "cut_1"
    train(whole, plan, **how)
    for step, number in ((7, signal.SIGTERM), (14, signal.SIGINT)):
        outcome = train(cut, plan, batches=make_batches(interrupt_at(step, number)), **how)
        assert outcome.signal is number
        assert outcome.standing.step in (step, step + 1)
    lines: list[str] = []
    assert train(cut, plan, report=lines.append, **how).signal is None
    assert lines[0].startswith("going on after step 1")
    assert_same_end(cut, whole)


def test_a_run_that_is_over_has_nothing_left_to_do_until_it_gets_more_epochs(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run_1"
    first = train(folder, make_plan())
    before = what_is_left(folder)[0]
    again = train(folder, make_plan())
    assert again.matrix.counts.tolist() == first.matrix.counts.tolist()
    assert all((before[name] == array).all() for name, array in what_is_left(folder)[0].items())
    train(folder, make_plan(epochs=EPOCHS + 1))
    assert [row["epoch"] for row in what_is_left(folder)[1]] == ["1", "2", "3", "4", "5"]


def test_patience_is_kept_over_an_interruption(tmp_path: Path) -> None:
    plan = make_plan(epochs=50, patience=3)
    whole = train(tmp_path / "whole_1", plan).standing
    assert whole.step // STEPS == whole.best_epoch + 3 < 50
    at = whole.best_epoch * STEPS + 2
    train(tmp_path / "cut_1", plan, batches=make_batches(interrupt_at(at, signal.SIGTERM)))
    assert train(tmp_path / "cut_1", plan).standing.step == whole.step


def test_another_global_batch_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run_1", make_plan(epochs=1))
    with pytest.raises(ConfigError, match="global batch is 8 images, .* had 4"):
        train(tmp_path / "run_1", make_plan(global_batch_size=8))


def test_a_damaged_state_is_named_with_the_way_out(tmp_path: Path) -> None:
    train(tmp_path / "run_1", make_plan(epochs=1))
    for path in (tmp_path / "run_1" / "checkpoints" / "state").glob("*.data*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="state.* cannot be restored") as caught:
        train(tmp_path / "run_1", make_plan())
    assert "last.h5" in caught.value.next_step


def test_a_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run_1", make_plan(epochs=1), optimizer="sgd")
    with pytest.raises(CheckpointError, match="cannot be restored"):
        train(tmp_path / "run_1", make_plan(), optimizer="adamw")


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_resume
folder = Path(sys.argv[2])
plan = test_resume.make_plan(state_seconds=float(sys.argv[3]))
slow = test_resume.make_batches(lambda step: time.sleep(0.05))
test_resume.train(folder, plan, batches=slow, report=lambda line: print(line, flush=True))
"""


def start(folder: Path, *, state_seconds: float) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(here), str(folder), str(state_seconds)],
        cwd=here.parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def saved_step(folder: Path) -> int:
    names = [path.stem for path in (folder / "checkpoints" / "state").glob("state-*.index")]
    return max((int(name.removeprefix("state-")) for name in names), default=0)


def test_a_run_killed_twice_ends_as_one_that_was_not(tmp_path: Path) -> None:
    train(tmp_path / "whole_1", make_plan())
    killed = tmp_path / "killed_1"
    for step in (3, 12):
        with start(killed, state_seconds=0.0) as process:  # it may be killed while it saves
            while saved_step(killed) < step:
                assert process.poll() is None
                time.sleep(0.003)
            process.kill()
        assert saved_step(killed) < EPOCHS * STEPS
    with start(killed, state_seconds=600.0) as process:
        output, _ = process.communicate()
    assert "going on after step 1" in output
    assert_same_end(killed, tmp_path / "whole_1")
    left = sorted(path.name for path in (killed / "checkpoints").rglob("*") if path.is_file())
    assert left == [
        "best.h5",
        "checkpoint",
        "last.h5",
        "state-20.data-00000-of-00001",
        "state-20.index",
    ]
