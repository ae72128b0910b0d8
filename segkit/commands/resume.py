"""Going on with a run that was interrupted: which flags have to stay as they were."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from segkit.config import CONFIG_FILE, Command, read_options
from segkit.errors import ConfigError

__all__ = ["MAY_CHANGE", "check_resumed"]

MAY_CHANGE = frozenset(
    {
        "cache",
        "cache_dir",
        "check_data",
        "clip_norm",
        "cluster",
        "dataset_dir",
        "deterministic",
        "epoch",
        "gpu_num",
        "lr",
        "lr_schedule",
        "mixed_precision",
        "multi_gpu",
        "notify",
        "patience",
        "progress",
        "resume",
        "save_minutes",
        "warmup_epochs",
    }
)


def check_resumed(command: Command, options: Any, run_folder: Path) -> None:
    """Refuses flags that would make it another training than the one to go on with.

    Args:
        command: Whose options they are.
        options: Those of the run, but for flags that were given now.
        run_folder: The run.

    Raises:
        ConfigError: A flag differs that is not one of MAY_CHANGE.
    """
    may_change = ", ".join(f"--{name}" for name in sorted(MAY_CHANGE - {"resume"}))
    before = read_options(command, run_folder / CONFIG_FILE)
    for field in fields(options):
        now, then = (getattr(held, field.name) for held in (options, before))
        if now != then and field.name not in MAY_CHANGE:
            raise ConfigError(
                f"--{field.name} is {now}: the run that is resumed has {then}",
                expected=f"the same; what may change: {may_change}",
                next_step="leave it out, or start a new run from the weights of this one: "
                f"--weights {run_folder / 'checkpoints' / 'last.h5'}",
            )
