"""Each network can learn eight images by heart: nothing in training or evaluation is in its way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from segkit.labels import LabelMap
from segkit.models import NETWORKS, build_model
from segkit.runs import Run
from segkit.training.fit import Batches, Plan, fit
from segkit.training.optimizers import make_optimizer
from segkit.training.schedules import WarmupDecay
from segkit.training.strategy import choose_precision

SIZE = (64, 96)
CELL = 32
LABELS = LabelMap.from_names("abc")

# Steps and the learning rate: some more than it takes.
RECIPES = {
    "ddrnet23_slim": (110, 0.005),
    "efficientnetv2s_deeplabv3plus": (46, 0.003),
    "efficientnetv2s_deeplabv3plus_light": (60, 0.003),
    "mobilenetv3_deeplabv3plus": (110, 0.003),
}


def eight_images() -> tuple[np.ndarray, np.ndarray]:
    """Noisy images of coloured squares, and their masks."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (8, SIZE[0] // CELL, SIZE[1] // CELL), np.uint8)
    masks = masks.repeat(CELL, axis=1).repeat(CELL, axis=2)
    colours = np.array([[90, 120, 60], [200, 60, 50], [40, 90, 200]])
    images = colours[masks] + rng.normal(0, 25, (*masks.shape, 3))
    return np.clip(images, 0, 255).astype(np.float32), masks


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_eight_images_are_learned_by_heart(network: str, tmp_path: Path) -> None:
    steps, rate = RECIPES[network]
    plan = Plan(
        network=network,
        image_size=SIZE,
        aspp_rates=(),
        labels=LABELS,
        epochs=1,
        steps_per_epoch=steps,
        global_batch_size=8,
        precision=choose_precision(mixed=True),
        strategy=tf.distribute.get_strategy(),
    )
    tf.keras.utils.set_random_seed(3)
    auxiliary = network == "ddrnet23_slim"
    model = build_model(network, SIZE, LABELS.num_classes, auxiliary=auxiliary)
    data = tf.data.Dataset.from_tensors(eight_images())
    schedule = WarmupDecay(rate, total_steps=steps, warmup_steps=steps // 10)
    outcome = fit(
        plan,
        model,
        make_optimizer=lambda: make_optimizer("adamw", schedule, weight_decay=0.0),
        batches=Batches(train=lambda first: data.repeat(), val=data, stems=lambda step: [""] * 8),
        run=Run.create(tmp_path, "run", LABELS),
        report=lambda line: None,
    )
    assert outcome.matrix.mean_iou >= 0.97
