"""Where segmented frames go: an H.264 file, a folder of masks. Complete or absent."""

from __future__ import annotations

import os
import re
import shutil
import struct
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream

from segkit.errors import VideoError
from segkit.labels import LabelMap
from segkit.video.frame import Image, Mask, SegmentedFrame, VideoInfo

__all__ = ["MaskSink", "VideoFileSink", "encode_mask_png"]

CONTAINERS = (".mp4", ".mov", ".mkv")
# Twice as good as one can see at this speed, and a quarter of the time of x264's default preset.
X264_OPTIONS = {"preset": "veryfast", "crf": "20"}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PALETTE_COLOR_TYPE = 3


class _Sink:
    """A context manager that commits what was written, or discards it where an error passes."""

    def close(self) -> None:
        """Finishes what was written and puts it in its place."""
        raise NotImplementedError

    def discard(self) -> None:
        """Removes what was written."""
        raise NotImplementedError

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except BaseException:
            self.discard()
            raise


class VideoFileSink(_Sink):
    """Writes the pictures as H.264, yuv420p, at the source's exact rate and times.

    It is written under another name beside the target and renamed when it is whole.

    Args:
        path: The file to write; its name ends in .mp4, .mov or .mkv.
        info: Size, rate and time base of the pictures.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        VideoError: The file exists, or cannot be written there or in that format.
    """

    def __init__(self, path: Path, info: VideoInfo, *, overwrite: bool = False) -> None:
        _check_target(path, overwrite=overwrite)
        self._path = path
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
        self._info = info
        self._frames = 0
        options = {} if path.suffix == ".mkv" else {"movflags": "faststart"}
        try:
            self._container: OutputContainer = av.open(str(self._partial), "w", options=options)
            self._stream = self._add_stream()
            self._container.start_encoding()
        except (av.FFmpegError, OSError) as err:
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
        frame = av.VideoFrame.from_ndarray(_pad_to_even(segmented.picture), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.time_base = self._info.time_base
        frame.pts = round(segmented.frame.time / self._info.time_base)
        self._encode(frame)
        self._frames += 1

    def close(self) -> None:
        """Writes what the encoder still holds and renames the file.

        Raises:
            VideoError: The disk is full.
        """
        self._encode(None)
        try:
            self._container.close()
            os.replace(self._partial, self._path)
        except (av.FFmpegError, OSError) as err:
            raise self._failed(err) from err

    def discard(self) -> None:
        """Removes the unfinished file."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            pass  # the file goes anyway, and the error that led here is the one to report
        finally:
            self._partial.unlink(missing_ok=True)

    def _add_stream(self) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=self._info.rate, options=X264_OPTIONS)
        stream.height = self._info.height + self._info.height % 2
        stream.width = self._info.width + self._info.width % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._info.time_base
        # Without these a player guesses the colours by the size of the video.
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        stream.codec_context.color_trc = ColorTrc.BT709
        return stream

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as err:
            raise self._failed(err) from err

    def _failed(self, err: av.FFmpegError | OSError) -> VideoError:
        return VideoError(
            f"writing '{self._path}' failed after frame {self._frames} ({err.strerror or err})",
            expected="room on the disk, and a folder that stays there",
            next_step="make room, or choose another --output",
        )


class MaskSink(_Sink):
    """Writes every mask as 000000.png, 000001.png, ... in a folder.

    The files are palette PNGs: a pixel's value is its class id, a viewer shows the class's colour.

    Args:
        folder: The folder to write; it is made when the last mask is written.
        labels: The classes, for their colours.
        overwrite: Whether masks that are there may be replaced.

    Raises:
        VideoError: The folder exists and is not empty, or cannot be made.
    """

    NAME = re.compile(r"\d{6,}\.png")

    def __init__(self, folder: Path, labels: LabelMap, *, overwrite: bool = False) -> None:
        if folder.exists() and not folder.is_dir():
            raise VideoError(f"'{folder}' is a file", expected="a folder for the masks")
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise VideoError(
                f"the folder '{folder}' is not empty",
                expected="a folder that does not exist yet",
                next_step="choose another --save_masks, or add --overwrite",
            )
        self._folder = folder
        self._palette = labels.palette()
        self._partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise VideoError(
                f"the folder '{folder}' cannot be made ({err.strerror})",
                expected="a place that you may write to",
                next_step="choose another --save_masks",
            ) from err

    def write(self, segmented: SegmentedFrame) -> None:
        """Writes the mask of the frame.

        Raises:
            VideoError: The disk is full.
        """
        path = self._partial / f"{segmented.frame.index:06d}.png"
        try:
            path.write_bytes(encode_mask_png(segmented.mask, self._palette))
        except OSError as err:
            raise VideoError(
                f"the mask '{self._folder / path.name}' cannot be written ({err.strerror})",
                expected="room on the disk",
                next_step="make room, or leave out --save_masks",
            ) from err

    def close(self) -> None:
        """Moves the masks into their folder; those of an earlier video do not stay between them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.iterdir():
            if self.NAME.fullmatch(old.name):
                old.unlink()
        for path in sorted(self._partial.iterdir()):
            os.replace(path, self._folder / path.name)
        self._partial.rmdir()

    def discard(self) -> None:
        """Removes the masks written so far."""
        shutil.rmtree(self._partial, ignore_errors=True)


def encode_mask_png(mask: Mask, palette: Image) -> bytes:
    """A palette PNG whose pixel values are the class ids; OpenCV writes none of that kind.

    Args:
        mask: uint8, (H, W), class ids.
        palette: uint8, (256, 3), RGB, as LabelMap.palette() gives it.
    """
    height, width = mask.shape
    rows = np.zeros((height, width + 1), np.uint8)  # every row starts with its filter: none
    rows[:, 1:] = mask
    header = struct.pack(">IIBBBBB", width, height, 8, PALETTE_COLOR_TYPE, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", palette.tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 1)),
        (b"IEND", b""),
    )
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
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


def _pad_to_even(image: Image) -> Image:
    """yuv420p halves the colour planes, so an odd edge is repeated once."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return image
