"""`segkit load` from flags to figures; what the figures are is tested with the generator."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segkit.__main__ import main
from segkit.commands.load import Options, _plan, _write
from segkit.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
SHORT = ("--seconds", 1, "--warmup", 0, "--timeout", 60)


def load(*arguments: object) -> int:
    return main(["load", *map(str, arguments)])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of two, which are read sooner than streets are drawn."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.JPG"):
        cv2.imwrite(str(folder / name), np.zeros((80, 120, 3), np.uint8))
    (folder / "notes.txt").write_text("no image, and not taken for one")
    return folder


def test_cameras_are_measured_and_written(
    tmp_path: Path, running_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record, plot = tmp_path / "load.json", tmp_path / "load.png"
    flags = ("--cameras", 3, "--fps", 4, "--json", record, "--plot", plot)
    assert load("--server", running_server, *SHORT, *flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"segkit at {running_server}: tiny, 96x64; 8 images of drawn streets, raw"
    assert lines[1] == "3 cameras at 4 fps: 1 s measured, 0 s before not counted"
    starts = ["requests   12 due, 12 answered", "latency    p50", "missed", "a second   12 due"]
    for line, start in zip(lines[2:], starts, strict=False):
        assert line.startswith(start)
    assert lines[-2:] == [f"wrote {record}", f"wrote {plot}"]
    figures = json.loads(record.read_text())
    assert figures["requests"] == 12 and figures["errors"] == {}
    assert figures["deadline_ms"] == 250
    assert figures["sent_bytes"] > 96 * 64 * 3
    assert set(figures["latency_ms"]) == {"p50", "p90", "p99", "p99.9", "max"}
    assert cv2.imread(str(plot)).shape == (540, 960, 3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "1 camera at 30 fps"),
        (("--poisson", 9), "Poisson, 9 a second"),
        (("--concurrency", 2), "2 at a time"),
        (("--wire", "jpeg:85"), "jpeg:85"),
    ],
)
def test_every_kind_of_load(
    flags: tuple[object, ...],
    words: str,
    pictures: Path,
    running_server: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert load("--server", running_server, "--images", pictures, *SHORT, *flags) == 0
    out = capsys.readouterr().out
    assert words in out
    assert re.search(r"^requests   [1-9]", out, re.MULTILINE)


def test_a_model_in_this_process(
    pictures: Path, tiny_export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--images", pictures, "--concurrency", 1)
    assert load("--model", tiny_export / "1", *SHORT, *flags) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tiny_export / '1'}: tiny")
    assert "0 bytes up, 0 down" in out


def test_a_sweep_is_a_table_and_a_sentence(
    tmp_path: Path, pictures: Path, running_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record, plot = tmp_path / "sweep.json", tmp_path / "sweep.png"
    flags = ("--sweep", "--max_cameras", 2, "--fps", 2, "--json", record, "--plot", plot)
    flags = ("--images", pictures, *flags)
    assert load("--server", running_server, *SHORT, *flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("1 s a step, 0 s before not counted")
    assert lines[2].split()[0] == "cameras"
    assert lines[3].split()[0] == "1"
    assert lines[-3].startswith("held: ")
    found = json.loads(record.read_text())
    assert found["steps"][0]["cameras"] == 1
    assert found["steps"][0]["load"] == "1 camera at 2 fps"
    assert cv2.imread(str(plot)).shape == (540, 960, 3)


def test_images_come_from_a_folder_or_a_video(
    pictures: Path, clip: Path, running_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--server", running_server, *SHORT, "--fps", 3)
    assert load("--images", pictures, *flags) == 0
    assert f"2 images of {pictures}" in capsys.readouterr().out
    assert load("--images", clip, *flags) == 0
    assert f"30 images of {clip}" in capsys.readouterr().out


def test_a_mistake_is_one_message(
    tmp_path: Path, running_server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{probe.getsockname()[1]}"
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"no picture")
    taken = tmp_path / "taken.json"
    taken.write_text("{}")
    server = ("--server", running_server)
    for flags, words in (
        (("--server", nobody), "cannot be reached"),
        (("--server", "localhost"), "host:port"),
        ((*server, "--model_name", "x"), "does not serve 'x'"),
        ((*server, "--label", "stable"), "labelled 'stable'"),
        ((*server, "--model", empty), "--server and --model are given"),
        (("--model", empty), "segkit export"),
        (("--model", empty, "--wire", "jpeg:85"), "nothing travels"),
        ((*server, "--wire", "gif"), "--wire is 'gif'"),
        ((*server, "--cameras", 2, "--poisson", 5), "--cameras and --poisson are given"),
        ((*server, "--sweep", "--concurrency", 5), "--concurrency and --sweep are given"),
        ((*server, "--cameras", 0), "--cameras is 0"),
        ((*server, "--concurrency", 0), "--concurrency is 0"),
        ((*server, "--max_cameras", 0), "--max_cameras is 0"),
        ((*server, "--max_outstanding", 0), "--max_outstanding is 0"),
        ((*server, "--poisson", 0), "--poisson is 0.0"),
        ((*server, "--fps", 0), "--fps is 0.0"),
        ((*server, "--fps", "nan"), "--fps is nan"),
        ((*server, "--seconds", -1), "--seconds is -1.0"),
        ((*server, "--timeout", "inf"), "--timeout is inf"),
        ((*server, "--warmup", -1), "--warmup is -1.0"),
        ((*server, "--images", empty), "has no image"),
        ((*server, "--images", broken), "can be read"),
        ((*server, "--images", tmp_path / "absent"), "does not exist"),
        ((*server, "--json", taken), "exists"),
        ((*server, "--json", empty, "--overwrite"), "exists"),
        ((*server, "--plot", tmp_path / "absent" / "a.png"), "there is no folder"),
        ((*server, "--cert", "client.crt"), "without --ca"),
    ):
        assert load(*flags) == 1, flags
        captured = capsys.readouterr()
        assert words in captured.err, flags
        assert captured.err.count("segkit load: error:") == 1
    assert taken.read_text() == "{}"


def test_a_file_that_exists_is_replaced_when_asked(
    tmp_path: Path, pictures: Path, running_server: str
) -> None:
    record = tmp_path / "load.json"
    record.write_text("{}")
    flags = ("--json", record, "--overwrite", "--fps", 3, "--images", pictures)
    assert load("--server", running_server, *SHORT, *flags) == 0
    assert json.loads(record.read_text())["requests"] == 3


def test_figures_that_cannot_be_written_are_told_after_they_are_printed(tmp_path: Path) -> None:
    folder = tmp_path / "removed"
    folder.mkdir()
    options = Options(json=folder / "load.json")
    folder.rmdir()
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        _write(options, {}, None)
    assert "--json" in caught.value.next_step


def test_a_server_may_have_a_frame_of_each_camera() -> None:
    assert _plan(Options(), 3).max_outstanding == 256
    assert _plan(Options(), 500).max_outstanding == 1000
    assert _plan(Options(max_outstanding=7), 500).max_outstanding == 7


def test_nothing_measured_is_nothing_plotted(tmp_path: Path) -> None:
    _write(Options(plot=tmp_path / "load.png"), {}, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [("--cameras", "2"), ("--concurrency", "2"), ("--sweep",)])
def test_ctrl_c_prints_what_was_measured(
    kind: tuple[str, ...], tmp_path: Path, pictures: Path, running_server: str
) -> None:
    record = tmp_path / "load.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "segkit", "load", "--server", running_server, *kind),
            *("--fps", "5", "--seconds", "300", "--warmup", "0", "--json", str(record)),
            *("--images", str(pictures)),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3)  # it goes on
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert first.startswith("segkit at ")
    assert "interrupted" in out
    assert err.splitlines()[-1].endswith("interrupted") and "Traceback" not in err
    figures: dict[str, Any] = json.loads(record.read_text())
    last = figures["steps"][-1] if "steps" in figures else figures
    assert last["ended"] == "interrupted" and last["seconds"] < 300


def test_the_process_never_imports_tensorflow_nor_matplotlib_without_a_plot(
    pictures: Path, running_server: str
) -> None:
    code = (
        "import sys; from segkit.__main__ import main\n"
        f"assert main(['load', '--server', {running_server!r}, '--seconds', '0.5', "
        f"'--warmup', '0', '--timeout', '60', '--images', {str(pictures)!r}]) == 0\n"
        "heavy = {'tensorflow', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    reply = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    assert reply.returncode == 0, reply.stderr.decode()
