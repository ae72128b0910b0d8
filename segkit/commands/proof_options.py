"""What the commands that prove a model have in common: the images, and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.config import CONFIG_FILE
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.evaluation.proof import Thresholds

__all__ = ["ProofOptions", "data_of_run", "require_data"]


@dataclass(frozen=True, kw_only=True)
class ProofOptions:
    """Flags of a comparison on real images."""

    data: str | None = None
    """the images to prove it on: KIND:PATH of a labelled set (its val split), or images:PATH of a
    folder, an image or a video without labels; the data set of the run by default"""
    num_images: int = 100
    """how many of them, spread evenly"""
    min_agreement: float = 0.99
    """share of pixels that must have the same class, 0 to 1"""
    max_miou_drop: float = 0.005
    """by how much mean_iou may be lower, where there are labels"""

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ConfigError(f"--num_images is {self.num_images}", expected="1 or more")
        for flag in ("min_agreement", "max_miou_drop"):
            if not 0 <= getattr(self, flag) <= 1:
                raise ConfigError(
                    f"--{flag} is {getattr(self, flag)}", expected="a share from 0 to 1, as 0.99"
                )

    @property
    def thresholds(self) -> Thresholds:
        """What is allowed."""
        from segkit.evaluation.proof import Thresholds

        return Thresholds(min_agreement=self.min_agreement, max_miou_drop=self.max_miou_drop)


def require_data(options: ProofOptions, checkpoint: Path | None) -> str:
    """`--data`, or the data set that a checkpoint was trained on.

    Args:
        options: The flags.
        checkpoint: The file, or its run folder; None where nothing is known of a training.

    Raises:
        ConfigError: There is neither.
    """
    data = options.data or (checkpoint and data_of_run(checkpoint))
    if not data:
        raise ConfigError(
            "there are no real images to compare on: --data is not given"
            + (
                f", and the data set that '{checkpoint}' was trained on is not here"
                * bool(checkpoint)
            ),
            expected="--data KIND:PATH of a labelled set, as in cvat:export.zip, or images:PATH of "
            "a folder of images or a video",
            next_step="give some dozen images of the kind that the model is for",
        )
    return data


def data_of_run(checkpoint: Path) -> str | None:
    """KIND:PATH of the data set that a run was trained on; None where it is not to be found.

    Args:
        checkpoint: A run folder, or a file of its checkpoints/.
    """
    import yaml

    from segkit.data.archive import default_data_dir
    from segkit.data.full_semantic import NAME

    run = checkpoint if checkpoint.is_dir() else checkpoint.absolute().parent.parent
    try:
        settings = yaml.safe_load((run / CONFIG_FILE).read_text(encoding="utf-8"))
        dataset_dir, name = settings["dataset_dir"], settings["dataset_name"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    folder = (Path(dataset_dir) if dataset_dir else default_data_dir()) / (name or NAME)
    return f"full_semantic:{folder}" if folder.is_dir() else None
