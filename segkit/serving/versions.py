"""VersionManager: which versions of a model are loaded, and the state of each.

The order is TensorFlow Serving's availability-preserving one: the version in use serves until the
next one has loaded and warmed up, then it stops taking requests, finishes those it has, and is
freed. A version that fails to load takes nothing down.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segkit.engines import Code, StatusError
from segkit.errors import SegkitError
from segkit.serving.folder import fingerprint, latest_version, list_versions
from segkit.serving.servable import Servable, load_servable
from segkit.serving.warmup import replay_warmup

__all__ = ["State", "VersionManager", "VersionStatus"]

logger = logging.getLogger(__name__)


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
    """Polls a base path and keeps its latest version loaded.

    Args:
        name: The model's name.
        base_path: The folder of numbered versions.
        engine: See `segkit.engines.open_engine`.
        poll_seconds: Seconds between two looks at the folder; 0 looks once.
    """

    def __init__(self, name: str, base_path: Path, *, engine: str, poll_seconds: float) -> None:
        self.name = name
        self._base_path = base_path
        self._engine = engine
        self._poll_seconds = poll_seconds
        self._versions: dict[int, _Version] = {}
        self._changed = threading.Condition()  # guards _versions
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._warned_of = ""
        self._thread = threading.Thread(target=self._run, name=f"versions-{name}", daemon=True)

    def start(self) -> None:
        """Starts to poll and load, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops polling and frees every version, after the requests that run on it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for version in list(self._versions.values()):
            if version.state is State.AVAILABLE:
                self._unload(version)

    def wait_until_settled(self) -> None:
        """Blocks until the first version found has loaded or failed to."""
        while not self._settled.wait(timeout=0.1):  # a wait without end would hold back Ctrl-C
            pass

    def statuses(self) -> list[VersionStatus]:
        """Every version ever seen, the newest first."""
        with self._changed:
            versions = sorted(self._versions.values(), key=lambda version: -version.number)
            return [VersionStatus(x.number, x.state, x.error) for x in versions]

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
        """Looks at the folder once: loads what is new, then unloads what it replaces."""
        try:
            aspired = latest_version(list_versions(self._base_path))
        except OSError as err:
            # What serves goes on serving: the folder may be away for a moment only.
            self._warn(
                f"Could not find base path {self._base_path} for servable {self.name} "
                f"with error {err.strerror}"
            )
            return
        if not aspired:
            self._warn(
                f"No versions of servable {self.name} found under base path {self._base_path}. "
                "Did you forget to name your leaf directory as a number (eg. '/1/')?"
            )
        else:
            self._warned_of = ""
        for number, path in aspired.items():
            with self._changed:
                version = self._versions.setdefault(number, _Version(number, path))
            if version.wants_loading:
                self._load(version)
        if aspired and not any(self._is_available(number) for number in aspired):
            return
        for number, version in list(self._versions.items()):
            if number not in aspired and version.state is State.AVAILABLE:
                self._unload(version)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
            except Exception:  # a bug must not end the polling
                logger.exception("model %s: polling %s failed", self.name, self._base_path)
            if self._versions or self._poll_seconds == 0:
                self._settled.set()
            if self._poll_seconds == 0:
                return
            self._stopping.wait(self._poll_seconds)
        self._settled.set()

    def _load(self, version: _Version) -> None:
        begin = time.perf_counter()
        self._set(version, State.LOADING)
        version.files = fingerprint(version.path)
        servable = None
        try:
            servable = load_servable(self.name, version.path, engine=self._engine)
            records = replay_warmup(servable, version.path)
        except Exception as err:  # whatever it is, the other versions go on and the client sees it
            error = _status(err)
            if servable is not None:
                servable.engine.close()
            logger.error("model %s version %d failed: %s", self.name, version.number, error)
            self._set(version, State.END, error)
            return
        version.servable = servable
        self._set(version, State.AVAILABLE)
        logger.info(
            "model %s version %d is available (%.1f s, %d warm-up records)",
            self.name,
            version.number,
            time.perf_counter() - begin,
            records,
        )

    def _unload(self, version: _Version) -> None:
        with self._changed:
            version.state = State.UNLOADING
            self._changed.wait_for(lambda: version.in_flight == 0)
            servable, version.servable = version.servable, None
        if servable is not None:
            servable.engine.close()
        self._set(version, State.END)
        logger.info("model %s version %d is unloaded", self.name, version.number)

    def _set(self, version: _Version, state: State, error: StatusError | None = None) -> None:
        with self._changed:
            version.state, version.error = state, error
            self._changed.notify_all()

    def _is_available(self, number: int) -> bool:
        return self._versions[number].state is State.AVAILABLE

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
