"""The run folder: everything of one training, and all it takes to repeat it.

<root>/<prefix>_<n>/
config.yaml       every option as resolved; `--config_path` reads it back
command.txt       the command line
env.txt           versions, git commit, platform
results.csv       one line an epoch
checkpoints/      best.h5, last.h5
tensorboard/
"""

from __future__ import annotations

import csv
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from segkit import __version__
from segkit.config import to_yaml
from segkit.errors import ConfigError

__all__ = ["Run", "library_versions"]

_LIBRARIES = ("tensorflow", "tensorflow-datasets", "numpy", "opencv-python", "protobuf", "grpcio")


class Run:
    """A new, numbered run folder.

    Args:
        root: Folder of the runs.
        prefix: First part of the folder's name.
        options: The command's options, written to config.yaml.
        tensorboard: Folder for the TensorBoard logs of many runs, instead of the run folder.

    Raises:
        ConfigError: The folder cannot be made.
    """

    def __init__(
        self, root: Path, prefix: str, options: Any, *, tensorboard: Path | None = None
    ) -> None:
        self.path = _make_numbered(root, prefix)
        self.best = self.path / "checkpoints" / "best.h5"
        self.last = self.path / "checkpoints" / "last.h5"
        self.results = self.path / "results.csv"
        self.tensorboard = (
            tensorboard / root.name / self.path.name if tensorboard else self.path / "tensorboard"
        )
        self.best.parent.mkdir()
        (self.path / "config.yaml").write_text(to_yaml(options), encoding="utf-8")
        (self.path / "command.txt").write_text(shlex.join(sys.argv) + "\n", encoding="utf-8")
        (self.path / "env.txt").write_text(_environment(), encoding="utf-8")

    def add_result(self, row: Mapping[str, Any]) -> None:
        """Appends a line to results.csv; the first one writes the header."""
        new = not self.results.exists()
        with self.results.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


def library_versions() -> dict[str, str]:
    """Versions of segkit and of the libraries that decide what a model computes."""
    found = {"segkit": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _make_numbered(root: Path, prefix: str) -> Path:
    number = 1
    while True:
        path = root / f"{prefix}_{number}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError as err:
            if not path.is_dir():
                raise ConfigError(f"'{path}' is in the way", expected="a folder of runs") from err
            number += 1
        except OSError as err:
            raise ConfigError(
                f"the run folder '{path}' cannot be made: {err.strerror}",
                expected="a folder that this user may write",
                next_step="choose another with --checkpoint_dir",
            ) from err


def _environment() -> str:
    lines = [f"{name}=={version}" for name, version in library_versions().items()]
    lines += [f"platform {platform.platform()}", f"cpus {os.cpu_count()}", f"git {_git_commit()}"]
    return "\n".join(lines) + "\n"


def _git_commit() -> str:
    """The commit of the checkout that this package is in, with "-dirty" where it was changed."""
    try:
        reply = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return reply.stdout.strip() or "unknown"
