"""A server that is killed again and again under a recorded video: not one frame is missing."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from segkit.client import RemoteSegmenter, stream
from segkit.contract import Metadata
from segkit.video import FileSource, SegmentedFrame, VideoFileSink
from segkit.video.sources import PatternSource
from segkit.video.time_pattern import read_pattern

FRAMES = 600
KILLED_AT = (150, 300, 450)
AWAY_SECONDS = 0.5


@pytest.mark.slow
def test_a_server_killed_three_times_in_600_frames_loses_none(
    fake_server: Any, tiny_metadata: Metadata, tmp_path: Path
) -> None:
    """The ids are read back from the pictures of the written video."""
    servers = [fake_server]
    most_at_once = 0

    def kill_and_restart(segmented: SegmentedFrame) -> None:
        nonlocal most_at_once
        most_at_once = max(most_at_once, servers[-1].under_way)
        if segmented.frame.index in KILLED_AT:
            servers[-1].stop()
            threading.Timer(
                AWAY_SECONDS,
                lambda: servers.append(type(fake_server)(tiny_metadata, fake_server.port)),
            ).start()

    path = tmp_path / "out.mp4"
    source = PatternSource((192, 256), rate=Fraction(30), live=False, num_frames=FRAMES)
    with (
        source,
        RemoteSegmenter(fake_server.address) as segmenter,
        VideoFileSink(path, source.info) as sink,
    ):
        report = stream(source, segmenter, [sink], on_frame=kill_and_restart)
    for server in servers[1:]:
        server.stop()
    assert len(servers) == 1 + len(KILLED_AT)
    assert (report.frames, report.captured, report.drops) == (FRAMES, FRAMES, {})
    assert most_at_once <= 64
    with FileSource(path) as written:
        patterns = [read_pattern(frame.image) for frame in written]
    assert [pattern and pattern.frame_id for pattern in patterns] == list(range(FRAMES))
