"""predict-realtime: the live command, on a generated camera."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import av
import pytest

from segkit.__main__ import main
from segkit.commands.predict_realtime import Options
from segkit.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
CAMERA = ("--source", "test:96x64@20", "--seconds", "2")


def predict(*arguments: object) -> int:
    return main(["predict-realtime", *map(str, arguments)])


def test_a_camera_is_shown_recorded_and_accounted_for(
    running_server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, lines, report = (tmp_path / name for name in ("out.mp4", "out.jsonl", "report.json"))
    outputs = ("--output", output, "--json", lines, "--report", report)
    assert predict(*CAMERA, "--server", running_server, *outputs) == 0
    record = json.loads(report.read_text())
    assert record["captured"] == record["frames"] + sum(record["drops"].values())
    assert record["frames"] > 5
    with av.open(str(output)) as container:
        assert sum(1 for _ in container.decode(video=0)) == record["frames"]
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(rows) == record["frames"]
    said = capsys.readouterr().out
    assert "live, 96x64, 20 fps" in said
    assert "wire " in said  # auto tells its reason
    assert " age" in said


def test_several_servers_share_the_frames(running_server: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    servers = f"{running_server},{running_server.replace('127.0.0.1', 'localhost')}"
    flags = ("--server", servers, "--wire", "jpeg:85", "--report", report)
    assert predict(*CAMERA, *flags) == 0
    assert json.loads(report.read_text())["frames"] > 5


def test_a_model_in_this_process_does_the_same(tiny_export: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert predict(*CAMERA, "--model", tiny_export, "--report", report) == 0
    record = json.loads(report.read_text())
    assert record["frames"] > 5 and record["sent_bytes"] == 0


def test_a_page_shows_it_while_it_runs(
    running_server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[str] = []
    seen: list[bytes] = []

    def look(text: str) -> None:
        if text.startswith("http"):
            pages.append(text)

    from segkit.commands import prediction

    say = prediction.say

    def say_and_look(source: Any, model: Any, urls: list[str]) -> None:
        say(source, model, urls)
        look(urls[0])
        threading.Timer(
            0.5, lambda: seen.append(urllib.request.urlopen(urls[0], timeout=20).read())
        ).start()

    monkeypatch.setattr(prediction, "say", say_and_look)
    flags = ("--server", running_server, "--view", "127.0.0.1:0", "--wire", "raw")
    assert predict(*CAMERA, *flags) == 0
    assert pages and pages[0] in capsys.readouterr().out
    assert b"<html" in seen[0].lower()


def test_the_process_never_imports_tensorflow(running_server: str) -> None:
    flags = [*map(str, CAMERA), "--server", running_server, "--wire", "raw"]
    code = (
        "import sys; from segkit.__main__ import main\n"
        f"assert main({['predict-realtime', *flags]!r}) == 0\n"
        "assert 'tensorflow' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    reply = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert reply.returncode == 0, reply.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--source", "97"), "camera"),
        (("--source", "nowhere.mp4"), "'nowhere.mp4' does not exist"),
        (("--source", "test:1x1"), "no test pattern that can be drawn"),
        (("--effect", "blur:nobody"), "names the class 'nobody'"),
        (("--effect", "sparkle"), "there is no effect 'sparkle'"),
        (("--smooth", "hysteresis"), "--smooth is 'hysteresis'"),
        (("--wire", "png"), "--wire is 'png'"),
        (("--max_staleness", "0"), "--max_staleness is 0"),
        (("--camera_size", "480"), "--camera_size is 480"),
        (("--model", "x", "--server", "y:1"), "--model and --server are both given"),
    ],
)
def test_what_cannot_be_is_one_message(
    running_server: str,
    flags: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = () if "--server" in flags else ("--server", running_server)
    assert predict(*CAMERA, *server, "--wait", 0, *flags) == 1
    assert words in capsys.readouterr().err


def test_nobody_there_is_waited_for_and_then_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(*CAMERA, "--server", "127.0.0.1:9", "--wait", 4) == 1
    said = capsys.readouterr().err
    assert "cannot be reached" in said and re.search(r"waiting [1-4] s more", said)


def test_visualize_is_the_peers_word_for_show() -> None:
    assert Options(visualize=True).shows and Options(show=True).shows
    assert not Options().shows
    with pytest.raises(ConfigError, match="--wait is -1"):
        Options(wait=-1)


def test_without_a_display_a_window_is_refused_in_one_sentence(
    running_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert predict(*CAMERA, "--server", running_server, "--show") == 1
    assert "--view" in capsys.readouterr().err


def test_sigterm_keeps_what_was_recorded(running_server: str, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    command = [sys.executable, "predict_realtime.py", "--source", "test:96x64@20"]
    flags = ["--server", running_server, "--output", str(output), "--wire", "raw"]
    process = subprocess.Popen(
        [*command, *flags, "--json", str(tmp_path / "lines")],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = tmp_path / "lines.partial"
    while process.poll() is None and not (lines.is_file() and lines.read_text().count("\n") > 5):
        time.sleep(0.05)
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143, said
    with av.open(str(output)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 5
    assert "frames   " in said  # the figures so far


def test_the_confidence_beside_the_image_is_asked_for(running_server: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    flags = ("--effect", "side_by_side:confidence", "--report", report, "--wire", "raw")
    assert predict(*CAMERA, "--server", running_server, *flags) == 0
    assert json.loads(report.read_text())["frames"] > 5
