"""Where frames come from: files, images, cameras, network streams, a generated test pattern."""

from __future__ import annotations

from segkit.video.sources.file import FileSource

__all__ = ["FileSource"]
