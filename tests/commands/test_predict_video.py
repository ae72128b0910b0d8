"""predict_video.py from flags to files: exact frames and rate, plain messages, no TensorFlow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from segkit.__main__ import main
from segkit.client import Report
from segkit.commands.prediction_figures import Progress
from segkit.video.frame import VideoInfo
from segkit.video.meters import Summary

REPOSITORY = Path(__file__).resolve().parents[2]


def predict(*arguments: object) -> int:
    return main(["predict-video", *map(str, arguments)])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.mp4"


def test_a_clip_becomes_an_overlay_of_the_same_frames(
    clip: Path, output: Path, running_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    masks, report = output.with_name("masks"), output.with_name("report.json")
    flags = ("--save_masks", masks, "--report", report, "--server", running_server)
    assert predict("--video", clip, "--output", output, *flags) == 0
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == Fraction(30000, 1001)
        assert stream.frames == 30
    assert len(list(masks.iterdir())) == 30
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("30 frames, 160x96, 29.97 fps")
    (last,) = [line for line in lines if line.startswith("30 frames   ")]
    for word in ("fps", "p50", "p99", "decode", "send", "server", "draw", "write"):
        assert word in last
    record = json.loads(report.read_text())
    assert record["frames"] == 30
    assert record["captured"] == 30 and record["drops"] == {}
    assert set(record["latency_ms"]) == {"mean", "p50", "p90", "p99"}


def test_the_process_never_imports_tensorflow(
    clip: Path, output: Path, running_server: str
) -> None:
    flags = ["predict-video", "--video", clip, "--output", output, "--server", running_server]
    code = (
        "import sys; from segkit.__main__ import main\n"
        f"assert main({[str(flag) for flag in flags]!r}) == 0\n"
        "assert 'grpc' in sys.modules\n"
        "assert 'tensorflow' not in sys.modules"
    )
    reply = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert reply.returncode == 0, reply.stderr
    assert output.is_file()


def test_a_real_clip_keeps_its_377_frames_at_their_rate(
    shared_dir: Path, output: Path, running_server: str
) -> None:
    video = shared_dir / "data" / "video" / "car-detection.mp4"
    flags = ("--server", running_server, "--progress", "none")
    assert predict("--video", video, "--output", output, *flags) == 0
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == Fraction(25, 2)
        assert sum(1 for _ in container.decode(stream)) == 377


def test_wrong_inputs_are_told_and_leave_nothing(
    clip: Path, output: Path, running_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = output.with_name("notes.mp4")
    notes.write_text("no video")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{probe.getsockname()[1]}"
    for flags, words in (
        (("--video", notes, "--server", running_server), "is not a video"),
        (("--video", clip, "--server", nobody, "--wait", 0), "cannot be reached"),
        (("--video", clip, "--server", running_server, "--model_name", "x"), "does not serve 'x'"),
        (("--video", clip, "--server", "localhost"), "host:port"),
        (("--video", clip, "--opacity", 2), "--opacity is 2.0"),
        (("--video", clip, "--window", "many"), "auto, or 1 to 256"),
        (("--video", clip, "--max_outage", -1), "--max_outage is -1.0"),
    ):
        assert predict("--output", output, *flags) == 1
        assert words in capsys.readouterr().err
        assert list(output.parent.iterdir()) == [notes]


def test_an_unwritable_report_is_told_after_the_video(
    clip: Path, output: Path, running_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = output.with_name("absent") / "report.json"
    flags = ("--server", running_server, "--report", report)
    assert predict("--video", clip, "--output", output, *flags) == 1
    assert "--report" in capsys.readouterr().err
    assert output.is_file()


SERVE = """
import sys, time
from pathlib import Path
from segkit.serving.server import ModelServer
with ModelServer.of("segkit", Path(sys.argv[1]), port=int(sys.argv[2])):
    print("ready", flush=True)
    time.sleep(60)
"""


class ServerProcess:
    """An embedded server that can be killed."""

    def __init__(self, base_path: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._base_path = base_path
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(self._base_path), str(self.port)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def mortal_server(tiny_export: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tiny_export)
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_a_server_killed_and_started_again_costs_no_frame(
    clip: Path,
    output: Path,
    mortal_server: ServerProcess,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    show = Progress.show

    def show_and_kill(self: Progress, segmented: Any) -> None:
        show(self, segmented)
        if segmented.frame.index == 5:
            mortal_server.kill()
            threading.Thread(target=mortal_server.start).start()

    monkeypatch.setattr(Progress, "show", show_and_kill)
    server = f"127.0.0.1:{mortal_server.port}"
    assert predict("--video", clip, "--output", output, "--server", server) == 0
    with av.open(str(output)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30
    assert "requests sent again" in capsys.readouterr().out


INFO = VideoInfo(height=96, width=160, rate=Fraction(25), time_base=Fraction(1, 25), num_frames=40)


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "frames": 1377,
        "seconds": 10.0,
        "latency_ms": Summary(mean=13, p50=12.345, p90=15.0, p99=18.94),
        "stage_ms": {"decode": Summary(mean=3.14), "server": Summary(mean=8.7)},
        "retries": 0,
    }
    return Report(**values | changes)


def test_the_last_lines_have_all_figures() -> None:
    expected = "1,377 frames   138 fps   p50 12.3 ms   p99 18.9 ms   decode 3.14 | server 8.7 ms"
    assert report().lines()[0] == expected
    assert report(retries=4).lines()[0].endswith("4 requests sent again")
    latency = report().lines()[-2]
    assert latency.split() == ["latency", "12.3", "15", "18.9"]
    travelled = report(sent_bytes=47_100.0, received_bytes=9_850.0, window=3).lines()[-1]
    assert travelled == "a frame: 47.1 KB up, 9.8 KB down; at most 3 requests under way"
    left_out = report(captured=1389, drops={"replaced": 10, "late": 2}).lines()[-3:]
    assert left_out == [
        "left out 12 of 1,389 frames",
        "      10  a newer one came before it could be sent",
        "       2  its answer did not come in time",
    ]


def test_progress_is_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress("auto", INFO)
    progress._last = time.perf_counter() - 60
    progress.show(None)  # type: ignore[arg-type]
    progress.finish()
    captured = capsys.readouterr()
    assert captured.out.startswith("frame 1 of 40 (2%)")
    assert captured.err == ""


def test_no_progress_means_none(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("none", INFO)
    progress._last = time.perf_counter() - 60
    progress.show(None)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


def test_a_label_that_nobody_gave_is_an_error(
    clip: Path, output: Path, running_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--server", running_server, "--label", "stable")
    assert predict("--video", clip, "--output", output, *flags) == 1
    assert "labelled 'stable'" in capsys.readouterr().err
    assert not output.exists()


def test_the_sample_segments_one_image(tmp_path: Path, running_server: str) -> None:
    import cv2

    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8))
    overlay = tmp_path / "overlay.png"
    reply = subprocess.run(
        [sys.executable, "tf_serving_sample.py", str(image), str(overlay), running_server],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert reply.returncode == 0, reply.stderr
    assert cv2.imread(str(overlay)).shape == (80, 120, 3)
    assert "road" in reply.stdout
