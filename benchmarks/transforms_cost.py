"""What each training transform costs one core: milliseconds an example.

All are measured in one run, taking turns, on the same generated street, each with a seed of its own
for every pass. A transform that is used by chance is used always here; `default` and the other
recipes draw as they do in training. "nothing" is what the measurement itself costs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from turns import take_turns

from segkit.data.recipe import TRANSFORMS, make_augmentation
from segkit.data.scenes.world import Street
from segkit.data.transforms import Example, Transform
from segkit.engines.cpu import cpu_name
from segkit.video.meters import percentiles

# Parameters that show what a transform can cost: below scale 1 there is no class to look for.
PARAMETERS: dict[str, dict[str, Any]] = {"class_balanced_crop": {"min_scale": 1.0}}
RECIPES: dict[str, list[Any]] = {
    "random_scale_crop, max_class_share 0.75": [{"random_scale_crop": {"max_class_share": 0.75}}],
    "default": ["default"],
    "default, rotation, blur, JPEG, cutout": [
        *("default", "random_rotation", "gaussian_blur", "jpeg_quality", "cutout")
    ],
}


def recipes() -> dict[str, list[Any]]:
    """What is measured: every transform, always used, and some recipes."""
    alone = {}
    for name, kind in TRANSFORMS.items():
        chance = {"probability": 1.0} if "probability" in {f.name for f in fields(kind)} else {}
        alone[name] = [{name: chance | PARAMETERS.get(name, {})}]
    return {"nothing": [], **alone, **RECIPES}


def way(transforms: tuple[Transform, ...], example: Example) -> Callable[[], None]:
    """Passes, each with a seed of its own; traced once, for images of any size, as in training."""

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, 3), tf.float32),
            tf.TensorSpec((None, None), tf.uint8),
            tf.TensorSpec((2,), tf.int64),
        ]
    )
    def traced(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        drawn = {"image": image, "mask": mask, "seed": seed}
        for transform in transforms:
            drawn = transform(drawn)
        return drawn["image"], drawn["mask"]

    traced = traced.get_concrete_function()

    numbers = itertools.count()

    def run() -> None:
        seed = tf.constant([1, next(numbers)], tf.int64)
        traced(example["image"], example["mask"], seed)[0][0, 0, 0].numpy()

    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/transforms_cost.json")
    )
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    size = (options.height, options.width)
    image, mask = Street(1, image_size=size).render(1.0)
    example = {"image": tf.constant(image, tf.float32), "mask": tf.constant(mask)}
    ways = {
        name: way(make_augmentation(e, size, crop_size=size), example)
        for name, e in recipes().items()
    }
    figures = {}
    for name, values in take_turns(ways, options.rounds).items():
        p50, p90 = percentiles(values, (50, 90))
        figures[name] = {"p50_ms": p50, "p90_ms": p90, "mean_ms": float(np.mean(values))}
    record = {
        "command": "python " + " ".join(sys.argv),
        "image_size": list(size),
        "rounds": options.rounds,
        "machine": f"{cpu_name()}; TensorFlow {tf.__version__}, one core",
        "figures": figures,
    }
    print(f"{record['command']}\n{record['machine']}, {size[0]}x{size[1]}, {options.rounds} rounds")
    print(f"{'milliseconds':<42}{'median (p90)':>16}{'mean':>8}")
    for name, figure in figures.items():
        cell = f"{figure['p50_ms']:.2f} ({figure['p90_ms']:.2f})"
        print(f"{name:<42}{cell:>16}{figure['mean_ms']:>8.2f}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
