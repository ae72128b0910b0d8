"""Segments every frame of a video and writes the overlay as H.264.

The output has the source's frames, order and exact rate. Nothing is dropped: what a server cannot
answer just now is sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segkit.commands.prediction import PredictionOptions
from segkit.errors import ConfigError

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(PredictionOptions):
    """Flags of the prediction."""

    video: str
    """the video file to segment; or a folder or pattern of images, or a URL"""
    output: Path | None = None
    """the video to write: .mp4, .mov or .mkv"""
    audio: bool = False
    """copy the sound of --video into --output"""
    start: float = 0.0
    """seconds to leave out at the beginning"""
    end: float | None = None
    """second at which to stop"""
    stride: int = 1
    """take one of so many frames"""
    max_fps: float | None = None
    """take no more frames a second than that"""
    rate: float | None = None
    """of images: how many are a second"""

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = (self.output, self.save_masks, self.json, self.view)
        if not any(wanted) and not self.shows:
            raise ConfigError(
                "nothing is to be written or shown",
                expected="--output, --save_masks, --json, --view or --show",
                next_step="such as --output overlay.mp4",
            )
        if self.audio and self.output is None:
            raise ConfigError("--audio is given without --output", expected="the video to write")


def run(options: Options) -> None:
    """Checks source, model and outputs, streams, and prints what it took."""
    from segkit.commands.prediction import predict
    from segkit.video.sources import open_source

    source = open_source(
        options.video,
        start=options.start,
        end=options.end,
        stride=options.stride,
        max_fps=options.max_fps,
        rate=options.rate,
        live=False,
    )
    with source:
        predict(options, source, output=options.output, audio=options.audio)
