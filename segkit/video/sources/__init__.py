"""Where frames come from: files, images, cameras, network streams, a generated test pattern."""

from __future__ import annotations

from segkit.video.sources.base import OpenSource
from segkit.video.sources.file import FileSource
from segkit.video.sources.selection import Selection

__all__ = ["FileSource", "OpenSource", "Selection"]
