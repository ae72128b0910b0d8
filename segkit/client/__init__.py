"""Images to masks, by a server or in this process; videos through them. Never TensorFlow."""

from __future__ import annotations

from segkit.client.credentials import Credentials
from segkit.client.local import LocalSegmenter
from segkit.client.remote import RemoteSegmenter
from segkit.client.report import Report
from segkit.client.segmenter import Answer, Segmenter
from segkit.client.stream import Stream, stream
from segkit.client.wire_format import RAW, WireFormat

__all__ = [
    "RAW",
    "Answer",
    "Credentials",
    "LocalSegmenter",
    "RemoteSegmenter",
    "Report",
    "Segmenter",
    "Stream",
    "WireFormat",
    "stream",
]
