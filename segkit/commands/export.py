"""Publishes a checkpoint as the next version of a served model.

The version has the four signatures of the serving contract, warm-up records and segkit.json.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from segkit import contract

__all__ = ["Options", "publish_and_report", "run"]

DEFAULT_BASE_PATH = Path("checkpoints/export_path")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the export."""

    checkpoint: Path
    """a run folder (its best checkpoint), or a .h5 of its checkpoints/"""
    model_base_path: Path = DEFAULT_BASE_PATH
    """the folder of numbered versions that the server polls"""
    model_name: str = contract.DEFAULT_MODEL_NAME
    """the name it will be served under"""
    image_size: tuple[int, int] | None = None
    """height and width to serve at; those of the training by default"""
    batch_sizes: list[int] = field(default_factory=lambda: [1])
    """batch sizes that the server shall be warmed up for"""


def run(options: Options) -> None:
    """Exports and says what to do next."""
    publish_and_report(options)


def publish_and_report(options: Options) -> None:
    """Exports, prints what was written and the commands that serve it."""
    from segkit.export import export_checkpoint

    print(f"exporting {options.checkpoint} to {options.model_base_path}", flush=True)
    version, metadata = export_checkpoint(
        options.checkpoint,
        options.model_base_path,
        model_name=options.model_name,
        image_size=options.image_size,
        batch_sizes=options.batch_sizes,
    )
    height, width = metadata.image_size
    score = "unknown" if metadata.val_mean_iou is None else f"{metadata.val_mean_iou:.3f}"
    print(
        f"published {version}: {metadata.architecture}, {height}x{width}, "
        f"{metadata.labels.num_classes} classes, val mean_iou {score}\n"
        f"signatures {', '.join(contract.SIGNATURES)}\n"
        f"serve it: docker compose up serving\n"
        f"      or: python -m segkit serve --model_base_path {options.model_base_path}"
    )
