"""Where segmented frames go: files, a window, a page in a browser."""

from __future__ import annotations

from segkit.video.sinks.controls import Controls, Settings
from segkit.video.sinks.display import check_display
from segkit.video.sinks.json_lines import JsonLinesSink
from segkit.video.sinks.masks import MaskSink, encode_mask_png
from segkit.video.sinks.on_request import RecordingSink, SnapshotSink
from segkit.video.sinks.page import PageSink
from segkit.video.sinks.video_file import VideoFileSink
from segkit.video.sinks.window import WindowSink

__all__ = [
    "Controls",
    "JsonLinesSink",
    "MaskSink",
    "PageSink",
    "RecordingSink",
    "Settings",
    "SnapshotSink",
    "VideoFileSink",
    "WindowSink",
    "check_display",
    "encode_mask_png",
]
