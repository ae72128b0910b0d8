"""export_checkpoint(): from a checkpoint of train.py to a published version."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from segkit.contract import Metadata
from segkit.export.publish import publish
from segkit.models import get_network
from segkit.models.checkpoints import digest, load_checkpoint
from segkit.runs import library_versions

__all__ = ["export_checkpoint"]


def export_checkpoint(
    checkpoint: Path,
    base_path: Path,
    *,
    model_name: str,
    image_size: tuple[int, int] | None = None,
    batch_sizes: Sequence[int] = (1,),
) -> tuple[Path, Metadata]:
    """Publishes the next version of a checkpoint.

    Args:
        checkpoint: The file, or a run folder, which stands for its best checkpoint.
        base_path: The folder of numbered versions that the server polls.
        model_name: The name it will be served under.
        image_size: Height and width to serve at; those of the training if None.
        batch_sizes: Batch sizes to write warm-up records for.

    Returns:
        The folder of the new version, and what it says of itself.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        ModelError: The image size does not fit the network.
        ExportError: See `publish`.
    """
    model, record = load_checkpoint(checkpoint, image_size=image_size)
    metadata = Metadata(
        labels=record.labels,
        image_size=image_size or record.image_size,
        architecture=record.network,
        normalization=get_network(record.network).normalization.words,
        val_mean_iou=record.val_mean_iou,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        source=digest(checkpoint),
        aspp_rates=record.aspp_rates,
    )
    version = publish(model, metadata, base_path, model_name=model_name, batch_sizes=batch_sizes)
    return version, metadata
