"""Publishing: a version is complete or absent, because TensorFlow Serving polls its folder.

<base_path>/1/, 2/, ...            the versions
<base_path>/.incoming-<random>/    one that is being written: version/, and the lock of the process
<base_path>/.removed-<random>/     one that is being deleted

A version gets its number, or loses it, by one rename. What a killed process leaves has no number
and is swept away by the next export: its lock is free, whatever became of the process.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf

from segkit.data.room import free_disk
from segkit.errors import ExportError

__all__ = ["NewVersion", "new_version", "prune_versions"]

logger = logging.getLogger(__name__)

_INCOMING = ".incoming-"
_REMOVED = ".removed-"
_LOCK = "lock"
_MAX_VERSION = 2**63 - 1  # TensorFlow Serving's int64
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_MB = 1e6


@dataclass
class NewVersion:
    """A version that is being written.

    Attributes:
        path: The folder to fill; no server looks there.
        version: Its folder among the versions, once it is published.
    """

    path: Path
    version: Path = field(init=False)


@contextmanager
def new_version(base_path: Path) -> Iterator[NewVersion]:
    """Gives a folder to fill; afterwards it is the next version, or, if anything was raised, gone.

    The next number is one more than the highest that is taken, by whatever it is. What earlier
    exports left behind when they were killed is removed first.

    Args:
        base_path: The folder of numbered versions that the server polls; made if it is missing.

    Raises:
        ExportError: The folder cannot be written, or the disk is full.
    """
    with _explained(base_path, f"no version was published to '{base_path}'"):
        base_path.mkdir(parents=True, exist_ok=True)
        _sweep(base_path)
        with _incoming_folder(base_path) as folder:
            new = NewVersion(folder / "version")
            new.path.mkdir()
            yield new
            _settle(new.path)
            new.version = _rename_to_next_number(new.path, base_path)
    logger.info("published %s", new.version)
    try:
        _sync(base_path)
    except OSError as err:  # it is there, and served
        logger.warning("a power cut now may lose %s: %s", new.version, err.strerror)


def prune_versions(base_path: Path, keep: int) -> list[Path]:
    """Removes all versions but the newest.

    Only complete ones count, and only they are removed: what else is there, is somebody's.

    Args:
        base_path: The folder of numbered versions.
        keep: How many to keep, 1 or more.

    Returns:
        Those that were removed, the oldest first.

    Raises:
        ExportError: One cannot be removed.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}, not 1 or more")
    removed = []
    with _explained(base_path, f"the old versions in '{base_path}' cannot be removed"):
        complete = [path for path in _numbered(base_path) if (path / "saved_model.pb").is_file()]
        for path in complete[:-keep]:
            _discard(path)
            removed.append(path)
            logger.info("removed %s", path)
        _sweep(base_path)
    return removed


def _numbered(base_path: Path) -> list[Path]:
    """What has the name of a version, the lowest first, whatever it is."""
    names = (path for path in base_path.iterdir() if path.name.isascii() and path.name.isdigit())
    return sorted(
        (path for path in names if int(path.name) <= _MAX_VERSION),
        key=lambda path: (int(path.name), path.name),
    )


@contextmanager
def _incoming_folder(base_path: Path) -> Iterator[Path]:
    """A hidden folder that nobody sweeps away while this process is in here."""
    folder, lock = _make_incoming(base_path)
    try:
        yield folder
    finally:
        # First the lock: NFS keeps a file, and so its folder, for as long as it is open.
        if lock is not None:
            os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _make_incoming(base_path: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=base_path))
        try:
            return folder, _lock(folder)
        except (BlockingIOError, FileNotFoundError):
            continue  # swept away before it was locked
        except OSError as err:
            if err.errno in _NO_LOCKS:  # then nobody can sweep here
                return folder, None
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _lock(folder: Path) -> int:
    """Takes the lock of a hidden folder; it is held until the file is closed.

    flock, because it ends with the process, however it ends, goes over NFS, and holds between two
    exports in one process, too. A fork holds it as well: what that process may still write is kept.

    Raises:
        BlockingIOError: It is held already.
        OSError: The folder is gone, or its file system has no locks.
    """
    path = folder / _LOCK
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(file), os.stat(path)):
            raise FileNotFoundError(errno.ENOENT, "removed before it was locked", str(path))
    except OSError:
        os.close(file)
        raise
    return file


def _sweep(base_path: Path) -> None:
    """Removes what killed processes have left."""
    for removed in base_path.glob(f"{_REMOVED}*"):
        _delete(removed)
    for folder in base_path.glob(f"{_INCOMING}*/"):
        try:
            lock = _lock(folder)
        except OSError:  # being written, gone by now, another user's, or no locks here
            continue
        try:
            _discard(folder)
            logger.info("removed %s, left by an export that was killed", folder)
        except OSError as err:
            logger.warning("%s, left by an export that was killed, stays: %s", folder, err.strerror)
        finally:
            os.close(lock)


def _discard(path: Path) -> None:
    """Removes a folder that is there at one moment and at the next is not."""
    # Beside it, not in a folder: there a rename would need the right to write into `path` itself.
    removed = path.with_name(f"{_REMOVED}{secrets.token_hex(8)}")
    os.rename(path, removed)
    _delete(removed)


def _delete(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)  # two sweeps may be at it
    if path.exists():
        logger.warning("%s cannot be removed completely: remove it by hand", path)


def _settle(version: Path) -> None:
    """Lets every user read the version, and has the disk hold all of it before it gets a number."""

    def refuse(err: OSError) -> None:
        raise err

    for folder, _, files in os.walk(version, topdown=False, onerror=refuse):
        for name in files:
            path = Path(folder, name)
            path.chmod(0o644)
            _sync(path)
        Path(folder).chmod(0o755)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as err:
        if err.errno != errno.EINVAL:  # a file system that cannot sync a folder
            raise
    finally:
        os.close(file)


def _rename_to_next_number(folder: Path, base_path: Path) -> Path:
    while True:
        last = max((int(path.name) for path in _numbered(base_path)), default=0)
        version = base_path / str(last + 1)
        try:
            _rename_to_new(folder, version)
        except OSError:
            if os.path.lexists(version):  # somebody took the number in between
                continue
            raise
        return version


def _rename_to_new(source: Path, target: Path) -> None:
    """Renames a folder that is not empty; what has the new name already is never replaced."""
    code = _renameat2(source, target, _RENAME_NOREPLACE)
    if not code:
        return
    if code not in (errno.ENOSYS, errno.EINVAL):
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    # A file system that cannot, such as NFS. A file or another version is never replaced by
    # os.rename; an empty folder would be, were it made after this line.
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)


def _renameat2(source: Path, target: Path, flags: int) -> int:
    """Linux's rename with flags; 0, or the errno."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # another system, or an old C library
        return errno.ENOSYS
    old, new = os.fsencode(source), os.fsencode(target)
    failed = renameat2(_AT_FDCWD, old, _AT_FDCWD, new, flags)
    return ctypes.get_errno() if failed else 0


@contextmanager
def _explained(base_path: Path, problem: str) -> Iterator[None]:
    """Turns what the disk refuses, to Python or to TensorFlow, into an ExportError."""
    try:
        yield
    except (OSError, tf.errors.OpError) as err:
        code = _error_number(err, base_path)
        if code is None:
            raise
        reason = os.strerror(code)
        if code not in _FULL:
            raise ExportError(
                f"{problem}: {reason}",
                expected="a folder that this user may write, for the numbered versions of a model",
                next_step="mend the folder, or choose another",
            ) from err
        free = free_disk(base_path) / _MB
        raise ExportError(
            f"{problem}: {reason}, with {free:,.1f} MB free there",
            expected="room for one more version, and no limit (quota, ulimit -f) below its size",
            next_step="make room, such as by removing old versions",
        ) from err


def _error_number(err: OSError | tf.errors.OpError, base_path: Path) -> int | None:
    """The errno of an error that the folder is to blame for."""
    if isinstance(err, OSError):
        known = err.errno
    else:  # "..., <file>; No space left on device [...]", with a code that other troubles share
        reasons = {f"; {os.strerror(code)}": code for code in errno.errorcode}
        known = next((code for reason, code in reasons.items() if reason in str(err)), None)
    # A write that fails does not say which file it was.
    is_ours = str(base_path) in str(err) or (isinstance(err, OSError) and known in _FULL)
    return known if is_ours else None
