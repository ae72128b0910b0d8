"""What predict-video and predict-realtime say: at the start, on the way, and to a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.json_file import write_json
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.client import Report, Stream
    from segkit.commands.prediction_model import Model
    from segkit.video import SegmentedFrame, VideoInfo
    from segkit.video.sources import OpenSource

__all__ = ["Progress", "say", "write_report"]

LIVE_SECONDS, PLAIN_SECONDS = 0.2, 5.0  # between two progress lines
WIDTH = 100  # of the living line


def say(source: OpenSource, model: Model, urls: Sequence[str]) -> None:
    """What is segmented by what, and where it can be seen."""
    info, metadata = source.info, model.metadata
    height, width = metadata.image_size
    count = "live" if info.live else f"{info.num_frames or 'unknown number of'} frames"
    print(
        f"{source.name}: {count}, {info.width}x{info.height}, {float(info.rate):.4g} fps\n"
        f"{model.name}: {metadata.architecture}, {metadata.labels.num_classes} classes, "
        f"{width}x{height}",
        flush=True,
    )
    for note in model.notes:
        print(note, flush=True)
    for url in urls:
        print(f"look at {url}", flush=True)


class Progress:
    """Tells how far the stream is: one living line on a terminal, else a line now and then.

    Args:
        mode: "auto", "none" or "plain".
        info: Of the source.
        running: Whose figures are told, if it is live.
    """

    def __init__(self, mode: str, info: VideoInfo, running: Stream | None = None) -> None:
        self._living = mode == "auto" and sys.stderr.isatty()
        self._quiet = mode == "none"
        self._info, self._running = info, running
        self._start = self._last = time.perf_counter()
        self._frames = 0

    def show(self, segmented: SegmentedFrame) -> None:
        """Counts a written frame, and says so if the last time was long ago."""
        self._frames += 1
        now = time.perf_counter()
        if self._quiet or now - self._last < (LIVE_SECONDS if self._living else PLAIN_SECONDS):
            return
        self._last = now
        line = self._line(self._frames / (now - self._start))
        if self._living:
            print(f"\r{line[:WIDTH]:<{WIDTH}}", end="", file=sys.stderr, flush=True)
        else:
            print(line, flush=True)

    def finish(self) -> None:
        """Clears the living line."""
        if self._living:
            print(f"\r{'':<{WIDTH}}\r", end="", file=sys.stderr, flush=True)

    def _line(self, fps: float) -> str:
        line = f"frame {self._frames:,}"
        if self._info.live and self._running is not None:
            report = self._running.report()
            return (
                f"{line}  {fps:.3g} fps  age {report.age_ms.p50:.0f} ms (p99 "
                f"{report.age_ms.p99:.0f})  dropped {report.dropped:,}  window {report.window}"
            )
        if self._info.num_frames:
            left_s = max(0, self._info.num_frames - self._frames) / fps
            share = min(1, self._frames / self._info.num_frames)
            return (
                f"{line} of {self._info.num_frames:,} ({share:.0%})  {fps:.3g} fps  "
                f"{left_s:.0f} s left"
            )
        return f"{line}  {fps:.3g} fps"


def write_report(path: Path, report: Report) -> None:
    """Writes the figures as JSON.

    Raises:
        ConfigError: It cannot be written there.
    """
    try:
        write_json(path, report.to_json())
    except OSError as err:
        raise ConfigError(
            f"the report '{path}' cannot be written ({err.strerror})",
            expected="a folder that exists and that you may write to",
            next_step="correct --report; the outputs themselves are written",
        ) from err
