"""write_openvino(): a network as OpenVINO's IR, in float32 or quantised to int8."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit import contract
from segkit.errors import EngineUnavailable, ExportError
from segkit.export.segmentation import segmentation_function

__all__ = ["write_openvino"]


def write_openvino(
    model: tf.keras.Model,
    path: Path,
    *,
    precision: str,
    calibration: Sequence[npt.NDArray[np.uint8]] = (),
) -> None:
    """Writes `path` (.xml) and its weights (.bin): `image` -> `class_ids`, `confidence`.

    bfloat16 is float32 on disk: the engine computes in it where the CPU can.

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        path: Ends in .xml.
        precision: "float32", "bfloat16" or "int8".
        calibration: For int8: images of the kind it will see, uint8 (H, W, 3), RGB.

    Raises:
        ExportError: OpenVINO cannot convert the network, or there are no images to calibrate by.
        EngineUnavailable: int8, and NNCF is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _no_telemetry():
        import openvino
        from openvino import frontend

        try:
            converted = openvino.convert_model(segmentation_function(model))
            if precision == "int8":
                converted = _quantized(converted, calibration)
            # Half-precision weights, the default, would save disk alone.
            openvino.save_model(converted, path, compress_to_fp16=False)
        except (RuntimeError, frontend.OpConversionFailure, frontend.OpValidationFailure) as err:
            raise ExportError(
                f"OpenVINO cannot convert the network: {err}",
                expected="a network of segkit",
                next_step="publish it without openvino, and please report this",
            ) from err


def _quantized(model: Any, calibration: Sequence[npt.NDArray[np.uint8]]) -> Any:
    """Weights and activations in int8, ranges from the images; both symmetric ("performance").

    With asymmetric activations ("mixed") DDRNet-23-slim gave the same class on 96 % of CamVid's
    pixels instead of 99 % (docs/export.md).
    """
    if not calibration:
        raise ExportError(
            "int8 needs images to find the ranges of the activations by, and there are none",
            expected="some hundred images of the kind that the model will see",
            next_step="--calibration KIND:PATH",
        )
    try:
        import nncf
    except ImportError as err:
        raise EngineUnavailable(
            "openvino:int8 needs NNCF, which is not installed",
            expected="the package nncf, of the extra int8",
            next_step='pip install -c constraints.txt -e ".[int8]"',
        ) from err
    nncf.set_log_level(logging.ERROR)
    dataset = nncf.Dataset(calibration, lambda image: {contract.IMAGE: image[np.newaxis]})
    return nncf.quantize(
        model,
        dataset,
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(calibration),
    )


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Keeps OpenVINO's converter and NNCF from reporting their use over the network, unasked.

    Both do without where this module cannot be imported.
    """
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
