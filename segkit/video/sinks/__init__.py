"""Where segmented frames go: files, a window, a page in a browser."""

from __future__ import annotations

from segkit.video.sinks.controls import Controls, Settings
from segkit.video.sinks.json_lines import JsonLinesSink
from segkit.video.sinks.masks import MaskSink, encode_mask_png
from segkit.video.sinks.page import PageSink
from segkit.video.sinks.video_file import VideoFileSink

__all__ = [
    "Controls",
    "JsonLinesSink",
    "MaskSink",
    "PageSink",
    "Settings",
    "VideoFileSink",
    "encode_mask_png",
]
