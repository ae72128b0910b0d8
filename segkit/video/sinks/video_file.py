"""VideoFileSink: the pictures as an H.264 file, with the source's sound if asked."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from segkit.errors import VideoError
from segkit.video.frame import Image, SegmentedFrame, VideoInfo
from segkit.video.sinks.audio import AudioTrack
from segkit.video.sinks.committed import CommittedSink

__all__ = ["VideoFileSink"]

logger = logging.getLogger(__name__)

# A file that is being written plays up to about its last second, whatever kills the program; a
# finished .mp4 or .mov is an ordinary one, with a single index.
FRAGMENTED = {
    "movflags": "hybrid_fragmented+delay_moov",  # without the delay, sound could begin too early
    "frag_duration": "1000000",  # microseconds
    "flush_packets": "1",
}
CLUSTERS = {"cluster_time_limit": "1000", "flush_packets": "1"}  # milliseconds
CONTAINERS = {".mp4": FRAGMENTED, ".mov": FRAGMENTED, ".mkv": CLUSTERS}
# Twice as good as one can see at this speed, and a quarter of the time of x264's default preset.
X264_OPTIONS = {"preset": "veryfast", "crf": "20"}


class VideoFileSink(CommittedSink):
    """Writes the pictures as H.264, yuv420p, at the source's exact rate and times.

    It is written under another name beside the target and renamed when it is whole. The first
    frame is at time 0 and gives the size; pictures of another size are fitted into it.

    Args:
        path: The file to write; its name ends in .mp4, .mov or .mkv.
        info: Rate and time base of the pictures, and whether they are live.
        overwrite: Whether a file that is there may be replaced.
        audio: The file that the frames come from, whose sound is copied; no sound if None.

    Raises:
        VideoError: The file exists, or cannot be written there or in that format, or the sound
            cannot be read.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        *,
        overwrite: bool = False,
        audio: Path | None = None,
    ) -> None:
        super().__init__(live=info.live)
        _check_target(path, overwrite=overwrite)
        self._path = path
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
        self._info = info
        self._audio = AudioTrack(audio) if audio is not None else None
        self._stream: VideoStream | None = None
        self._size = (0, 0)
        self._frames = 0
        self._first = Fraction(0)  # the first frame's time; the others are counted from it
        self._last_pts = -1
        try:
            self._partial.touch()  # FFmpeg opens it at the first frame, too late to say so
            self._container: OutputContainer = av.open(
                str(self._partial), "w", options=CONTAINERS[path.suffix]
            )
        except (av.FFmpegError, OSError) as err:
            self._stop_audio()
            raise VideoError(
                f"'{path}' cannot be written ({err.strerror})",
                expected="a folder that exists and that you may write to",
                next_step="choose another --output",
            ) from err

    def write(self, segmented: SegmentedFrame) -> None:
        """Encodes the picture at the time of its frame.

        Raises:
            VideoError: The disk is full or the encoder refuses.
        """
        try:
            if self._stream is None:
                self._stream = self._start(segmented)
            time = segmented.frame.time - self._first
            frame = av.VideoFrame.from_ndarray(_fit(segmented.picture, self._size), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            frame.time_base = self._info.time_base
            # Of two frames within one unit of a live source's clock, the second is a unit later.
            self._last_pts = max(self._last_pts + 1, round(time / self._info.time_base))
            frame.pts = self._last_pts
            self._container.mux(self._stream.encode(frame))
            if self._audio is not None:
                self._audio.copy(until=time + self._first)
        except (av.FFmpegError, OSError) as err:
            raise self._failed(err) from err
        self._frames += 1

    def close(self) -> None:
        """Writes what the encoder still holds and renames the file.

        Raises:
            VideoError: The disk is full.
        """
        if self._stream is None:
            logger.warning("'%s' is not written: no frame came", self._path)
            self.discard()
            return
        try:
            self._container.mux(self._stream.encode(None))
            if self._audio is not None:
                end = self._first + (self._last_pts * self._info.time_base) + 1 / self._info.rate
                self._audio.copy(until=end)
                self._audio.finish()
            self._container.close()
            os.replace(self._partial, self._path)
        except (av.FFmpegError, OSError) as err:
            raise self._failed(err) from err
        finally:
            self._stop_audio()
        if self._cut_short:
            logger.warning("interrupted: '%s' has the %d frames so far", self._path, self._frames)

    def discard(self) -> None:
        """Removes the unfinished file; that of a live stream stays, as far as it can be played."""
        self._stop_audio()
        with suppress(av.FFmpegError, OSError):  # the error that led here is the one to report
            self._container.close()
        if self._live and self._frames:
            logger.warning("what was recorded before the failure is in '%s'", self._partial)
        else:
            self._partial.unlink(missing_ok=True)

    def _start(self, segmented: SegmentedFrame) -> VideoStream:
        """Adds the streams for pictures like the first, and writes the header."""
        height, width = segmented.picture.shape[:2]
        # yuv420p halves the colour planes, so an odd edge is repeated once.
        self._size = height + height % 2, width + width % 2
        self._first = segmented.frame.time
        stream = self._container.add_stream("libx264", rate=self._info.rate, options=X264_OPTIONS)
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._info.time_base
        # Without these a player guesses the colours by the size of the video.
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        stream.codec_context.color_trc = ColorTrc.BT709
        if self._audio is not None:
            self._audio.begin(self._container, self._first)
        self._container.start_encoding()
        return stream

    def _stop_audio(self) -> None:
        if self._audio is not None:
            self._audio.close()

    def _failed(self, err: av.FFmpegError | OSError) -> VideoError:
        return VideoError(
            f"writing '{self._path}' failed after frame {self._frames} ({err.strerror or err})",
            expected="room on the disk, and a folder that stays there",
            next_step="make room, or choose another --output",
        )


def _check_target(path: Path, *, overwrite: bool) -> None:
    if path.suffix not in CONTAINERS:
        raise VideoError(
            f"the output '{path}' is no video file by its name",
            expected=f"a name that ends in {', '.join(CONTAINERS)}",
        )
    if path.exists() and not (overwrite and path.is_file()):
        raise VideoError(
            f"'{path}' exists",
            expected="a file that does not exist yet",
            next_step="choose another --output, or add --overwrite",
        )


def _fit(picture: Image, size: tuple[int, int]) -> Image:
    """The picture in that height and width: padded by its edge, or scaled and centred on black."""
    height, width = picture.shape[:2]
    rows, columns = size[0] - height, size[1] - width
    if (rows, columns) == (0, 0):
        return picture
    if rows in (0, 1) and columns in (0, 1):
        return np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
    scale = min(size[0] / height, size[1] / width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    fitted = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    fitted[top : top + height, left : left + width] = cv2.resize(
        picture, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return fitted
