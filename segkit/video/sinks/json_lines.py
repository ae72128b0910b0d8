"""JsonLinesSink: one line of JSON a frame, to be read while it is written."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from segkit.errors import VideoError
from segkit.labels import LabelMap
from segkit.video.frame import SegmentedFrame
from segkit.video.sinks.committed import CommittedSink
from segkit.video.sinks.shares import class_shares

__all__ = ["JsonLinesSink"]

logger = logging.getLogger(__name__)


class JsonLinesSink(CommittedSink):
    """Writes index, time, class shares and timings of every frame as a line of JSON.

    While it runs the file is called NAME.partial and every line is flushed whole, so that
    `tail -f` and other programs follow it; the last name says that it is complete.

    Args:
        path: The file to write.
        labels: The classes, for their names.
        dropped: Asked for the counts of dropped frames by cause, if given.
        overwrite: Whether a file that is there may be replaced.
        live: Whether the frames come from a live source; its lines are kept on any end.

    Raises:
        VideoError: The file exists or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        labels: LabelMap,
        *,
        dropped: Callable[[], Mapping[str, int]] | None = None,
        overwrite: bool = False,
        live: bool = False,
    ) -> None:
        super().__init__(live=live)
        if path.exists() and not (overwrite and path.is_file()):
            raise VideoError(
                f"'{path}' exists",
                expected="a file that does not exist yet",
                next_step="choose another --json, or add --overwrite",
            )
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")
        self._labels = labels
        self._dropped = dropped
        self._lines = 0
        try:
            self._file = self._partial.open("wb", buffering=0)
        except OSError as err:
            raise VideoError(
                f"'{path}' cannot be written ({err.strerror})",
                expected="a folder that exists and that you may write to",
                next_step="choose another --json",
            ) from err

    def write(self, segmented: SegmentedFrame) -> None:
        """Writes the line of the frame, at once.

        Raises:
            VideoError: The disk is full.
        """
        frame = segmented.frame
        record: dict[str, object] = {
            "index": frame.index,
            "time_s": round(frame.time_s, 6),
            "shares": {
                name: round(share, 6)
                for name, share in class_shares(segmented.mask, self._labels).items()
            },
            "stage_ms": {stage: round(ms, 3) for stage, ms in segmented.stage_ms.items()},
        }
        if self._dropped is not None:
            record["dropped"] = dict(self._dropped())
        try:
            self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        except OSError as err:
            raise self._failed(err) from err
        self._lines += 1

    def close(self) -> None:
        """Gives the file its name.

        Raises:
            VideoError: The folder is gone.
        """
        try:
            self._file.close()
            os.replace(self._partial, self._path)
        except OSError as err:
            raise self._failed(err) from err
        if self._cut_short:
            logger.warning("interrupted: '%s' has the %d lines so far", self._path, self._lines)

    def discard(self) -> None:
        """Removes the lines written so far."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def _failed(self, err: OSError) -> VideoError:
        return VideoError(
            f"writing '{self._path}' failed after frame {self._lines} ({err.strerror})",
            expected="room on the disk, and a folder that stays there",
            next_step="make room, or choose another --json",
        )
