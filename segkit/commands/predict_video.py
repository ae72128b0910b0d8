"""Segments every frame of a video file by a model server and writes the overlay as H.264.

The output has the source's frames, order and exact rate.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segkit.commands.connection_options import ConnectionOptions
from segkit.contract import DEFAULT_MODEL_NAME
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.client import Report
    from segkit.video import SegmentedFrame, Sink

__all__ = ["Options", "Progress", "run", "summary"]

AUTO = "auto"
LIVE_SECONDS, PLAIN_SECONDS = 0.2, 5.0  # between two progress lines


@dataclass(frozen=True, kw_only=True)
class Options(ConnectionOptions):
    """Flags of the prediction."""

    video: Path
    """the video file to segment"""
    output: Path
    """the video to write: .mp4, .mov or .mkv"""
    server: str = "127.0.0.1:8500"
    """host:port of the model server's gRPC port"""
    model_name: str = DEFAULT_MODEL_NAME
    """name that the model is served under"""
    label: str | None = None
    """label of the version to ask, as stable; the newest version by default"""
    opacity: float = 0.5
    """share of the class colours in the picture, 0 to 1"""
    legend: bool = True
    """whether a panel names the colours"""
    save_masks: Path | None = None
    """folder for the masks, as palette PNGs of class ids"""
    report: Path | None = None
    """file for the figures of the last line, as JSON"""
    window: str = AUTO
    """requests under way at the same time: a number, or auto (by what round trips take)"""
    max_outage: float = 30.0
    """seconds that the server may be away before the stream is given up"""
    overwrite: bool = False
    """replace an output that exists"""
    progress: Literal["auto", "none", "plain"] = "auto"
    """auto: one living line on a terminal, plain lines elsewhere"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.opacity <= 1:
            raise ConfigError(f"--opacity is {self.opacity}", expected="a number from 0 to 1")
        if self.window != AUTO and not (self.window.isdecimal() and 1 <= int(self.window) <= 256):
            raise ConfigError(f"--window is '{self.window}'", expected="auto, or 1 to 256")
        if self.max_outage < 0:
            raise ConfigError(f"--max_outage is {self.max_outage}", expected="0 or more seconds")


def run(options: Options) -> None:
    """Checks source, server and outputs, streams, and prints what it took."""
    from segkit.client import RemoteSegmenter, stream
    from segkit.video import FileSource, MaskSink, Overlay, VideoFileSink

    with ExitStack() as stack:
        source = stack.enter_context(FileSource(options.video))
        remote = RemoteSegmenter(
            options.server,
            options.model_name,
            label=options.label,
            credentials=options.credentials,
        )
        segmenter = stack.enter_context(remote)
        metadata = segmenter.describe()
        info = source.info
        sinks: list[Sink] = [
            stack.enter_context(VideoFileSink(options.output, info, overwrite=options.overwrite))
        ]
        if options.save_masks is not None:
            sinks.append(
                stack.enter_context(
                    MaskSink(options.save_masks, metadata.labels, overwrite=options.overwrite)
                )
            )
        height, width = metadata.image_size
        print(
            f"{options.video}: {info.num_frames or 'unknown number of'} frames, "
            f"{info.width}x{info.height}, {float(info.rate):.4g} fps\n"
            f"{options.model_name} at {options.server}: {metadata.architecture}, "
            f"{metadata.labels.num_classes} classes, {width}x{height}",
            flush=True,
        )
        progress = Progress(options.progress, info.num_frames)
        report = stream(
            source,
            segmenter,
            sinks,
            draw=Overlay(metadata.labels, opacity=options.opacity, legend=options.legend),
            window=None if options.window == AUTO else int(options.window),
            max_outage_s=options.max_outage,
            on_frame=progress.show,
        )
        progress.finish()
    print(f"wrote {options.output}", flush=True)
    if options.save_masks is not None:
        print(f"wrote {options.save_masks}: {report.frames:,} masks", flush=True)
    if options.report is not None:
        _write_report(options.report, report)
    print(summary(report), flush=True)


def summary(report: Report) -> str:
    """The last line: frames, fps, latencies and the mean time of each stage."""
    stages = " | ".join(f"{stage} {ms.mean:.3g}" for stage, ms in report.stage_ms.items())
    retries = f"   {report.retries:,} requests sent again" if report.retries else ""
    return (
        f"{report.frames:,} frames   {report.fps:.3g} fps   p50 {report.latency_ms.p50:.3g} ms   "
        f"p99 {report.latency_ms.p99:.3g} ms   {stages} ms{retries}"
    )


def _write_report(path: Path, report: Report) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as err:
        raise ConfigError(
            f"the report '{path}' cannot be written ({err.strerror})",
            expected="a folder that exists and that you may write to",
            next_step="correct --report; the video itself is written",
        ) from err


class Progress:
    """Tells how far the stream is: one living line on a terminal, else a line now and then.

    Args:
        mode: "auto", "none" or "plain".
        num_frames: Frames to expect; 0 where unknown.
    """

    def __init__(self, mode: str, num_frames: int) -> None:
        self._live = mode == "auto" and sys.stderr.isatty()
        self._quiet = mode == "none"
        self._num_frames = num_frames
        self._start = self._last = time.perf_counter()
        self._frames = 0

    def show(self, segmented: SegmentedFrame) -> None:
        """Counts a written frame, and says so if the last time was long ago."""
        self._frames += 1
        now = time.perf_counter()
        if self._quiet or now - self._last < (LIVE_SECONDS if self._live else PLAIN_SECONDS):
            return
        self._last = now
        fps = self._frames / (now - self._start)
        line = f"frame {self._frames:,}"
        if self._num_frames:
            left_s = max(0, self._num_frames - self._frames) / fps
            share = min(1, self._frames / self._num_frames)
            line += f" of {self._num_frames:,} ({share:.0%})  {fps:.3g} fps  {left_s:.0f} s left"
        else:
            line += f"  {fps:.3g} fps"
        if self._live:
            print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)
        else:
            print(line, flush=True)

    def finish(self) -> None:
        """Clears the living line."""
        if self._live:
            print(f"\r{'':<70}\r", end="", file=sys.stderr, flush=True)
