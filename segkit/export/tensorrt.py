"""From a network to TensorRT engines in a served SavedModel: TF-TRT's converter, call by call.

The converter keeps one signature of what it converts, and ops that TensorRT does not take only get
in its way. So it is given the float core alone, image in and logits out, and the four signatures
are put round what it saves.

What TensorFlow 2.15 does in each call was read in trt_convert.py and in TF-TRT's C++ sources, and
is tested up to the point where TensorRT comes in. UNTESTED ON A GPU.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit import contract
from segkit.contract import Metadata
from segkit.errors import ExportError
from segkit.export.publish import write_saved_model
from segkit.export.served import ServedFunction
from segkit.models.graph import float_core

__all__ = [
    "PRECISIONS",
    "ConvertedCore",
    "EngineSettings",
    "FloatingMode",
    "convert_core",
    "without_fallback",
    "write_served_core",
]

FloatingMode = Literal["FP32", "FP16", "INT8"]
Image = npt.NDArray[np.uint8]
Batch = tuple[npt.NDArray[np.float32]]

# --floating_mode -> what it is called in segkit.json.
PRECISIONS = {"FP32": "float32", "FP16": "float16", "INT8": "int8"}

# One profile for each batch size, in which TensorRT picks its kernels for just that size, and after
# them one that takes every size from the smallest to the largest. TF-TRT uses the first that fits.
# "Optimal" alone would leave a batch of three to TensorFlow's own ops, slowly and without a word;
# "Range" alone would have kernels for the largest size only. Of one size the two are one profile
# twice: a longer build, and nothing else.
PROFILE_STRATEGY = "Range+Optimal"

FALLBACK = "TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION"
ENGINE_FILES = "trt-serialized-engine.*"  # as the converter's save() names them, in assets/
NUM_ENGINES = re.compile(r"Total number of TensorRT engines: (\d+)")
NUM_OPS = re.compile(r"% of OPs Converted: [\d.]+% \[(\d+)/(\d+)\]")


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What kind of engines are built.

    Args:
        floating_mode: The lowest precision that TensorRT may compute in.
        batch_sizes: Batch sizes to build for, ascending.
        minimum_segment_size: Nodes that a segment must have to become an engine.
        workspace_bytes: GPU memory that a kernel may take for itself; the converter's default
            (no limit with TensorRT 8.4 and later) if None.
    """

    floating_mode: FloatingMode = "FP16"
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8)
    minimum_segment_size: int = 3
    workspace_bytes: int | None = None

    def profiles(self, image_size: tuple[int, int]) -> str:
        """The profiles in words, for segkit.json."""
        height, width = image_size
        sizes = ", ".join(map(str, self.batch_sizes))
        return (
            f"{PROFILE_STRATEGY}: batch {sizes}; {self.batch_sizes[0]} to {self.batch_sizes[-1]}; "
            f"at {height}x{width}"
        )


@dataclass(frozen=True)
class ConvertedCore:
    """What the converter saved: a SavedModel of one signature, float image to float logits.

    Attributes:
        path: Its folder.
        num_engines: Engines in it.
        num_nodes_converted: Nodes in engines, constants with them.
        num_nodes: Nodes in all.
    """

    path: Path
    num_engines: int
    num_nodes_converted: int
    num_nodes: int

    def render(self) -> str:
        """The same for people."""
        share = self.num_nodes_converted / max(self.num_nodes, 1)
        return (
            f"{self.num_engines} TensorRT engine{'s' if self.num_engines != 1 else ''} built; "
            f"{self.num_nodes_converted:,} of {self.num_nodes:,} nodes in engines ({share:.1%}, "
            "constants counted)"
        )


@contextmanager
def without_fallback() -> Iterator[None]:
    """Makes it an error where TF-TRT would otherwise run its own ops in place of an engine.

    TF-TRT reads the variable at every run: an engine that could not be built, and a batch size that
    none was built for, then fail instead of passing for a success. Collecting profiles and
    calibration, which run those ops on purpose, do not ask for it.
    """
    before = os.environ.get(FALLBACK)
    os.environ[FALLBACK] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FALLBACK]
        else:
            os.environ[FALLBACK] = before


def convert_core(
    model: tf.keras.Model,
    folder: Path,
    settings: EngineSettings,
    *,
    calibration: Sequence[Image] = (),
) -> ConvertedCore:
    """Converts a network and builds its engines; minutes.

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes), built with
            resize="matmul".
        folder: Where `source` and `converted` are written.
        settings: What to build.
        calibration: For INT8: images, uint8 (H, W, 3), RGB, of the model's size.

    Raises:
        ExportError: TF-TRT cannot convert it, or no engine was built.
    """
    source, target = folder / "source", folder / "converted"
    holder = tf.Module()
    holder.weights = model.weights
    tf.saved_model.save(
        holder, str(source), signatures={contract.DEFAULT_SIGNATURE: float_core(model)}
    )
    try:
        with without_fallback():
            summary = _convert(source, target, model, settings, calibration)
    except (tf.errors.OpError, RuntimeError, ValueError) as err:
        raise ExportError(
            f"TF-TRT cannot convert {model.name}: {getattr(err, 'message', err)}",
            expected="an engine for every batch size",
            next_step="if GPU memory ran out, give fewer --batch_sizes or a --workspace_mib; "
            "TensorRT's own words are above",
        ) from err
    # What the converter leaves behind destroys its engines by name when it is collected, which must
    # not happen once others of that name are loaded.
    gc.collect()
    return _read_back(target, summary, settings)


def _convert(
    source: Path,
    target: Path,
    model: tf.keras.Model,
    settings: EngineSettings,
    calibration: Sequence[Image],
) -> str:
    """The calls, in the one order that the converter takes; returns its summary."""
    workspace = settings.workspace_bytes
    converter = tf.experimental.tensorrt.Converter(
        input_saved_model_dir=str(source),
        input_saved_model_signature_key=contract.DEFAULT_SIGNATURE,
        use_dynamic_shape=True,
        dynamic_shape_profile_strategy=PROFILE_STRATEGY,
        precision_mode=settings.floating_mode,
        minimum_segment_size=settings.minimum_segment_size,
        use_calibration=settings.floating_mode == "INT8",
        allow_build_at_runtime=False,
        **({} if workspace is None else {"max_workspace_size_bytes": workspace}),
    )
    if settings.floating_mode == "INT8":
        # Kept for build(): with dynamic shapes the ranges are found there.
        converter.convert(
            calibration_input_fn=lambda: _calibration_batches(calibration, settings.batch_sizes)
        )
    else:
        converter.convert()
    lines: list[str] = []
    converter.summary(detailed=False, print_fn=lambda line="": lines.append(str(line)))
    converter.build(input_fn=_every_shape(model, settings.batch_sizes))
    converter.save(str(target))
    return "\n".join(lines)


def _every_shape(
    model: tf.keras.Model, batch_sizes: Sequence[int]
) -> Callable[[], Iterator[Batch]]:
    """Every shape becomes a profile, then the first input builds the engine for all of them.

    To collect them TF-TRT runs the network by TensorFlow's own kernels, once for each.
    """

    def batches() -> Iterator[Batch]:
        for batch_size in batch_sizes:
            yield (np.zeros((batch_size, *model.input_shape[1:]), np.float32),)

    return batches


def _calibration_batches(images: Sequence[Image], batch_sizes: Sequence[int]) -> Iterable[Batch]:
    """Full batches alone: a smaller last one ends the process in TF-TRT's calibration."""
    size = min(batch_sizes[-1], len(images))
    for start in range(0, len(images) - size + 1, size):
        yield (np.stack(images[start : start + size]).astype(np.float32),)


def _read_back(target: Path, summary: str, settings: EngineSettings) -> ConvertedCore:
    """Counts what there is, because the converter itself is content without a single engine."""
    engines, ops = NUM_ENGINES.search(summary), NUM_OPS.search(summary)
    if engines is None or ops is None:
        raise ExportError(
            "the converter's summary does not say what was converted",
            expected="the summary of TensorFlow 2.15",
            next_step="pip install -r requirements.txt",
        )
    num_engines = int(engines[1])
    if num_engines == 0:
        raise ExportError(
            f"no part of the network has {settings.minimum_segment_size} nodes that convert: there "
            "would be no engine",
            expected="one engine or more",
            next_step="give a smaller --minimum_segment_size; what splits the network is said "
            "above",
        )
    built = [file for file in (target / "assets").glob(ENGINE_FILES) if file.stat().st_size > 0]
    if len(built) != num_engines:
        raise ExportError(
            f"TensorRT built {len(built)} of {num_engines} engines",
            expected="all of them, saved with the model",
            next_step="TensorRT's own words are above; if GPU memory ran out, give fewer "
            "--batch_sizes or a --workspace_mib",
        )
    return ConvertedCore(target, num_engines, int(ops[1]), int(ops[2]))


def write_served_core(
    core: ConvertedCore, version_dir: Path, metadata: Metadata, *, model_name: str
) -> None:
    """Writes a whole version: the four signatures round the core, warm-up records, segkit.json.

    Args:
        core: What `convert_core` made.
        version_dir: The folder to fill.
        metadata: What the version says of itself.
        model_name: The name in the warm-up records.
    """
    _wrap(core.path, version_dir, metadata, model_name)
    gc.collect()  # frees the core's engines, see `convert_core`


def _wrap(core_dir: Path, version_dir: Path, metadata: Metadata, model_name: str) -> None:
    core: Any = tf.saved_model.load(str(core_dir))
    function = core.signatures[contract.DEFAULT_SIGNATURE]
    shape = [None, *metadata.image_size, metadata.labels.num_classes]

    def logits(image: tf.Tensor) -> tf.Tensor:
        (answer,) = function(image).values()
        return tf.ensure_shape(answer, shape)

    # The engines come along with the core: TensorFlow finds them by name, the files are its assets.
    served = ServedFunction(logits, metadata, weights=[core])
    write_saved_model(served, metadata, version_dir, model_name=model_name)
