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
PATHS = ("input_saved_model_dir", "checkpoint")
WRITTEN = ("output_saved_model_dir",)
DATA = ("data", "calibration")
PLACEHOLDER = "KIND:PATH"


def container_command(options: Options) -> str:
    """`docker compose run ... convert ...` for the same conversion.

    Args:
        options: What was asked for on this machine.
    """
    volumes: dict[str, None] = {}
    words: list[str] = []
    for name, value in _given(options).items():
        if name in PATHS + WRITTEN:
            value = _inside(value, volumes, writable=name in WRITTEN)
        elif name in DATA and value != PLACEHOLDER:
            kind, _, path = value.partition(":")
            value = f"{kind}:{_inside(Path(path), volumes, writable=False)}"
        values = value if isinstance(value, (list, tuple)) else [value]
        words += [f"--{name}", *map(str, values)]
    mounts = [word for volume in volumes for word in ("--volume", volume)]
    # The container's user is root; what it writes shall belong to whoever asked.
    user = '--user "$(id -u):$(id -g)"'
    return " ".join(
        filter(None, (f"docker compose run --rm {user}", shlex.join([*mounts, SERVICE, *words])))
    )


def _given(options: Options) -> dict[str, Any]:
    """Flag -> value, of the flags that are not at their defaults, and the data set in any case."""
    usual = Options()
    given = {field.name: getattr(options, field.name) for field in fields(Options)}
    given["data"] = options.data or (options.checkpoint and data_of_run(options.checkpoint))
    changed = {
        name: value
        for name, value in given.items()
        if value != getattr(usual, name) and name != "dry_run"
    }
    return {**changed, "data": given["data"] or PLACEHOLDER}


def _inside(path: Path, volumes: dict[str, None], *, writable: bool) -> str:
    """The path in the container; notes in `volumes` what has to be mounted for it."""
    outside = path.expanduser().absolute()
    if outside.is_relative_to(CHECKPOINTS.absolute()):
        return str(CHECKPOINTS / outside.relative_to(CHECKPOINTS.absolute()))
    inside = MOUNT / outside.relative_to(outside.anchor).as_posix()
    volumes[f"{outside}:{inside}" + ("" if writable else ":ro")] = None
    return str(inside)
