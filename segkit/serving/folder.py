"""The folder that is polled: numbered versions, which of them to serve, whether one is complete."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["SAVED_MODEL_FILE", "fingerprint", "list_versions", "select_versions", "specified"]

MAX_VERSION = 2**63 - 1
SAVED_MODEL_FILE = "saved_model.pb"


def list_versions(base_path: Path) -> dict[int, Path]:
    """Version number -> its folder.

    What has no number for a name is passed over, and so is a folder without saved_model.pb: it is
    still being written. (TensorFlow Serving tries to load that one, and fails.)

    Raises:
        OSError: The folder cannot be listed.
    """
    return {
        int(child.name): child
        for child in sorted(base_path.iterdir())
        if child.name.isascii()
        and child.name.isdigit()
        and int(child.name) <= MAX_VERSION
        and (child / SAVED_MODEL_FILE).is_file()
    }


def select_versions(policy: Any, versions: Iterable[int]) -> set[int]:
    """The versions that a policy serves, of those that are there.

    Args:
        policy: tensorflow.serving.FileSystemStoragePathSourceConfig.ServableVersionPolicy; an
            empty one serves the highest number alone.
        versions: The numbers that are there.
    """
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return set(versions)
    if choice == "specific":
        return set(versions) & specified(policy)
    return set(sorted(versions)[-max(1, policy.latest.num_versions) :])


def specified(policy: Any) -> set[int]:
    """The versions that a policy names, if it names any."""
    return set(policy.specific.versions)


def fingerprint(version_dir: Path) -> frozenset[tuple[str, int, int]]:
    """Name, size and time of every file of a version: it changes when the version does."""
    entries = []
    for path in version_dir.rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:  # removed since it was listed
            continue
        entries.append((str(path), status.st_size, status.st_mtime_ns))
    return frozenset(entries)
