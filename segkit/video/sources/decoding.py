"""What FFmpeg decodes, as images; what it complains of, as sentences."""

from __future__ import annotations

from collections.abc import Mapping

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from segkit.errors import VideoError
from segkit.video.frame import Image

__all__ = ["open_video", "to_image"]


def open_video(
    target: str,
    name: str,
    *,
    options: Mapping[str, str] | None = None,
    timeout_s: tuple[float, float] | None = None,
) -> tuple[InputContainer, VideoStream]:
    """Opens what has a video stream, and finds that.

    Args:
        target: Path or URL.
        name: What to call it.
        options: Of FFmpeg.
        timeout_s: To open it, and for every packet; None: as long as it takes.

    Raises:
        VideoError: It has no video stream.
        av.FFmpegError: It cannot be opened.
    """
    container = av.open(target, "r", options=dict(options or {}), timeout=timeout_s)
    if container.streams.video:
        stream = container.streams.video[0]
        # Threads by frame would delay and, left unflushed, can deadlock; slices do neither.
        stream.thread_type = "SLICE"
        return container, stream
    kinds = sorted({stream.type for stream in container.streams})
    container.close()
    raise VideoError(
        f"'{name}' has no video stream, only {', '.join(kinds) or 'nothing'}",
        expected="a video",
    )


def to_image(frame: VideoFrame, first: VideoFrame) -> Image:
    """RGB pixels, upright, of the first frame's size."""
    image = frame.to_ndarray(format="rgb24", width=first.width, height=first.height)
    turns = round(first.rotation / 90) % 4  # counter-clockwise, as np.rot90 turns
    return (
        np.ascontiguousarray(np.rot90(image, turns))
        if turns
        else image.astype(np.uint8, copy=False)
    )
