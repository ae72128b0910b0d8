"""Where frames come from: files, images, cameras, network streams, a generated test pattern."""

from __future__ import annotations

from segkit.video.sources.base import OpenSource
from segkit.video.sources.file import FileSource
from segkit.video.sources.images import ImagesSource
from segkit.video.sources.live import LiveSource, Patience
from segkit.video.sources.network import NetworkSource, NetworkVideo
from segkit.video.sources.opening import SOURCES, open_source
from segkit.video.sources.pattern import PatternSource
from segkit.video.sources.selection import Selection
from segkit.video.sources.urls import hide_credentials
from segkit.video.sources.webcam import WebcamSource

__all__ = [
    "SOURCES",
    "FileSource",
    "ImagesSource",
    "LiveSource",
    "NetworkSource",
    "NetworkVideo",
    "OpenSource",
    "Patience",
    "PatternSource",
    "Selection",
    "WebcamSource",
    "hide_credentials",
    "open_source",
]
