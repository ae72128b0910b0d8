from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from segkit.commands.demo import Options, _numbered
from segkit.errors import ConfigError


@pytest.mark.slow
@pytest.mark.e2e
def test_the_whole_line_runs_on_tiny_streets(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    flags = ["--output", str(output), "--image_size", "64", "96", "--epoch", "1"]
    flags += ["--num_scenes", "2", "--frames_per_scene", "4", "--batch_size", "2"]
    flags += ["--clip_frames", "8", "--min_mean_iou", "0"]
    reply = subprocess.run(
        [sys.executable, "-m", "segkit", "demo", *flags], capture_output=True, text=True
    )
    assert reply.returncode == 0, reply.stdout + reply.stderr
    for command in ("prepare", "tfds build", "train.py", "export", "serve", "predict_video.py"):
        assert any(line.startswith("$") and command in line for line in reply.stdout.splitlines())
    made = output / "1"
    summary = json.loads((made / "summary.json").read_text())
    assert 0 <= summary["mean_iou"] <= 1
    assert summary["stream"]["frames"] == 8
    assert (made / "contact_sheet.png").stat().st_size > 10_000
    assert (made / "overlay.mp4").stat().st_size > 1_000
    assert len(list((made / "masks").iterdir())) == len(list((made / "truth").iterdir())) == 8
    for path in ("contact_sheet.png", "overlay.mp4", "summary.json"):
        assert str(made / path) in reply.stdout


def test_each_demo_makes_a_folder_of_its_own(tmp_path: Path) -> None:
    first, second = (_numbered(tmp_path / "demo") for _ in range(2))
    assert (first.name, second.name) == ("1", "2")
    assert first.is_dir() and second.is_dir()


def test_a_demo_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        _numbered(tmp_path / "file")


def test_own_data_needs_an_own_video(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="belong together") as caught:
        Options(data=tmp_path)
    assert "make demo DATA=" in caught.value.next_step


def test_own_data_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere' does not exist"):
        Options(data=tmp_path / "nowhere", video=tmp_path)
