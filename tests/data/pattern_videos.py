"""Videos whose frames say their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from segkit.video.time_pattern import draw_pattern

MILLISECOND = Fraction(1, 1000)


def write_pattern_video(
    path: Path,
    num_frames: int,
    *,
    options: Mapping[str, str] | None = None,
    times_ms: Sequence[int] | None = None,
    size: tuple[int, int] = (96, 160),
) -> Path:
    """H.264 at 30 fps, or at the given times."""
    wanted = {"preset": "veryfast", "g": "25", **(options or {})}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=wanted)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        if times_ms is not None:
            stream.time_base = stream.codec_context.time_base = MILLISECOND
        for index in range(num_frames):
            image = np.full((*size, 3), index * 2 % 250, np.uint8)
            draw_pattern(image, index, 0)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
