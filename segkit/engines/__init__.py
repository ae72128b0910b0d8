"""One exported version, run in this process."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segkit.engines.base import Code, Engine, SignatureSpec, StatusError, TensorSpec
from segkit.engines.cpu import computes_bfloat16
from segkit.engines.variants import FLOAT32, SAVED_MODEL, Variant, VariantName, read_variants
from segkit.errors import ExportError

__all__ = [
    "AUTO",
    "ENGINES",
    "Code",
    "Engine",
    "SignatureSpec",
    "StatusError",
    "TensorSpec",
    "engine_name",
    "find_variant",
    "open_engine",
    "open_variant",
]

# Engine -> the class that runs a variant of a version, imported only when it is opened. Each takes
# the version's folder and the variant.
ENGINES = {
    "tensorflow": "segkit.engines.tensorflow:TensorFlowEngine",
    "openvino": "segkit.engines.openvino:OpenVINOEngine",
    "tflite": "segkit.engines.tflite:TFLiteEngine",
    "onnx": "segkit.engines.onnx:ONNXEngine",
}

AUTO = "auto"
# Of the variants that were proved equal to their checkpoint, the fastest that this CPU can run.
PREFERRED = (VariantName("openvino", "bfloat16"), VariantName("openvino", FLOAT32))


def engine_name(engine: str) -> str:
    """AUTO, or ENGINE or ENGINE:PRECISION that is meant.

    Raises:
        ConfigError: There is no such engine, or it does not compute in that precision.
    """
    if engine == AUTO:
        return AUTO
    name = VariantName.parse(engine, flag="--engine")
    return str(name) if ":" in engine else name.engine


def open_engine(version_dir: Path, engine: str = AUTO) -> Engine:
    """Loads one exported version.

    Args:
        version_dir: The folder of the version, such as `exports/1`.
        engine: AUTO, a key of ENGINES, or ENGINE:PRECISION, see `find_variant`.

    Raises:
        ConfigError: There is no such engine.
        ExportError: The folder holds no version that this engine can load on this machine.
    """
    return open_variant(version_dir, find_variant(version_dir, engine))


def open_variant(version_dir: Path, variant: Variant, *, session_config: Any = None) -> Engine:
    """Loads one variant of a version, as `segkit.engines.variants` lists them.

    Args:
        version_dir: The folder of the version.
        variant: Which of its variants.
        session_config: tensorflow.ConfigProto for TensorFlow; the others have no such thing.

    Raises:
        ExportError: It cannot be loaded on this machine.
    """
    module, _, cls = ENGINES[variant.name.engine].partition(":")
    options = {}
    if session_config is not None and variant.name.engine == SAVED_MODEL:
        options["session_config"] = session_config
    loaded: Engine = getattr(importlib.import_module(module), cls)(version_dir, variant, **options)
    return loaded


def find_variant(version_dir: Path, engine: str = AUTO) -> Variant:
    """The variant of a version that is meant.

    Of an engine without a precision it is the first that is listed; AUTO is OpenVINO in bfloat16
    where this CPU computes in it, else OpenVINO in float32, each only if it was proved equal to
    the checkpoint at export, else the SavedModel.

    Raises:
        ConfigError: There is no such engine.
        ExportError: The version has no such variant.
    """
    wanted = engine_name(engine)
    if not version_dir.is_dir():
        raise ExportError(
            f"the version '{version_dir}' does not exist",
            expected="the folder of one exported version, such as exports/1",
            next_step="publish one by `python -m segkit export`",
        )
    variants = read_variants(version_dir)
    if wanted == AUTO:
        wanted = str(_preferred(variants))
    for variant in variants:
        if wanted in (str(variant.name), variant.name.engine):
            return variant
    raise ExportError(
        f"the version '{version_dir}' has no variant for {wanted}",
        expected="one that it has: " + ", ".join(str(variant.name) for variant in variants),
        next_step=f"publish it with one: python -m segkit export --format {wanted}",
    )


def _preferred(variants: Sequence[Variant]) -> VariantName:
    proved = {variant.name for variant in variants if variant.proof.get("passed")}
    for name in PREFERRED:
        if name in proved and (name.precision == FLOAT32 or computes_bfloat16()):
            return name
    return next(variant.name for variant in variants if variant.name.engine == SAVED_MODEL)
