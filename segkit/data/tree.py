"""A folder or a zip file, seen as named byte strings. Nothing is ever extracted to the disk."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Protocol

from segkit.errors import DataError

__all__ = ["Tree", "merge_trees", "open_tree"]

_JUNK = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")


class Tree(Protocol):
    """Files by their names relative to the root, with `/` between folders."""

    path: Path
    names: frozenset[str]

    def read(self, name: str) -> bytes:
        """The content of a file; safe to call from many threads."""


def open_tree(path: Path) -> Tree:
    """Opens a folder or a zip file for reading.

    Raises:
        DataError: It does not exist, is no whole zip file, or has entries outside its root.
    """
    if path.is_dir():
        return _Folder(path)
    if not path.exists():
        raise DataError(f"'{path}' does not exist", expected="a folder or a zip file")
    return _Zip(path)


def merge_trees(path: Path, trees: Iterable[Tree]) -> Tree:
    """Several trees as one; of a name that occurs twice the first is read.

    Args:
        path: What messages call it.
        trees: What it holds.
    """
    return _Merged(path, tuple(trees))


class _Merged:
    def __init__(self, path: Path, trees: tuple[Tree, ...]) -> None:
        self.path = path
        self._tree_of = {name: tree for tree in reversed(trees) for name in tree.names}
        self.names = frozenset(self._tree_of)

    def read(self, name: str) -> bytes:
        return self._tree_of[name].read(name)


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        found = []
        for folder, _, files in os.walk(path, followlinks=True):
            inside = Path(folder).relative_to(path)
            found += [(inside / name).as_posix() for name in files]
        self.names = frozenset(name for name in found if not _is_junk(name))

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as err:
            raise DataError(f"'{self.path / name}' cannot be read: {err.strerror}") from err


class _Zip:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as err:
            raise DataError(
                f"'{path}' cannot be opened as a zip file: {err}",
                expected="a whole zip file; one that was cut off in a copy or a download is not",
                next_step="copy or export it again",
            ) from err
        self._entries: dict[str, zipfile.ZipInfo] = {}
        try:
            for entry in self._zip.infolist():
                name = _safe_name(entry, path)
                if not entry.is_dir() and not _is_junk(name):
                    self._entries[name] = entry
        except DataError:
            self._zip.close()
            raise
        self.names = frozenset(self._entries)

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._entries[name])
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as err:
            raise DataError(
                f"the entry '{name}' of '{self.path}' cannot be read: {err}",
                expected="an undamaged zip file without a password",
                next_step="copy or export it again",
            ) from err


def _safe_name(entry: zipfile.ZipInfo, path: Path) -> str:
    """The entry's name with `/`; refuses what a program that extracts it would write elsewhere."""
    name = entry.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    outside = name.startswith("/") or ".." in parts or (parts and parts[0][1:2] == ":")
    if outside or stat.S_ISLNK(entry.external_attr >> 16):
        raise DataError(
            f"'{path}' has the entry '{entry.filename}', which is a link or leaves the folder",
            expected="plain files with names relative to the archive's root",
            next_step="make the archive again from the folder that holds the files",
        )
    return str(PurePosixPath(name))


def _is_junk(name: str) -> bool:
    """What macOS and Windows add to a folder on their own."""
    return name.startswith(_JUNK[0]) or PurePosixPath(name).name.startswith((*_JUNK[1:], "._"))
