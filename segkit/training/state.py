"""All that a training has to remember to go on as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from segkit.errors import CheckpointError

__all__ = ["Standing", "TrainingState"]


@dataclass
class Standing:
    """How far a training has come.

    Args:
        step: Optimizer steps done.
        global_batch_size: Images a step: another number would be another training.
        best: Highest val mean_iou so far; below 0 before the first.
        best_epoch: The epoch that it was measured after, counted from 1.
        best_counts: Confusion matrix of it.
        losses: Of the steps of the epoch that has begun.
        seconds: That these took.
        waited: Seconds of them spent waiting for data.
    """

    step: int = 0
    global_batch_size: int = 0
    best: float = -1.0
    best_epoch: int = 0
    best_counts: list[list[int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0

    def begin_epoch(self) -> None:
        """Forgets the steps of the epoch that is done."""
        self.losses, self.seconds, self.waited = [], 0.0, 0.0


class TrainingState:
    """Saves the state of a training, and brings it back.

    A save writes new files beside the old ones and then names them in the file `checkpoint`: a
    process killed at any moment leaves a whole state.

    Args:
        folder: Where it is kept.
        standing: Is saved, and set by `restore`.
        trackables: The model, the optimizer and whatever else holds variables, by name.
    """

    def __init__(self, folder: Path, standing: Standing, **trackables: Any) -> None:
        self._folder = folder
        self._standing = standing
        self._checkpoint = tf.train.Checkpoint(standing=_AsJson(standing), **trackables)
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(folder), max_to_keep=1, checkpoint_name="state"
        )

    def save(self) -> None:
        """Replaces the saved state by the present one."""
        latest = self._manager.latest_checkpoint
        if latest is not None and latest.endswith(f"-{self._standing.step}"):
            return  # a state is never overwritten, only replaced
        self._manager.save(checkpoint_number=self._standing.step)

    def restore(self) -> bool:
        """Brings back what was saved; False if nothing was.

        Raises:
            CheckpointError: It is damaged, or of another training.
        """
        latest = self._manager.latest_checkpoint
        self._tidy(latest)
        if latest is None:
            return False
        try:
            self._checkpoint.restore(latest).assert_existing_objects_matched()
        except (AssertionError, LookupError, RuntimeError, ValueError, tf.errors.OpError) as err:
            raise CheckpointError(
                f"the state in '{self._folder}' cannot be restored: {str(err).splitlines()[0]}",
                expected="what train.py of this version saved, with the same network and optimizer",
                next_step="start again, from the weights that it had: --weights "
                f"{self._folder.parent / 'last.h5'}",
            ) from err
        return True

    def _tidy(self, latest: str | None) -> None:
        """Removes what a killed process had begun to write."""
        if not self._folder.is_dir():
            return
        keep = Path(latest).name if latest else None
        for path in self._folder.iterdir():
            if path.name == "checkpoint" or (keep and path.name.startswith(f"{keep}.")):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()


class _AsJson(tf.train.experimental.PythonState):
    """Puts a Standing into a checkpoint, beside the variables and as one with them."""

    def __init__(self, standing: Standing) -> None:
        super().__init__()
        self._standing = standing

    def serialize(self) -> str:
        return json.dumps(asdict(self._standing))

    def deserialize(self, string_value: bytes) -> None:
        for name, value in json.loads(string_value).items():
            setattr(self._standing, name, value)
