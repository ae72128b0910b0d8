"""The command that converts in a container: the user's own flags, paths turned into those in there.

docker-compose.yml mounts ./checkpoints at the same place; whatever else is named is mounted below
/mnt, read-only unless it is written to.
"""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any

from segkit.commands.convert_to_tensorrt import Options
from segkit.commands.proof_options import data_of_run

__all__ = ["CHECKPOINTS", "MOUNT", "SERVICE", "container_command"]

SERVICE = "convert"
CHECKPOINTS = Path("checkpoints")
MOUNT = PurePosixPath("/mnt")
PLACEHOLDER = "KIND:PATH"


def container_command(options: Options) -> str:
    """`docker compose run ... convert ...` for the same conversion.

    Args:
        options: What was asked for on this machine.
    """
    mounts = _Mounts()
    words = [SERVICE]
    for flag, value in _given(options).items():
        words += [f"--{flag}", *_words(flag, value, mounts)]
    volumes = [word for volume in mounts.volumes for word in ("--volume", volume)]
    # Docker would make a missing folder for root, and the container writes as root unless told.
    make = "".join(f"mkdir -p {shlex.quote(str(path))} && " for path in mounts.written)
    user = '--user "$(id -u):$(id -g)"'
    return f"{make}docker compose run --rm {user} {shlex.join([*volumes, *words])}"


def _given(options: Options) -> dict[str, Any]:
    """Flag -> value, of the flags that are not at their defaults, and the data set in any case."""
    usual = Options()
    given = {field.name: getattr(options, field.name) for field in fields(Options)}
    del given["dry_run"]
    # In there nobody would find it: the run's configuration names a folder of this machine.
    given["data"] = options.data or (options.checkpoint and data_of_run(options.checkpoint))
    changed = {name: value for name, value in given.items() if value != getattr(usual, name)}
    return {"data": PLACEHOLDER, **changed}


def _words(flag: str, value: Any, mounts: _Mounts) -> list[str]:
    """The value of a flag as words of the command line in there."""
    if isinstance(value, Path):
        return [mounts.inside(value, written=flag == "output_saved_model_dir")]
    if flag in ("data", "calibration") and value != PLACEHOLDER:
        kind, _, path = value.partition(":")
        return [f"{kind}:{mounts.inside(Path(path))}"]
    return [str(item) for item in (value if isinstance(value, (list, tuple)) else [value])]


class _Mounts:
    """What has to be mounted besides ./checkpoints.

    Attributes:
        volumes: HOST:CONTAINER, :ro where nothing is written.
        written: Folders of this machine that are written to.
    """

    def __init__(self) -> None:
        self.volumes: list[str] = []
        self.written: list[Path] = []

    def inside(self, path: Path, *, written: bool = False) -> str:
        """The path in there of one of this machine."""
        outside = path.expanduser().resolve()
        if outside.is_relative_to(CHECKPOINTS.resolve()):
            return str(CHECKPOINTS / outside.relative_to(CHECKPOINTS.resolve()))
        inside = MOUNT / outside.relative_to(outside.anchor).as_posix()
        volume = f"{outside}:{inside}" + ("" if written else ":ro")
        if volume not in self.volumes:
            self.volumes.append(volume)
        if written:
            self.written.append(outside)
        return str(inside)
