"""Servable: one loaded version of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from segkit.engines import Engine, open_engine
from segkit.serving.folder import SAVED_MODEL_FILE

__all__ = ["Servable", "load_servable"]


@dataclass(frozen=True)
class Servable:
    """A version that can be run.

    Args:
        name: The model's name.
        version: Its number.
        engine: What runs it.
        signature_defs: Signature name -> tensorflow.SignatureDef, as saved.
    """

    name: str
    version: int
    engine: Engine
    signature_defs: Mapping[str, Any]


def load_servable(name: str, path: Path, *, engine: str) -> Servable:
    """Loads the version in a numbered folder.

    Raises:
        ExportError: It cannot be loaded on this machine.
    """
    loaded = open_engine(path, engine)
    saved_model = saved_model_pb2.SavedModel.FromString((path / SAVED_MODEL_FILE).read_bytes())
    return Servable(name, int(path.name), loaded, dict(saved_model.meta_graphs[0].signature_def))
