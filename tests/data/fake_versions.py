"""Published versions that nobody can load: all that is looked at before a server loads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segkit import contract
from segkit.contract import Metadata
from segkit.export.warmup import write_warmup_records

__all__ = ["write_fake_version"]


def write_fake_version(
    base_path: Path,
    number: int,
    metadata: Metadata,
    *,
    batch_sizes: Sequence[int] = (1,),
    warmup_sizes: Sequence[int] | None = None,
    weight_bytes: int = 1000,
) -> Path:
    """Writes `base_path/number`, for everybody to read; returns it."""
    version = base_path / str(number)
    write_warmup_records(
        version / contract.WARMUP_FILE,
        image_size=metadata.image_size,
        model_name=contract.DEFAULT_MODEL_NAME,
        batch_sizes=batch_sizes if warmup_sizes is None else warmup_sizes,
    )
    described = replace(metadata, batch_sizes=tuple(batch_sizes))
    (version / contract.METADATA_FILE).write_text(described.to_json())
    (version / "saved_model.pb").write_bytes(b"fake")
    (version / "variables").mkdir()
    (version / "variables/variables.data-00000-of-00001").write_bytes(bytes(weight_bytes))
    for path in (base_path, version, *version.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return version
