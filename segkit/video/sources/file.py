"""FileSource: every frame of a video file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from segkit.errors import VideoError
from segkit.video.sources.decoding import open_video
from segkit.video.sources.recorded import EXPECTED, RecordedSource

__all__ = ["FileSource"]


class FileSource(RecordedSource):
    """The frames of a video file, in order, none left out. A context manager.

    Args:
        path: The file.
        start: Seconds from the first frame; see RecordedSource.

    Raises:
        VideoError: It is missing, no video, or has no frame.
    """

    def __init__(self, path: Path, *, start: Fraction = Fraction(0)) -> None:
        self._path = path
        if not path.is_file():
            raise VideoError(
                f"the video '{path}' does not exist"
                if not path.exists()
                else f"the video '{path}' is not a file",
                expected=EXPECTED,
                next_step="correct the path",
            )
        super().__init__(start=start)

    @property
    def name(self) -> str:
        """The path."""
        return str(self._path)

    @property
    def path(self) -> Path:
        """The path."""
        return self._path

    def _open(self) -> tuple[InputContainer, VideoStream]:
        try:
            return open_video(str(self._path), self.name)
        except (av.FFmpegError, OSError) as err:
            raise VideoError(
                f"'{self._path}' is not a video ({getattr(err, 'strerror', None) or err})",
                expected=EXPECTED,
                next_step="check that the file plays, and that it was copied whole",
            ) from err

    def _broken(self, err: av.FFmpegError) -> VideoError:
        return VideoError(
            f"the video '{self._path}' cannot be read to its end ({err.strerror})",
            expected=EXPECTED,
            next_step="check the disk, or copy the file again",
        )
