"""What feeding a training costs: images a second of the input alone, and the share of waiting.

For every kind of cache: a first pass (files are read and decoded), later passes, both without a
network; then real steps of DDRNet-23-slim that are fed by it. A step that always gets one batch out
of memory is measured beside them, in turns: on a CPU the input and the network share the cores, so
a share of waiting alone would not say all.

Without --dataset_dir it draws a set of 240 images of 480x360, and builds it as a user does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from segkit.data.cache import open_examples
from segkit.data.full_semantic import FullSemantic, open_dataset
from segkit.data.pipeline import Examples, train_batches
from segkit.data.recipe import make_augmentation
from segkit.engines.cpu import cpu_name
from segkit.models import build_model
from segkit.training.objective import Objective
from segkit.training.optimizers import make_optimizer
from segkit.training.strategy import choose_precision
from segkit.training.train_step import make_train_step

REPOSITORY = Path(__file__).resolve().parent.parent
CACHES = ("none", "memory", "disk")
MOST_WAITING = 0.03  # of a step, with the cache that fits
WARM_UP = 3


def draw_dataset(folder: Path) -> FullSemantic:
    """A set of 240 drawn streets, through prepare and tfds build."""
    from segkit.data.scenes import write_cvat_export

    write_cvat_export(folder / "cvat", num_scenes=24, frames_per_scene=10, seed=0)
    archive = folder / "manual" / "full_semantic.zip"
    archive.parent.mkdir()
    prepare = [sys.executable, "-m", "segkit", "prepare", "--data", f"cvat:{folder / 'cvat'}"]
    build = [str(Path(sys.executable).with_name("tfds")), "build"]
    build += ["--manual_dir", str(archive.parent), "--data_dir", str(folder / "tfds")]
    for command, place in (
        ([*prepare, "--output", str(archive)], REPOSITORY),
        (build, REPOSITORY / "datasets" / "full_semantic"),
    ):
        subprocess.run(command, cwd=place, check=True, capture_output=True)
    return open_dataset(folder / "tfds")


def images_per_second(batches: Iterator[Any], steps: int, batch_size: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        next(batches)
    return steps * batch_size / (time.perf_counter() - start)


def measure_alone(examples: Examples, options: argparse.Namespace) -> dict[str, float]:
    """Images a second: first pass and later ones, with the default augmentation and without."""
    steps = max(1, options.count // options.batch_size)
    figures = {}
    for name, entries in (("augmented", ["default"]), ("plain", ["none"])):
        # "plain" finds in a cache what "augmented" has put there, so it has no first pass.
        batches = iter(batches_of(examples, entries, options))
        first = images_per_second(batches, steps, options.batch_size)
        if name == "augmented":
            figures["first pass"] = first
        figures[name] = images_per_second(batches, 2 * steps, options.batch_size)
    return figures


def batches_of(
    examples: Examples, entries: list[str], options: argparse.Namespace
) -> tf.data.Dataset:
    size = (options.height, options.width)
    return train_batches(
        examples,
        image_size=size,
        batch_size=options.batch_size,
        augmentation=make_augmentation(entries, size, crop_size=size),
        seed=0,
    )


def measure_training(
    sources: dict[str, Iterator[Any]], options: argparse.Namespace, num_classes: int
) -> dict[str, dict[str, float]]:
    """Milliseconds of a step, waiting included, and the share of waiting; sources take turns."""
    size = (options.height, options.width)
    model = build_model("ddrnet23_slim", size, num_classes, auxiliary=True)
    optimizer = make_optimizer("adamw", 1e-3, weight_decay=5e-4)
    optimizer.build(model.trainable_variables)
    step: Callable[[Any], tf.Tensor] = make_train_step(
        model, optimizer, tf.distribute.get_strategy(), objective=Objective()
    )
    whole: dict[str, list[float]] = {name: [] for name in sources}
    waits: dict[str, list[float]] = {name: [] for name in sources}
    # Runs of some steps each, so that a source reads ahead while its own steps run.
    for round_ in range(-1, options.rounds):
        for name, batches in sources.items():
            for place in range(WARM_UP + options.steps):
                start = time.perf_counter()
                batch = next(batches)
                waited = time.perf_counter() - start
                step(batch).numpy()
                if round_ >= 0 and place >= WARM_UP:
                    whole[name].append(time.perf_counter() - start)
                    waits[name].append(waited)
    return {
        name: {
            "step_p50_ms": 1e3 * float(np.median(whole[name])),
            "waiting": float(np.sum(waits[name]) / np.sum(whole[name])),
        }
        for name in sources
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset_dir", type=Path, help="a built full_semantic")
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="steps of a source in a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/input_pipeline.json")
    )
    options = parser.parse_args()

    precision = choose_precision(mixed=True)
    tf.keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory(prefix="segkit-input-") as folder:
        dataset = (
            open_dataset(options.dataset_dir) if options.dataset_dir else draw_dataset(Path(folder))
        )
        options.count = dataset.num_examples("train")
        alone, sources = {}, {}
        for cache in CACHES:
            (examples,) = open_examples(
                dataset, ["train"], cache=cache, cache_dir=Path(folder) / "cache", report=print
            )
            alone[cache] = measure_alone(examples, options)
            sources[cache] = iter(batches_of(examples, ["default"], options))
        fixed = next(sources["memory"])
        sources["one batch"] = iter(lambda: fixed, None)
        training = measure_training(sources, options, dataset.labels.num_classes)
    record = {
        "command": "python " + " ".join(sys.argv),
        "machine": f"{cpu_name()}; TensorFlow {tf.__version__}",
        "image_size": [options.height, options.width],
        "batch_size": options.batch_size,
        "images": options.count,
        "precision": precision,
        "images_per_second": alone,
        "training": training,
    }
    report(record, alone, training)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(training["memory"]["waiting"] > MOST_WAITING)


def report(
    record: dict[str, Any],
    alone: dict[str, dict[str, float]],
    training: dict[str, dict[str, float]],
) -> None:
    print(f"{record['command']}\n{record['machine']}, {record['precision']}")
    print("the input alone, images/s")
    print(f"  {'cache':<12}{'first pass':>12}{'augmented':>12}{'plain':>12}")
    for cache, row in alone.items():
        print(f"  {cache:<12}" + "".join(f"{value:>12.0f}" for value in row.values()))
    print("training, a step with its waiting")
    base = training["one batch"]["step_p50_ms"]
    for name, row in training.items():
        ratio = row["step_p50_ms"] / base
        print(
            f"  {name:<12}{row['step_p50_ms']:>8.0f} ms  {ratio:.2f} of one batch's, "
            f"waiting {row['waiting']:.1%}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
