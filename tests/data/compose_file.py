"""docker-compose.yml, for the tests of several files."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

__all__ = ["COMPOSE_FILE", "REPOSITORY", "SERVICES", "default", "host_path"]

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]


def host_path(service: dict[str, Any], path: str) -> Path:
    """The file of the repository that a path in the container is."""
    inside = PurePosixPath(path)
    for volume in service["volumes"]:
        target = default(volume["target"])
        if inside.is_relative_to(target):
            source = REPOSITORY / Path(default(volume["source"]))
            return source / inside.relative_to(target)
    raise AssertionError(f"nothing is mounted at {path}")


def default(value: str) -> str:
    """What `${NAME:-default}` stands for where NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
