"""TFLite beside TensorFlow: one uint8 image to one uint8 class map, and where the time goes.

The first table takes turns in one process: the SavedModel in TensorFlow's session, and each
TFLite file in LiteRT, both as `segkit.engines` runs them. The second is the plain conversion of the
Keras model, as most people write it, by interpreter and threads; the third the same network cut in
pieces. `--busy` keeps one core busy meanwhile, as a second program on a small device would.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter as LiteRT
from turns import take_turns

from segkit.contract import Metadata
from segkit.engines import open_engine
from segkit.engines.cpu import cpu_name
from segkit.engines.variants import VariantName
from segkit.export import publish
from segkit.export.formats import TENSORFLOW
from segkit.export.segmentation import class_ids
from segkit.labels import Label, LabelMap
from segkit.models import NETWORKS, build_model, get_network, heads_model
from segkit.video.meters import percentiles

TFLITE = [VariantName("tflite", precision) for precision in ("float32", "float16", "int8")]
NUM_CLASSES = 19
LIMIT = 1.3  # tflite:float32 to tensorflow
INTERPRETERS = {"TensorFlow's": tf.lite.Interpreter, "LiteRT": LiteRT}
SPIN = "import os; os.nice(19)\nwhile True: pass"

Ways = dict[str, Callable[[], Any]]


def squares(size: tuple[int, int], seed: int) -> np.ndarray:
    grid = np.random.default_rng(seed).integers(
        0, 256, (-(-size[0] // 16), -(-size[1] // 16), 3), np.uint8
    )
    return grid.repeat(16, axis=0).repeat(16, axis=1)[: size[0], : size[1]]


def engines(model: tf.keras.Model, name: str, size: tuple[int, int], folder: Path) -> Ways:
    """The version's forms, opened. The weights are random, so int8 is not held to anything."""
    labels = LabelMap(tuple(Label(f"class {i}", (i, i, i)) for i in range(NUM_CLASSES)))
    words = get_network(name).normalization.words
    version = publish(
        model,
        Metadata(labels=labels, image_size=size, architecture=name, normalization=words),
        folder,
        variants=(TENSORFLOW, *TFLITE),
        calibration=[squares(size, seed) for seed in range(1, 5)],
    )
    inputs = {"image": squares(size, 0)[np.newaxis]}
    ways = {}
    for variant in (TENSORFLOW, *TFLITE):
        engine = open_engine(version, str(variant))
        ways[str(variant)] = lambda engine=engine: engine.run("serving_default", inputs)
    expected = ways[str(TENSORFLOW)]()["class_ids"]
    for variant, run in ways.items():
        agreement = np.mean(run()["class_ids"] == expected)
        assert agreement > 0.99 or "int8" in variant, f"{variant}: {agreement:.1%}"
    return ways


def plain(model: tf.keras.Model, size: tuple[int, int]) -> Ways:
    """The conversion as most people write it; the batch size stays open, arg max is int64."""

    def segment(image: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.argmax(model(tf.cast(image, tf.float32), training=False), -1), tf.uint8)

    spec = tf.TensorSpec([None, *size, 3], tf.uint8)
    content = convert(segment, spec, model)
    return {
        f"{name}, {threads} threads": runner(cls, content, squares(size, 0)[np.newaxis], threads)
        for name, cls in INTERPRETERS.items()
        for threads in (1, 2)
    }


def parts(model: tf.keras.Model, size: tuple[int, int]) -> dict[str, Ways]:
    """Part of the network -> interpreter -> one run of it, with two threads."""
    heads = heads_model(model)
    normalization = model.get_layer("normalization")
    logits = heads(squares(size, 0)[np.newaxis].astype(np.float32), training=False)
    resized = tf.image.resize(logits, size)
    image = squares(size, 0)[np.newaxis]
    cut = {
        "cast": (lambda x: tf.cast(x, tf.float32), image),
        "cast, normalisation": (lambda x: normalization(tf.cast(x, tf.float32)), image),
        "to the logits of the head": (
            lambda x: heads(tf.cast(x, tf.float32), training=False),
            image,
        ),
        "last resize": (lambda x: tf.image.resize(x, size), logits.numpy()),
        "last resize, arg max": (lambda x: class_ids(tf.image.resize(x, size)), logits.numpy()),
        "arg max, int32": (class_ids, resized.numpy()),
        "arg max, int64": (lambda x: tf.cast(tf.argmax(x, -1), tf.uint8), resized.numpy()),
    }
    ways = {}
    for part, (function, value) in cut.items():
        content = convert(function, tf.TensorSpec(value.shape, value.dtype), model)
        ways[part] = {
            name: runner(cls, content, value, threads=2) for name, cls in INTERPRETERS.items()
        }
    return ways


def convert(function: Callable[[Any], Any], spec: tf.TensorSpec, model: tf.keras.Model) -> bytes:
    holder = tf.Module()
    holder.weights = model.weights
    holder.run = tf.function(function, input_signature=[spec], autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(holder, folder, signatures=holder.run)
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def runner(cls: Any, content: bytes, value: np.ndarray, threads: int) -> Callable[[], Any]:
    interpreter = cls(model_content=content, num_threads=threads)
    (input_,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(input_["index"], value.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(input_["index"], value)
    return interpreter.invoke


@contextlib.contextmanager
def busy_core(wanted: bool) -> Iterator[None]:
    """A process that computes without end, at the lowest priority."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def figures(passes: dict[str, list[float]], reference: str | None = None) -> dict[str, Any]:
    found = {}
    for name, values in passes.items():
        p50, p90 = percentiles(values, (50, 90))
        found[name] = {"p50_ms": p50, "p90_ms": p90, "min_ms": min(values)}
        if reference is not None:
            found[name]["ratio_of_p50"] = p50 / percentiles(passes[reference], (50,))[0]
    return found


def show(title: str, table: dict[str, Any]) -> None:
    print(f"\n{title:<44}{'p50':>9}{'p90':>9}{'least':>9}  ms")
    for name, row in table.items():
        ratio = f"  {row['ratio_of_p50']:.2f}x" if "ratio_of_p50" in row else ""
        print(f"{name:<44}{row['p50_ms']:>9.1f}{row['p90_ms']:>9.1f}{row['min_ms']:>9.1f}{ratio}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=list(NETWORKS), default="ddrnet23_slim")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--busy", action="store_true", help="keep one core busy meanwhile")
    parser.add_argument("--why", action="store_true", help="the plain conversion, and its parts")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/tflite_speed.json"))
    options = parser.parse_args()
    size = (options.height, options.width)

    tf.keras.utils.set_random_seed(0)
    model = build_model(options.network, size, NUM_CLASSES)
    record: dict[str, Any] = {
        "command": "python " + " ".join(sys.argv),
        "machine": f"{cpu_name()}; TensorFlow {tf.__version__}",
        "busy": options.busy,
        "rounds": options.rounds,
    }
    print(f"{record['command']}\n{record['machine']}")
    with tempfile.TemporaryDirectory() as folder, busy_core(options.busy):
        if options.why:
            record["plain"] = {}
            for name, way in plain(model, size).items():  # not in turns: their threads would meet
                record["plain"] |= figures(take_turns({name: way}, options.rounds))
            show("plain conversion, by interpreter", record["plain"])
            record["parts"] = {}
            for part, ways in parts(model, size).items():
                for name, way in ways.items():
                    row = figures(take_turns({f"{part}; {name}": way}, options.rounds))
                    record["parts"] |= row
            show("parts of it, two threads", record["parts"])
        ways = engines(model, options.network, size, Path(folder))
        passes = take_turns(ways, options.rounds)
        record["engines"] = figures(passes, str(TENSORFLOW))
        show(f"{options.network}, {size[0]}x{size[1]}, in turns", record["engines"])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.output}")
    return int(record["engines"]["tflite:float32"]["ratio_of_p50"] > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
