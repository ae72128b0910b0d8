"""VersionManager: which versions of a model are loaded, and the state of each.

The order is TensorFlow Serving's availability-preserving one: the versions in use serve until one
that replaces them has loaded and warmed up, then they stop taking requests, finish those they have,
and are freed. A version that fails to load takes nothing down.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorflow_serving.config import file_system_storage_path_source_pb2

from segkit.engines import Code, StatusError
from segkit.errors import SegkitError
from segkit.serving.folder import fingerprint, list_versions, select_versions, specified
from segkit.serving.servable import Servable

__all__ = ["NEWEST", "State", "VersionManager", "VersionStatus"]

logger = logging.getLogger(__name__)

NEWEST = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy


class State(enum.IntEnum):
    """The states of a version, with the numbers of ModelVersionStatus."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """What GetModelStatus says of a version; `error` is why it failed to load."""

    number: int
    state: State
    error: StatusError | None


@dataclass
class _Version:
    number: int
    path: Path
    state: State = State.START
    error: StatusError | None = None
    servable: Servable | None = None
    in_flight: int = 0
    files: frozenset[tuple[str, int, int]] = frozenset()  # as they were when it was last loaded

    @property
    def wants_loading(self) -> bool:
        """Whether it is new, was unloaded before, or failed with files that have changed since."""
        if self.state is State.END:
            return self.error is None or fingerprint(self.path) != self.files
        return self.state is State.START


class VersionManager:
    """Polls a base path and keeps the versions loaded that its policy selects.

    Args:
        name: The model's name.
        load: Loads the version in a folder and warms it up.
        poll_seconds: Seconds between two looks at the folder; 0 looks once.
        retries: How often a version that fails to load is tried again before it is given up.
        retry_seconds: Seconds between two tries.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[str, Path], Servable],
        *,
        poll_seconds: float = 1.0,
        retries: int = 0,
        retry_seconds: float = 60.0,
    ) -> None:
        self.name = name
        self._load_servable = load
        self._poll_seconds = poll_seconds
        self._retries, self._retry_seconds = retries, retry_seconds
        self._base_path: Path | None = None  # None serves nothing
        self._policy: Any = NEWEST()
        self._versions: dict[int, _Version] = {}
        self._changed = threading.Condition()  # guards _versions
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._settled = threading.Event()
        self._warned_of = ""
        self._thread = threading.Thread(target=self._run, name=f"versions-{name}", daemon=True)

    def configure(self, base_path: Path | None, policy: Any = None) -> None:
        """Says what to serve from now on; the next look at the folder does it, at once.

        Args:
            base_path: The folder of numbered versions; None unloads all of them.
            policy: Which of them, see `select_versions`; the newest if None.
        """
        with self._changed:
            self._base_path, self._policy = base_path, policy or NEWEST()
            self._settled.clear()
        self._wake.set()

    def start(self) -> None:
        """Starts to poll and load, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops polling and frees every version, after the requests that run on it."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for version in list(self._versions.values()):
            if version.state is State.AVAILABLE:
                self._unload(version)

    def wait_until_settled(self, timeout_s: float | None = None) -> bool:
        """Blocks until the versions found since `configure` have loaded or failed to.

        Returns:
            Whether they have; False after `timeout_s` seconds.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._settled.wait(timeout=0.1):  # a wait without end would hold back Ctrl-C
            if end is not None and time.monotonic() > end:
                return False
        return True

    def statuses(self) -> list[VersionStatus]:
        """Every version ever seen, the newest first."""
        with self._changed:
            versions = sorted(self._versions.values(), key=lambda version: -version.number)
            return [VersionStatus(x.number, x.state, x.error) for x in versions]

    def engines(self) -> dict[int, str]:
        """Available version, the newest first -> ENGINE:PRECISION that runs it."""
        with self._changed:
            return {
                number: version.servable.engine_name
                for number, version in sorted(self._versions.items(), reverse=True)
                if version.servable is not None and version.state is State.AVAILABLE
            }

    def is_available(self, number: int) -> bool:
        """Whether a version takes requests."""
        with self._changed:
            return number in self._versions and self._versions[number].state is State.AVAILABLE

    @contextlib.contextmanager
    def acquire(self, number: int | None = None) -> Iterator[Servable | None]:
        """Holds a version for one request, so that it is not freed under it.

        Args:
            number: The version; the newest available one if None.

        Returns:
            The version, or None where no such one is available.
        """
        with self._changed:
            available = [
                version
                for version in self._versions.values()
                if version.state is State.AVAILABLE and number in (None, version.number)
            ]
            chosen = max(available, key=lambda version: version.number, default=None)
            if chosen is not None:
                chosen.in_flight += 1
        if chosen is None:
            yield None
            return
        try:
            yield chosen.servable
        finally:
            with self._changed:
                chosen.in_flight -= 1
                self._changed.notify_all()

    def poll(self) -> None:
        """Looks at the folder once: loads what is wanted, and unloads what is not any more."""
        with self._changed:
            base_path, policy = self._base_path, self._policy
        found: dict[int, Path] = {}
        if base_path is not None:
            try:
                found = list_versions(base_path)
            except OSError as err:
                # What serves goes on serving: the folder may be away for a moment only.
                self._warn(
                    f"Could not find base path {base_path} for servable {self.name} "
                    f"with error {err.strerror}"
                )
                return
            self._warn_of_missing(base_path, policy, found)
        aspired = select_versions(policy, found)
        self._unload_what_is_replaced(aspired)
        for number in sorted(aspired, reverse=True):
            with self._changed:
                version = self._versions.setdefault(number, _Version(number, found[number]))
            if version.wants_loading:
                version.path = found[number]
                self._load(version)
                self._unload_what_is_replaced(aspired)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            base_path = self._base_path
            try:
                self.poll()
            except Exception:  # a bug must not end the polling
                logger.exception("model %s: polling %s failed", self.name, base_path)
            with self._changed:
                found_some = bool(self._versions) or base_path is None or self._poll_seconds == 0
                if found_some and not self._wake.is_set():
                    self._settled.set()
            self._wake.wait(self._poll_seconds or None)
        self._settled.set()

    def _load(self, version: _Version) -> None:
        begin = time.perf_counter()
        self._set(version, State.LOADING)
        for retries_left in reversed(range(self._retries + 1)):
            version.files = fingerprint(version.path)
            try:
                version.servable = self._load_servable(self.name, version.path)
                break
            except Exception as err:  # whatever it is, the others go on and the client sees it
                error = _status(err)
                logger.error("model %s version %d failed: %s", self.name, version.number, error)
            if not retries_left or self._stopping.wait(self._retry_seconds):
                self._set(version, State.END, error)
                return
        self._set(version, State.AVAILABLE)
        logger.info(
            "model %s version %d is available (%s, %.1f s)",
            self.name,
            version.number,
            version.servable.engine_name if version.servable else "",
            time.perf_counter() - begin,
        )

    def _unload_what_is_replaced(self, aspired: set[int]) -> None:
        if aspired and not any(self.is_available(number) for number in aspired):
            return
        for number, version in sorted(self._versions.items()):
            if number not in aspired and version.state is State.AVAILABLE:
                self._unload(version)

    def _unload(self, version: _Version) -> None:
        with self._changed:
            version.state = State.UNLOADING
            self._changed.wait_for(lambda: version.in_flight == 0)
            servable, version.servable = version.servable, None
        if servable is not None:
            servable.close()
        self._set(version, State.END)
        logger.info("model %s version %d is unloaded", self.name, version.number)

    def _set(self, version: _Version, state: State, error: StatusError | None = None) -> None:
        with self._changed:
            version.state, version.error = state, error
            self._changed.notify_all()

    def _warn_of_missing(self, base_path: Path, policy: Any, found: dict[int, Path]) -> None:
        missing = sorted(specified(policy) - set(found))
        if not found or (missing and not specified(policy) & set(found)):
            self._warn(
                f"No versions of servable {self.name} found under base path {base_path}. "
                "Did you forget to name your leaf directory as a number (eg. '/1/')?"
            )
        elif missing:
            self._warn(
                f"Version {missing[0]} of servable {self.name}, which was requested to be served "
                "as a 'specific' version in the servable's version policy, was not found in the "
                "file system"
            )
        else:
            self._warned_of = ""

    def _warn(self, message: str) -> None:
        """Warns once, not once a second."""
        if message != self._warned_of:
            logger.warning("%s", message)
        self._warned_of = message


def _status(err: Exception) -> StatusError:
    """The status of a version that failed to load."""
    if isinstance(err, StatusError):
        return err
    if isinstance(err, SegkitError):
        code = getattr(err.__cause__, "error_code", Code.FAILED_PRECONDITION)
        return StatusError(Code(code), err.problem)
    return StatusError(Code.INTERNAL, f"{type(err).__name__}: {err}")
