"""The folder that is polled: numbered versions, and whether one is complete."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SAVED_MODEL_FILE", "fingerprint", "latest_version", "list_versions"]

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


def latest_version(versions: dict[int, Path]) -> dict[int, Path]:
    """TensorFlow Serving's default policy: the highest number alone."""
    return {number: versions[number] for number in sorted(versions)[-1:]}


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
