"""Images a second of a training step: segkit's loss beside the usual one of Keras.

Both train the same network with the same optimizer on one batch that stays in memory, taking turns:

    keras     SparseCategoricalCrossentropy(ignore_class=255) of the logits at image size
    segkit    the step of segkit.training.fit: class first, upsampled and compiled with the loss
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from segkit.engines.cpu import cpu_name
from segkit.models import NETWORKS, build_model
from segkit.training.losses import AUXILIARY_WEIGHT
from segkit.training.objective import Objective
from segkit.training.optimizers import make_optimizer
from segkit.training.strategy import choose_precision
from segkit.training.train_step import make_train_step
from segkit.video.meters import percentiles

WARM_UP = 3
Step = Callable[[tuple[tf.Tensor, tf.Tensor]], tf.Tensor]


def keras_step(model: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer) -> Step:
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)

    @tf.function
    def step(batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, mask = batch
        with tf.GradientTape() as tape:
            main, *auxiliary = tf.nest.flatten(model(image, training=True))
            loss = loss_of(mask, main)
            for logits in auxiliary:
                loss += AUXILIARY_WEIGHT * loss_of(mask, logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=list(NETWORKS), default="ddrnet23_slim")
    parser.add_argument("--height", type=int, default=352)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--num_classes", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/training_speed.json")
    )
    options = parser.parse_args()

    precision = choose_precision(mixed=True)
    tf.keras.utils.set_random_seed(0)
    size = (options.height, options.width)
    model = build_model(options.network, size, options.num_classes, auxiliary=True)
    optimizer = make_optimizer("adamw", 1e-3, weight_decay=5e-4)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    shape = (options.batch_size, *size)
    image = tf.constant(rng.uniform(0, 255, (*shape, 3)), tf.float32)
    mask = tf.constant(rng.integers(0, options.num_classes, shape), tf.uint8)
    steps: dict[str, Step] = {
        "keras": keras_step(model, optimizer),
        "segkit": make_train_step(
            model, optimizer, tf.distribute.get_strategy(), objective=Objective()
        ),
    }

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(-WARM_UP, options.rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step((image, mask)).numpy()
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    ratio = float(np.median(np.divide(seconds["keras"], seconds["segkit"])))
    figures = {
        name: {
            "images_per_second": options.batch_size / float(np.median(values)),
            "step_p50_ms": 1e3 * percentiles(values, (50,))[0],
            "step_p90_ms": 1e3 * percentiles(values, (90,))[0],
        }
        for name, values in seconds.items()
    }
    record = {
        "command": "python " + " ".join(sys.argv),
        "machine": f"{cpu_name()}; TensorFlow {tf.__version__}",
        "network": options.network,
        "image_size": list(size),
        "batch_size": options.batch_size,
        "precision": precision,
        "rounds": options.rounds,
        "figures": figures,
        "segkit_to_keras": ratio,
    }
    print(f"{record['command']}\n{record['machine']}, {precision}, {options.rounds} rounds")
    for name, row in figures.items():
        print(
            f"{name:<8}{row['images_per_second']:>7.1f} images/s   step p50 "
            f"{row['step_p50_ms']:.0f} ms, p90 {row['step_p90_ms']:.0f} ms"
        )
    print(f"segkit is {ratio:.2f} times as fast")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
