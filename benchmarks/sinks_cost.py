"""What each sink costs the stream: milliseconds that write() takes for a frame.

Real frames where a clip is given, a moving gradient with noise else. The page is measured with
nobody looking and with one viewer who reads; the window where there is a display.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segkit.errors import VideoError
from segkit.labels import LabelMap
from segkit.video import (
    Controls,
    FileSource,
    Frame,
    JsonLinesSink,
    MaskSink,
    PageSink,
    SegmentedFrame,
    Sink,
    VideoFileSink,
    VideoInfo,
    WindowSink,
)
from segkit.video.meters import percentiles

RATE = Fraction(30)
LABELS = LabelMap.from_names(["background", *(f"class {id_}" for id_ in range(1, 19))])


def make_frames(clip: Path | None, height: int, width: int, count: int) -> list[SegmentedFrame]:
    """Frames with masks of some 20 regions, as a street has."""
    rng = np.random.default_rng(0)
    images: list[np.ndarray] = []
    if clip is not None:
        with FileSource(clip) as source:
            for frame, _ in zip(source, range(count), strict=False):
                images.append(cv2.resize(frame.image, (width, height)))
    while len(images) < count:
        base = np.add.outer(np.arange(height), np.arange(width) + 3 * len(images)) // 4
        noise = rng.integers(0, 12, (height, width, 3))
        images.append(((base[..., None] + noise) % 256).astype(np.uint8))
    mask = np.kron(rng.integers(0, 19, (4, 5)), np.ones((height // 4, width // 5)))
    mask = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    stages = {"decode": 1.0, "send": 1.0, "server": 20.0, "draw": 1.0}
    return [
        SegmentedFrame(
            Frame(image, index, index / RATE), np.roll(mask, 3 * index, 1), image, stage_ms=stages
        )
        for index, image in enumerate(images)
    ]


@contextmanager
def watched(page: PageSink) -> Iterator[PageSink]:
    """A page with a viewer, who reads whatever comes."""
    stream = urllib.request.urlopen(page.url + "stream")

    def read() -> None:
        while stream.read1(1 << 20):
            pass

    viewer = threading.Thread(target=read, daemon=True)
    viewer.start()
    with page:
        yield page
    viewer.join()


def measure(sink: Sink, frames: list[SegmentedFrame], pause_s: float) -> list[float]:
    """Milliseconds of each write after the first ten, at the pace of a camera if told."""
    passes = []
    for segmented in frames:
        start = time.perf_counter()
        sink.write(segmented)
        passes.append(1e3 * (time.perf_counter() - start))
        time.sleep(pause_s)
    return passes[10:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, help="a video whose frames are written")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--output", type=Path, help="file for the figures, as JSON")
    arguments = parser.parse_args()

    height, width = arguments.height, arguments.width
    frames = make_frames(arguments.clip, height, width, arguments.frames)
    info = VideoInfo(height=height, width=width, rate=RATE, time_base=1 / RATE)
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sinks: dict[str, Any] = {
            "H.264 file": lambda: VideoFileSink(Path(folder, "out.mp4"), info),
            "masks, palette": lambda: MaskSink(Path(folder, "palette"), LABELS),
            "masks, ids": lambda: MaskSink(Path(folder, "ids"), LABELS, form="ids"),
            "JSON lines": lambda: JsonLinesSink(Path(folder, "out.jsonl"), LABELS),
            "page, no viewer": lambda: PageSink("127.0.0.1:0", LABELS, Controls()),
            "page, one viewer": lambda: watched(PageSink("127.0.0.1:0", LABELS, Controls())),
            "window": lambda: WindowSink(Controls()),
        }
        for name, make in sinks.items():
            try:
                context = make()
            except VideoError as err:
                print(f"{name:18} left out: {err.problem}")
                continue
            cpu = time.process_time()
            with context as sink:
                passes = measure(sink, frames, float(1 / RATE) if "page" in name else 0.0)
            cpu_ms = 1e3 * (time.process_time() - cpu) / len(frames)
            p50, _, p99 = percentiles(passes)
            figures[name] = {"p50_ms": p50, "p99_ms": p99, "cpu_ms": cpu_ms}
            print(f"{name:18} p50 {p50:7.3f} ms   p99 {p99:7.3f} ms   CPU {cpu_ms:6.2f} ms a frame")
    if arguments.output:
        record = {
            "height": height,
            "width": width,
            "frames": len(frames),
            "machine": platform.processor() or platform.machine(),
            "sinks": figures,
        }
        arguments.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
