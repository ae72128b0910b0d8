"""The file of --json: checked before the work, written whole after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segkit.errors import ConfigError

__all__ = ["check_json", "write_json"]


def check_json(path: Path | None, *, overwrite: bool) -> None:
    """Refuses a file that could not be written in the end; None is no file.

    Raises:
        ConfigError: Its folder is not there, or it is, and is not to be replaced.
    """
    if path is None:
        return
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(
            f"--json '{path}' cannot be written", expected="a file in a folder that exists"
        )
    if path.exists() and not overwrite:
        raise ConfigError(
            f"--json '{path}' exists", next_step="choose another --json, or add --overwrite"
        )


def write_json(path: Path, record: Any) -> None:
    """Writes a record in place of what was there, in one step.

    Raises:
        OSError: It cannot be written.
    """
    import json

    from segkit.runs import replacing

    with replacing(path) as incoming:
        incoming.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
