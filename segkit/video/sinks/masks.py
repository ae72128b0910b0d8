"""MaskSink: every mask as a PNG of class ids. Complete or absent."""

from __future__ import annotations

import logging
import os
import re
import shutil
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from segkit.errors import VideoError
from segkit.labels import LabelMap
from segkit.video.frame import Image, Mask, SegmentedFrame
from segkit.video.sinks.committed import CommittedSink

__all__ = ["MaskSink", "encode_mask_png"]

logger = logging.getLogger(__name__)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3  # colour types of the PNG standard


class MaskSink(CommittedSink):
    """Writes every mask as 000000.png, 000001.png, ... in a folder, by the index of its frame.

    A pixel's value is its class id in either form; what differs is what a viewer shows.

    Args:
        folder: The folder to write; it is made when the last mask is written.
        labels: The classes, for their colours.
        form: "palette" shows each class in its colour; "ids" is plain 8-bit grey, nearly black to
            the eye, for programs that turn a palette into colours when they read it.
        overwrite: Whether masks that are there may be replaced.
        live: Whether the frames come from a live source; their masks are kept on any end.

    Raises:
        VideoError: The folder exists and is not empty, or cannot be made.
    """

    NAME = re.compile(r"\d{6,}\.png")

    def __init__(
        self,
        folder: Path,
        labels: LabelMap,
        *,
        form: Literal["palette", "ids"] = "palette",
        overwrite: bool = False,
        live: bool = False,
    ) -> None:
        super().__init__(live=live)
        if folder.exists() and not folder.is_dir():
            raise VideoError(f"'{folder}' is a file", expected="a folder for the masks")
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise VideoError(
                f"the folder '{folder}' is not empty",
                expected="a folder that does not exist yet",
                next_step="choose another --save_masks, or add --overwrite",
            )
        self._folder = folder
        self._palette = labels.palette() if form == "palette" else None
        self._partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        self._unfinished: Path | None = None
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
        self._unfinished = self._partial / f"{segmented.frame.index:06d}.png"
        try:
            self._unfinished.write_bytes(encode_mask_png(segmented.mask, self._palette))
        except OSError as err:
            raise VideoError(
                f"the mask '{self._folder / self._unfinished.name}' cannot be written "
                f"({err.strerror})",
                expected="room on the disk",
                next_step="make room, or leave out --save_masks",
            ) from err
        self._unfinished = None

    def close(self) -> None:
        """Moves the masks into their folder; those of an earlier video do not stay between them."""
        if self._unfinished is not None:  # Ctrl-C in the middle of it
            self._unfinished.unlink(missing_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.iterdir():
            if self.NAME.fullmatch(old.name):
                old.unlink()
        masks = sorted(self._partial.iterdir())
        for path in masks:
            os.replace(path, self._folder / path.name)
        self._partial.rmdir()
        if self._cut_short:
            logger.warning("interrupted: '%s' has the %d masks so far", self._folder, len(masks))

    def discard(self) -> None:
        """Removes the masks written so far."""
        shutil.rmtree(self._partial, ignore_errors=True)


def encode_mask_png(mask: Mask, palette: Image | None) -> bytes:
    """A PNG whose pixel values are the class ids; OpenCV writes none with a palette.

    Args:
        mask: uint8, (H, W), class ids.
        palette: uint8, (256, 3), RGB, as LabelMap.palette() gives it; None for 8-bit grey.
    """
    height, width = mask.shape
    rows = np.zeros((height, width + 1), np.uint8)  # every row starts with its filter: none
    rows[:, 1:] = mask
    kind = GREY if palette is None else PALETTE
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if palette is not None:
        chunks.append((b"PLTE", palette.tobytes()))
    chunks += [(b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
