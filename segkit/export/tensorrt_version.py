"""write_tensorrt_version(): a whole version with TensorRT engines, from a network to its record."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segkit.contract import Metadata
from segkit.export.tensorrt import (
    PRECISIONS,
    ConvertedCore,
    EngineSettings,
    convert_core,
    write_served_core,
)
from segkit.export.tensorrt_source import Source
from segkit.runs import library_versions

__all__ = ["write_tensorrt_version"]


def write_tensorrt_version(
    source: Source,
    version_dir: Path,
    settings: EngineSettings,
    *,
    machine: Mapping[str, str],
    model_name: str,
    calibration: Sequence[npt.NDArray[np.uint8]] = (),
    report: Callable[[ConvertedCore], None] = lambda core: None,
) -> None:
    """Converts a network and fills a version's folder; minutes.

    Args:
        source: What to convert.
        version_dir: The folder to fill.
        settings: What engines to build.
        machine: What `preflight` found.
        model_name: The name in the warm-up records.
        calibration: For INT8: images, uint8 (H, W, 3), RGB, of the model's size.
        report: Told what was converted, before it is loaded.

    Raises:
        ExportError: TF-TRT cannot convert it, or no engine was built.
    """
    with tempfile.TemporaryDirectory(prefix="segkit-tensorrt-") as folder:
        core = convert_core(source.model, Path(folder), settings, calibration=calibration)
        report(core)
        metadata = _describe(source, core, settings, machine)
        write_served_core(core, version_dir, metadata, model_name=model_name)


def _describe(
    source: Source, core: ConvertedCore, settings: EngineSettings, machine: Mapping[str, str]
) -> Metadata:
    """What the new version says of itself."""
    return replace(
        source.metadata,
        precision=PRECISIONS[settings.floating_mode],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        tensorrt={
            **machine,
            "precision": settings.floating_mode,
            "profiles": settings.profiles(source.metadata.image_size),
            "engines": str(core.num_engines),
            "converted_from": source.name,
            "converted_from_digest": source.digest,
        },
        batch_sizes=settings.batch_sizes,
    )
