"""Segments live video: a camera or a network stream. Of files every frame is kept.

The newest frame is what matters: what a server cannot answer in time is left out and counted, so
that the picture never lags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from segkit.commands.prediction import PredictionOptions
from segkit.commands.prediction_model import AUTO
from segkit.errors import ConfigError

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(PredictionOptions):
    """Flags of the live prediction."""

    source: str = "0"
    """a camera's number, rtsp:// or another URL, a video file, images, or test"""
    output: Path | None = None
    """a video to write beside: .mp4, .mov or .mkv"""
    camera_size: list[int] = field(default_factory=list)
    """height and width to ask a camera for"""
    camera_fps: float | None = None
    """frames a second to ask a camera for"""
    max_fps: float | None = None
    """take no more frames a second than that"""
    seconds: float | None = None
    """stop after so long"""
    max_staleness: float = 2.0
    """seconds after which a frame is too old to be sent or waited for"""
    wire: str = AUTO
    """how images travel: raw, jpeg:QUALITY, or auto, which tries both for a second"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.camera_size and (len(self.camera_size) != 2 or min(self.camera_size) < 1):
            raise ConfigError(
                f"--camera_size is {' '.join(map(str, self.camera_size))}",
                expected="height and width, such as 480 640",
            )
        for name in ("max_staleness", "seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"--{name} is {value}", expected="more than 0 seconds")


def run(options: Options) -> None:
    """Opens the source, waits for the model, and streams until it ends or is ended."""
    from segkit.commands.prediction import predict
    from segkit.video.sources import Patience, open_source

    size = (options.camera_size[0], options.camera_size[1]) if options.camera_size else None
    source = open_source(
        options.source,
        end=options.seconds,
        max_fps=options.max_fps,
        rate=options.camera_fps,
        size=size,
        patience=Patience(outage=options.max_outage),
    )
    with source:
        predict(options, source, output=options.output, max_staleness_s=options.max_staleness)
