"""History: what was rolled out when, in a file beside the configuration; and one at a time.

<models.config>.rollouts.json   the records, by model
.<models.config>.lock           locked while a roll-out runs
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from segkit.errors import ConfigError
from segkit.runs import replacing

__all__ = ["Action", "History", "Record", "one_at_a_time", "replace_text"]

Action = Literal["rollout", "canary", "rollback"]
LONGEST = 100  # records of a model


@dataclass(frozen=True, kw_only=True)
class Record:
    """One roll-out or rollback.

    Args:
        action: What was done; "canary" is a roll-out that left the label `stable` where it was.
        version: The version that it was about: what a rollback goes back to.
        before: The version labelled `stable` before; None: there was none.
        time: UTC, ISO 8601, of its start.
        agreement: Share of pixels to which both gave the same class, where that was measured.
        mean_iou: Of the version before and of the new one, where there were labels.
        finished: False while it is under way, and for one that was interrupted.
    """

    action: Action
    version: int
    before: int | None = None
    time: str = ""
    agreement: float | None = None
    mean_iou: tuple[float | None, float | None] | None = None
    finished: bool = False


class History:
    """The records of one model.

    Args:
        path: The file; None keeps no records.
        model: The model's name.

    Raises:
        ConfigError: The file cannot be read.
    """

    def __init__(self, path: Path | None, model: str) -> None:
        self._path, self._model = path, model
        self._models = {} if path is None else _read(path)

    @property
    def records(self) -> list[Record]:
        """All of them, the oldest first."""
        return self._models.get(self._model, [])

    @property
    def last(self) -> Record | None:
        """The last one."""
        return self.records[-1] if self.records else None

    @property
    def under_way(self) -> Record | None:
        """The last one, if it was not finished."""
        return None if self.last is None or self.last.finished else self.last

    def before(self, version: int) -> int | None:
        """What was stable before a version was rolled out last; None: nothing is known of it."""
        for record in reversed(self.records):
            if record.action == "rollout" and record.version == version:
                return record.before
        return None

    def begin(self, record: Record) -> None:
        """Writes down that something is started; what was under way before, this goes on with."""
        records = [each for each in self.records if each.finished]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._write([*records, replace(record, time=now, finished=False)])

    def finish(self, **measured: Any) -> None:
        """Writes down that what is under way is done, and what was measured."""
        *records, last = self.records
        self._write([*records, replace(last, finished=True, **measured)])

    def forget(self) -> None:
        """Writes down that what was under way was undone."""
        self._write([each for each in self.records if each.finished])

    def _write(self, records: list[Record]) -> None:
        self._models[self._model] = records[-LONGEST:]
        if self._path is None:
            return
        models = {
            model: [asdict(record) for record in each] for model, each in self._models.items()
        }
        replace_text(self._path, json.dumps({"models": models}, indent=1) + "\n")


@contextmanager
def one_at_a_time(config_file: Path | None) -> Iterator[None]:
    """Keeps others out while a roll-out by the same configuration file runs.

    The lock ends with the process that holds it, whatever becomes of that.

    Args:
        config_file: The configuration; None: nobody is kept out.

    Raises:
        ConfigError: Somebody else is at it, or the folder cannot be written.
    """
    if config_file is None:
        yield
        return
    path = config_file.with_name(f".{config_file.name}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as err:
        raise _unwritable(path, err) from err
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            process = os.read(descriptor, 20).decode(errors="replace").strip()
            raise ConfigError(
                f"another roll-out by '{config_file}' is under way (process {process})",
                expected="one at a time",
                next_step="wait until it ends, then run the same command again",
            ) from err
        except OSError as err:
            raise _unwritable(path, err, what="locked") from err
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Replaces a file that others read meanwhile, in one step; its permissions stay.

    Raises:
        ConfigError: It cannot be written; what was there, stays.
    """
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        with replacing(path) as incoming, incoming.open("w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
    except OSError as err:
        raise _unwritable(path, err) from err


def _read(path: Path) -> dict[str, list[Record]]:
    if not path.exists():
        return {}
    try:
        models = json.loads(path.read_text(encoding="utf-8"))["models"]
        return {model: [_record(each) for each in entries] for model, entries in models.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ConfigError(
            f"the records of roll-outs '{path}' cannot be read ({err!r})",
            expected="the file that the last roll-out wrote",
            next_step="remove it, and tell rollback the version by --to",
        ) from err


def _record(entry: dict[str, Any]) -> Record:
    mean_iou = entry.get("mean_iou")
    return Record(**{**entry, "mean_iou": None if mean_iou is None else tuple(mean_iou)})


def _unwritable(path: Path, err: OSError, *, what: str = "written") -> ConfigError:
    return ConfigError(
        f"'{path}' cannot be {what}: {err.strerror}",
        expected="a folder that this user may write, with room in it",
        next_step="mend the folder, then run the same command again",
    )
