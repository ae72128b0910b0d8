"""How much memory and disk are free for this process, whatever container or job it runs in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["free_disk", "free_memory"]

# Names of the limit and of what is taken, by the version of control groups.
_CGROUP_FILES = {
    2: ("memory.max", "memory.current"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can take before something is swapped or killed.

    The least of what the machine has and of what the limits of the control groups leave, which is
    how containers and batch systems limit memory. 0 where nobody can be asked.

    Args:
        root: Where /proc and /sys are.
    """
    try:
        meminfo = (root / "proc/meminfo").read_text(encoding="utf-8")
        available = 1024 * _field(meminfo, "MemAvailable:")
    except (OSError, LookupError):
        return 0
    return max(0, min([available, *_left_by_limits(root)]))


def free_disk(folder: Path) -> int:
    """Bytes free where a folder is, or would be made."""
    folder = folder.absolute()
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return shutil.disk_usage(there).free


def _left_by_limits(root: Path) -> Iterator[int]:
    """What each limited control group around this process leaves."""
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        limit_file, taken_file = _CGROUP_FILES[1 if controllers else 2]
        own = top / path.lstrip("/")
        # Inside a container the path may be the one outside, and `top` is its own group.
        for folder in (own, *own.parents):
            try:
                limit = int((folder / limit_file).read_text(encoding="utf-8"))
                taken = int((folder / taken_file).read_text(encoding="utf-8"))
                statistics = (folder / "memory.stat").read_text(encoding="utf-8")
            except (OSError, ValueError):  # no such group, or "max": no limit
                continue
            yield limit - taken + _reclaimable(statistics, "total_" if controllers else "")


def _reclaimable(statistics: str, prefix: str) -> int:
    """Files that were read and can be forgotten count as taken, but are free."""
    try:
        return sum(_field(statistics, f"{prefix}{state}_file") for state in ("inactive", "active"))
    except LookupError:
        return 0


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    raise LookupError(name)
