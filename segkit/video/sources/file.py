"""FileSource: every frame of a video file, by PyAV."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

from segkit.errors import VideoError
from segkit.video.frame import Frame, Image, VideoInfo

__all__ = ["FileSource"]

logger = logging.getLogger(__name__)

EXPECTED = "a video that FFmpeg can decode, such as an .mp4 with H.264"
FALLBACK_RATE = Fraction(25)  # of files that name none, such as bare H.264


class FileSource:
    """The frames of a video file, in order, none left out. A context manager.

    The first frame is decoded at once, so that a file which cannot be read fails here and not
    behind work already done. Rotation that a phone notes beside the pixels is applied.

    Args:
        path: The file.

    Raises:
        VideoError: It is missing, no video, or has no frame.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise VideoError(
                f"the video '{path}' does not exist"
                if not path.exists()
                else f"the video '{path}' is not a file",
                expected=EXPECTED,
                next_step="correct the path",
            )
        self._container = self._open()
        try:
            self._stream = self._container.streams.video[0]
            # Threads by frame would delay and, left unflushed, can deadlock; slices do neither.
            self._stream.thread_type = "SLICE"
            self._decoded = self._decode()
            self._first = next(self._decoded, None)
            if self._first is None:
                raise VideoError(
                    f"the video '{path}' has no frame that can be decoded",
                    expected=EXPECTED,
                    next_step="record or convert the video again",
                )
        except BaseException:
            self.close()
            raise
        image = _image(self._first, self._first)
        rate = self._stream.average_rate or self._stream.guessed_rate or FALLBACK_RATE
        self._info = VideoInfo(
            height=image.shape[0],
            width=image.shape[1],
            rate=Fraction(rate),
            time_base=Fraction(self._stream.time_base or 1 / rate),
            num_frames=self._stream.frames,
        )

    @property
    def info(self) -> VideoInfo:
        """Size and rate of the frames."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            VideoError: The file cannot be read on.
        """
        first = decoded = self._first
        assert first is not None
        index, time = 0, Fraction(0)
        while decoded is not None:
            yield Frame(_image(decoded, first), index, time)
            index += 1
            decoded = next(self._decoded, None)
            if decoded is not None:
                time = self._time(decoded, first, index=index, previous=time)
        if index < self._info.num_frames:
            logger.warning(
                "'%s' declares %d frames, but only %d could be decoded",
                self._path,
                self._info.num_frames,
                index,
            )

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def __enter__(self) -> FileSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> InputContainer:
        try:
            container = av.open(str(self._path), "r")
        except (av.FFmpegError, OSError) as err:
            raise VideoError(
                f"'{self._path}' is not a video ({getattr(err, 'strerror', None) or err})",
                expected=EXPECTED,
                next_step="check that the file plays, and that it was copied whole",
            ) from err
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams})
            container.close()
            raise VideoError(
                f"'{self._path}' has no video stream, only {', '.join(kinds) or 'nothing'}",
                expected=EXPECTED,
            )
        return container

    def _decode(self) -> Iterator[VideoFrame]:
        """All frames; a damaged packet is skipped, as players do, and counted at the end."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except av.InvalidDataError:
                    continue
                yield from frames
        except av.FFmpegError as err:
            raise VideoError(
                f"the video '{self._path}' cannot be read to its end ({err.strerror})",
                expected=EXPECTED,
                next_step="check the disk, or copy the file again",
            ) from err

    def _time(
        self, frame: VideoFrame, first: VideoFrame, *, index: int, previous: Fraction
    ) -> Fraction:
        """Seconds since the first frame, always more than that of the frame before."""
        if frame.pts is None or first.pts is None:
            time = index / self._info.rate
        else:
            time = (frame.pts - first.pts) * self._info.time_base
        return time if time > previous else previous + self._info.time_base


def _image(frame: VideoFrame, first: VideoFrame) -> Image:
    """RGB pixels, upright, of the first frame's size."""
    image = frame.to_ndarray(format="rgb24", width=first.width, height=first.height)
    turns = round(first.rotation / 90) % 4  # counter-clockwise, as np.rot90 turns
    return (
        np.ascontiguousarray(np.rot90(image, turns))
        if turns
        else image.astype(np.uint8, copy=False)
    )
