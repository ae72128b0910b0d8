"""The run folder: everything of one training, and all it takes to repeat it.

<root>/<prefix>_<n>/
config.yaml       every option as resolved; `--config_path` reads it back
command.txt       the command lines, of the start and of each time it was resumed
env.txt           versions, git commit, platform
results.csv       one line an epoch; curves.png draws it
checkpoints/      best.h5, last.h5, and state/ to resume from
tensorboard/
"""

from __future__ import annotations

import csv
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from segkit import __version__
from segkit.config import CONFIG_FILE, to_yaml
from segkit.errors import ConfigError

__all__ = ["CHECKPOINTS", "Run", "is_checkpoint", "library_versions", "replacing"]

CHECKPOINTS = "checkpoints"  # the folder of a run that holds them

_LIBRARIES = ("tensorflow", "tensorflow-datasets", "numpy", "opencv-python", "protobuf", "grpcio")


class Run:
    """A run folder that is there; `create` makes one.

    Args:
        path: The folder.
        tensorboard: Folder for the TensorBoard logs of many runs, instead of the run folder.
    """

    def __init__(self, path: Path, *, tensorboard: Path | None = None) -> None:
        self.path = path
        self.config = path / CONFIG_FILE
        self.best = path / CHECKPOINTS / "best.h5"
        self.last = path / CHECKPOINTS / "last.h5"
        self.state = path / CHECKPOINTS / "state"
        self.results = path / "results.csv"
        self.tensorboard = path / "tensorboard"
        if tensorboard:
            self.tensorboard = tensorboard / path.absolute().parent.name / path.name

    @classmethod
    def create(
        cls, root: Path, prefix: str, options: Any, *, tensorboard: Path | None = None
    ) -> Run:
        """A new, numbered run folder.

        Args:
            root: Folder of the runs.
            prefix: First part of the folder's name.
            options: The command's options, written to config.yaml.
            tensorboard: As of Run.

        Raises:
            ConfigError: The folder cannot be made.
        """
        run = cls(_make_numbered(root, prefix), tensorboard=tensorboard)
        run.best.parent.mkdir()
        run.note(options)
        (run.path / "env.txt").write_text(_environment(), encoding="utf-8")
        return run

    def note(self, options: Any) -> None:
        """Writes the options to config.yaml, and adds this process's command to command.txt."""
        with replacing(self.config) as incoming:
            incoming.write_text(to_yaml(options), encoding="utf-8")
        with (self.path / "command.txt").open("a", encoding="utf-8") as file:
            file.write(shlex.join(sys.argv) + "\n")

    def read_results(self) -> list[dict[str, str]]:
        """The rows of results.csv; one that was cut off half written is left out."""
        if not self.results.exists():
            return []
        with self.results.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if None not in row.values()]

    def write_results(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes results.csv anew."""
        with replacing(self.results) as incoming, incoming.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)


def is_checkpoint(path: Path) -> bool:
    """Whether a path that is there is a checkpoint, or a run folder, and no exported version."""
    return path.is_file() or (path / CHECKPOINTS).is_dir()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path beside a file to write to; it takes the file's place once all is written.

    At every moment the file is whole, the old one or the new one. What raises leaves the old one.
    """
    incoming = path.with_name(f".incoming-{path.name}")
    try:
        yield incoming
        os.replace(incoming, path)
    except BaseException:
        incoming.unlink(missing_ok=True)
        raise


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
