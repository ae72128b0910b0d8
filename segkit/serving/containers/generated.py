"""Files that a program writes and people may edit: replaced only while nobody did.

The first line of each holds a digest of the rest. A file whose digest does not fit was edited, or
was never ours, and is replaced on request alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segkit.errors import ConfigError

__all__ = ["PRIVATE", "PUBLIC", "GeneratedFile", "write_beside", "write_files"]

_HEADER = (
    "# Written by `python -m segkit serve-config`, which replaces it unless it was edited. {}\n"
)
_FIRST_LINE = re.compile(re.escape(_HEADER).replace(r"\{\}", "([0-9a-f]{16})"))

PUBLIC, PRIVATE = 0o644, 0o600


@dataclass(frozen=True, kw_only=True)
class GeneratedFile:
    """A file to be written.

    Args:
        path: Where.
        body: Its text after the first line, in a language where # begins a comment; None: there
            must be no such file.
        private: Whether nobody but its owner may read it.
    """

    path: Path
    body: str | None
    private: bool = False

    @property
    def mode(self) -> int:
        """Its permissions."""
        return PRIVATE if self.private else PUBLIC

    @property
    def text(self) -> str:
        """All of it."""
        return _HEADER.format(_digest(self.body or "")) + (self.body or "")

    @property
    def is_there(self) -> bool:
        """Whether nothing is to be done."""
        if not os.path.lexists(self.path):
            return self.body is None
        return (
            self.body is not None
            and self.path.is_file()
            and self.path.stat().st_mode & 0o777 == self.mode
            and self.path.read_bytes() == self.text.encode()
        )

    @property
    def was_edited(self) -> bool:
        """Whether there is one that this program did not leave so."""
        if not os.path.lexists(self.path):
            return False
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return True
        first = _FIRST_LINE.match(text)
        return not first or first[1] != _digest(text[first.end() :])


def write_files(files: Sequence[GeneratedFile], *, overwrite: bool = False) -> list[Path]:
    """Writes what is not there yet, all of it or nothing.

    Args:
        files: What there shall be.
        overwrite: Replace what somebody edited.

    Returns:
        Those that changed.

    Raises:
        ConfigError: One was edited, or a folder cannot be written.
    """
    changed = [file for file in files if not file.is_there]
    edited = [file.path for file in changed if file.was_edited]
    if edited and not overwrite:
        raise ConfigError(
            f"edited, or not of this command: {', '.join(map(str, edited))}",
            expected="files as `python -m segkit serve-config` left them",
            next_step="keep them and give another --output, or add --overwrite to replace them",
        )
    staged: list[tuple[Path, Path]] = []
    try:
        for file in changed:
            if file.body is not None:
                staged.append((write_beside(file.path, file.text, file.mode), file.path))
        for incoming, path in staged:
            os.replace(incoming, path)
        for file in changed:
            if file.body is None:
                file.path.unlink()
    except OSError as err:
        raise ConfigError(
            f"'{err.filename}' cannot be written: {err.strerror}",
            expected="a folder that this user may write",
            next_step="mend the folder, or give another --output",
        ) from err
    finally:
        for incoming, _ in staged:
            incoming.unlink(missing_ok=True)
    return [file.path for file in changed]


def write_beside(path: Path, text: str, mode: int) -> Path:
    """Writes a text beside its place, readable for nobody else from the first byte on.

    Args:
        path: Its place; the folder is made.
        text: What to write.
        mode: The permissions that it has in the end.

    Returns:
        Where it is now; os.replace() brings it to its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    incoming = path.with_name(f".incoming-{path.name}")
    incoming.unlink(missing_ok=True)
    descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())
    return incoming


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
