"""Sinks that write when a viewer asks: single pictures, and recordings between two key presses."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType

import cv2

from segkit.errors import VideoError
from segkit.video.frame import SegmentedFrame, VideoInfo
from segkit.video.sinks.controls import Controls
from segkit.video.sinks.video_file import VideoFileSink

__all__ = ["RecordingSink", "SnapshotSink"]

logger = logging.getLogger(__name__)


class SnapshotSink:
    """Saves the picture as a PNG in a folder whenever the controls ask for it.

    Args:
        folder: The folder; made when the first snapshot is.
        controls: What asks.
    """

    def __init__(self, folder: Path, controls: Controls) -> None:
        self._folder = folder
        self._controls = controls

    def write(self, segmented: SegmentedFrame) -> None:
        """Saves the picture if it was asked for.

        Raises:
            VideoError: It cannot be written.
        """
        if not self._controls.take_snapshot_request():
            return
        path = _free(self._folder, f"snapshot-{segmented.frame.index:06d}", ".png")
        _, png = cv2.imencode(".png", cv2.cvtColor(segmented.picture, cv2.COLOR_RGB2BGR))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(png))
        except OSError as err:
            raise VideoError(
                f"the snapshot '{path}' cannot be written ({err.strerror})",
                expected="a folder that you may write to, with room",
                next_step="make room, or choose another folder",
            ) from err
        logger.info("wrote %s", path)

    def __enter__(self) -> SnapshotSink:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is open."""


class RecordingSink:
    """Records the pictures to a new H.264 file whenever the controls say so.

    Args:
        folder: Where recording-1.mp4, recording-2.mp4, ... are written; made with the first.
        info: Rate and time base of the pictures.
        controls: What starts and ends a recording.
    """

    def __init__(self, folder: Path, info: VideoInfo, controls: Controls) -> None:
        self._info = info
        self._folder = folder
        self._controls = controls
        self._recording: VideoFileSink | None = None
        self._path = folder

    def write(self, segmented: SegmentedFrame) -> None:
        """Records the picture, or ends the recording.

        Raises:
            VideoError: It cannot be written.
        """
        if not self._controls.settings.recording:
            self._finish(None)
            return
        if self._recording is None:
            self._path = _free(self._folder, "recording", ".mp4", number=1)
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as err:
                raise VideoError(
                    f"the folder '{self._folder}' cannot be made ({err.strerror})",
                    expected="a place that you may write to",
                    next_step="choose another --record",
                ) from err
            self._recording = VideoFileSink(self._path, self._info)
        self._recording.write(segmented)

    def __enter__(self) -> RecordingSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the recording; one that was made of a live stream is kept whatever ends it."""
        self._finish(kind, value, trace)

    def _finish(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        if self._recording is not None:
            recording, self._recording = self._recording, None
            recording.__exit__(kind, value, trace)
            if self._path.exists():
                logger.info("wrote %s", self._path)


def _free(folder: Path, stem: str, suffix: str, number: int = 0) -> Path:
    """A path that does not exist: of that stem, numbered from `number` on where it is not 0."""
    while True:
        path = folder / (f"{stem}-{number}{suffix}" if number else f"{stem}{suffix}")
        if not path.exists():
            return path
        number += 1
