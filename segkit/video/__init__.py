"""Frames from files, drawn and written again. numpy, OpenCV and PyAV only; never TensorFlow."""

from __future__ import annotations

import cv2  # noqa: F401  before PyAV, whose libraries can make a later cv2.imshow hang

from segkit.video.effects import Overlay
from segkit.video.frame import Frame, SegmentedFrame, Sink, Source, VideoInfo
from segkit.video.sinks import (
    Controls,
    JsonLinesSink,
    MaskSink,
    PageSink,
    RecordingSink,
    Settings,
    SnapshotSink,
    VideoFileSink,
    WindowSink,
)
from segkit.video.sources import FileSource

__all__ = [
    "Controls",
    "FileSource",
    "Frame",
    "JsonLinesSink",
    "MaskSink",
    "Overlay",
    "PageSink",
    "RecordingSink",
    "SegmentedFrame",
    "Settings",
    "Sink",
    "SnapshotSink",
    "Source",
    "VideoFileSink",
    "VideoInfo",
    "WindowSink",
]
