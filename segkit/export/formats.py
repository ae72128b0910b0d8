"""write_variant(): a network in the form of one engine, into the folder of a version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit.engines.variants import FLOAT32, INT8, SAVED_MODEL, Variant, VariantName

__all__ = ["TENSORFLOW", "needs_calibration", "write_variant"]

TENSORFLOW = VariantName(SAVED_MODEL)
# Engine -> where its file lies. A precision that is chosen when the file is opened has none of its
# own, see _SAME_FILE.
_PATHS = {
    "tensorflow": "",
    "openvino": "openvino/{}.xml",
    "tflite": "tflite/{}.tflite",
    "onnx": "onnx/{}.onnx",
}
_SAME_FILE = {("openvino", "bfloat16"): FLOAT32}


def needs_calibration(name: VariantName) -> bool:
    """Whether the variant's ranges are found on images."""
    return name.precision == INT8


def write_variant(
    model: tf.keras.Model,
    version_dir: Path,
    name: VariantName,
    *,
    calibration: Sequence[npt.NDArray[np.uint8]] = (),
) -> Variant:
    """Writes what an engine runs; the SavedModel is there already.

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        version_dir: The folder of the version, with its SavedModel.
        name: Engine and precision.
        calibration: For int8: images at the model's size, uint8 (H, W, 3), RGB.

    Raises:
        ExportError: The network cannot be converted.
        EngineUnavailable: The format needs a package that is not installed.
    """
    on_disk = _SAME_FILE.get((name.engine, name.precision), name.precision)
    path = _PATHS[name.engine].format(on_disk)
    if path and not (version_dir / path).exists():
        _write(model, version_dir / path, name.engine, on_disk, calibration)
    return Variant.of(name, version_dir, path)


def _write(
    model: tf.keras.Model,
    path: Path,
    engine: str,
    precision: str,
    calibration: Sequence[npt.NDArray[np.uint8]],
) -> None:
    # Each brings a library that takes seconds to import.
    if engine == "openvino":
        from segkit.export.openvino import write_openvino

        write_openvino(model, path, precision=precision, calibration=calibration)
    elif engine == "tflite":
        from segkit.export.tflite import write_tflite

        write_tflite(model, path, precision=precision, calibration=calibration)
    else:
        from segkit.export.onnx import write_onnx

        write_onnx(model, path)
