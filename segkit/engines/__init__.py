"""One exported version, run in this process."""

from __future__ import annotations

import importlib
from pathlib import Path

from segkit.engines.base import Code, Engine, SignatureSpec, StatusError, TensorSpec
from segkit.engines.variants import SAVED_MODEL, Variant, VariantName, read_variants
from segkit.errors import ExportError

__all__ = [
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


def engine_name(engine: str) -> str:
    """ENGINE or ENGINE:PRECISION that is meant; "auto" answers as TensorFlow Serving does.

    Raises:
        ConfigError: There is no such engine, or it does not compute in that precision.
    """
    if engine == "auto":
        return SAVED_MODEL
    name = VariantName.parse(engine, flag="--engine")
    return str(name) if ":" in engine else name.engine


def open_engine(version_dir: Path, engine: str = "auto") -> Engine:
    """Loads one exported version.

    Args:
        version_dir: The folder of the version, such as `exports/1`.
        engine: "auto", a key of ENGINES, or ENGINE:PRECISION, see `engine_name`.

    Raises:
        ConfigError: There is no such engine.
        ExportError: The folder holds no version that this engine can load on this machine.
    """
    wanted = engine_name(engine)
    if not version_dir.is_dir():
        raise ExportError(
            f"the version '{version_dir}' does not exist",
            expected="the folder of one exported version, such as exports/1",
            next_step="publish one by `python -m segkit export`",
        )
    return open_variant(version_dir, find_variant(version_dir, wanted))


def open_variant(version_dir: Path, variant: Variant) -> Engine:
    """Loads one variant of a version, as `segkit.engines.variants` lists them.

    Raises:
        ExportError: It cannot be loaded on this machine.
    """
    module, _, cls = ENGINES[variant.name.engine].partition(":")
    loaded: Engine = getattr(importlib.import_module(module), cls)(version_dir, variant)
    return loaded


def find_variant(version_dir: Path, engine: str = "auto") -> Variant:
    """The variant of a version that is meant; of an engine without a precision, the first listed.

    Raises:
        ConfigError: There is no such engine.
        ExportError: The version has no such variant.
    """
    wanted = engine_name(engine)
    variants = read_variants(version_dir)
    for variant in variants:
        if wanted in (str(variant.name), variant.name.engine):
            return variant
    raise ExportError(
        f"the version '{version_dir}' has no variant for {wanted}",
        expected="one that it has: " + ", ".join(str(variant.name) for variant in variants),
        next_step=f"publish it with one: python -m segkit export --format {wanted}",
    )
