"""Helpers: sets built by TFDS, as `tfds build` does it."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
BUILDER = REPOSITORY / "datasets" / "full_semantic" / "full_semantic_dataset_builder.py"


@functools.cache
def builder_class() -> Any:
    # As TFDS itself does: the data set is called like the folder that the module stands in.
    spec = importlib.util.spec_from_file_location(f"{BUILDER.parent.name}.{BUILDER.stem}", BUILDER)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Builder


def build(manual_dir: Path, data_dir: Path, *, files: int | None = None) -> None:
    """Builds full_semantic.zip of manual_dir into data_dir, each split in so many files."""
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(manual_dir=str(manual_dir), num_shards=files)
    builder_class()(data_dir=str(data_dir)).download_and_prepare(download_config=config)
