"""Images to masks, by a server or in this process; videos through them. Never TensorFlow."""

from __future__ import annotations

from segkit.client.credentials import Credentials
from segkit.client.local import LocalSegmenter
from segkit.client.remote import RemoteSegmenter
from segkit.client.segmenter import Segmenter
from segkit.client.stream import DEFAULT_WINDOW, Report, stream

__all__ = [
    "DEFAULT_WINDOW",
    "Credentials",
    "LocalSegmenter",
    "RemoteSegmenter",
    "Report",
    "Segmenter",
    "stream",
]
