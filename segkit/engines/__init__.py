"""One exported version, run in this process."""

from __future__ import annotations

import importlib
from pathlib import Path

from segkit.engines.base import Code, Engine, SignatureSpec, StatusError, TensorSpec
from segkit.errors import ConfigError, ExportError

__all__ = [
    "ENGINES",
    "Code",
    "Engine",
    "SignatureSpec",
    "StatusError",
    "TensorSpec",
    "engine_name",
    "open_engine",
]

# Engine -> the class that runs a version folder, imported only when it is opened.
ENGINES = {"tensorflow": "segkit.engines.tensorflow:TensorFlowEngine"}
AUTO = "tensorflow"


def engine_name(engine: str) -> str:
    """The key of ENGINES that is meant: "auto" is the one that answers as TensorFlow Serving does.

    Raises:
        ConfigError: There is no such engine.
    """
    name = AUTO if engine == "auto" else engine
    if name not in ENGINES:
        raise ConfigError(
            f"there is no engine '{engine}'", expected=f"one of auto, {', '.join(ENGINES)}"
        )
    return name


def open_engine(version_dir: Path, engine: str = "auto") -> Engine:
    """Loads one exported version.

    Args:
        version_dir: The folder of the version, such as `exports/1`.
        engine: A key of ENGINES, or "auto", see `engine_name`.

    Raises:
        ConfigError: There is no such engine.
        ExportError: The folder holds no version that this engine can load on this machine.
    """
    name = engine_name(engine)
    if not version_dir.is_dir():
        raise ExportError(
            f"the version '{version_dir}' does not exist",
            expected="the folder of one exported version, such as exports/1",
            next_step="publish one by `python -m segkit export`",
        )
    module, _, cls = ENGINES[name].partition(":")
    loaded: Engine = getattr(importlib.import_module(module), cls)(version_dir)
    return loaded
