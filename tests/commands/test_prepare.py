from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.__main__ import main

COLORS = np.array([(0, 0, 0), (64, 0, 128), (128, 64, 128)], np.uint8)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A CVAT export of ten images, the last without a mask."""
    folder = tmp_path / "export"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    (folder / "labelmap.txt").write_text("background:0,0,0::\ncar:64,0,128::\nroad:128,64,128::\n")
    for i in range(10):
        noise = np.random.default_rng(i).integers(0, 2, (6, 8), np.uint8)
        Image.fromarray(COLORS[noise]).save(folder / f"JPEGImages/{i}.jpg")
        if i < 9:
            Image.fromarray(COLORS[noise]).save(folder / f"SegmentationClass/{i}.png")
    (folder / "ImageSets/Segmentation/default.txt").write_text("".join(f"{i}\n" for i in range(10)))
    return folder


def prepare(export: Path, output: Path, *flags: str) -> int:
    return main(["prepare", "--data", f"cvat:{export}", "--output", str(output), *flags])


def test_it_says_what_it_found_where_it_wrote_and_what_comes_next(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "full_semantic.zip"
    assert prepare(export, output) == 0
    printed = capsys.readouterr().out
    assert "10 images, 3 classes" in printed
    assert "1 of them have no mask" in printed
    assert re.search(r" 2  road +0 % +nowhere in the masks", printed)
    assert "split: train 9, val 1" in printed
    assert f"wrote {output}" in printed
    assert "downloads/manual/full_semantic.zip" in printed
    assert "cd datasets/full_semantic && tfds build" in printed


def test_its_flags_reach_the_archive(export: Path, tmp_path: Path) -> None:
    flags = ["--val_share", "0.3", "--ignore_label", "road", "--background_label", "car"]
    assert prepare(export, tmp_path / "a.zip", *flags) == 0
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.read("labelmap.txt").decode().splitlines()[1:] == [
            "car:64,0,128::",
            "background:0,0,0::",
        ]
        assert len(archive.read("val.txt").split()) == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--val_share", "1.5"], "--val_share is 1.5"),
        (["--ignore_label", "tree"], "one of background, car, road"),
    ],
)
def test_a_wrong_flag_is_one_message_and_exit_1(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    assert prepare(export, tmp_path / "out" / "a.zip", *flags) == 1
    error = capsys.readouterr().err
    assert error.startswith("segkit prepare: error:")
    assert words in error
    assert not (tmp_path / "out").exists()


def test_an_export_without_a_label_map_leaves_nothing_behind(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (export / "labelmap.txt").unlink()
    assert prepare(export, tmp_path / "a.zip") == 1
    assert "has no labelmap.txt" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.zip")) + list(tmp_path.glob(".*"))


def test_an_undeclared_colour_leaves_nothing_behind(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((6, 8, 3), 200, np.uint8)).save(export / "SegmentationClass/4.png")
    assert prepare(export, tmp_path / "a.zip") == 1
    error = capsys.readouterr().err
    assert "SegmentationClass/4.png' has 48 pixels of the colour (200, 200, 200)" in error
    assert not list(tmp_path.glob("*.zip")) + list(tmp_path.glob(".*"))


def test_an_existing_archive_needs_overwrite(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(export, tmp_path / "a.zip") == 0
    assert prepare(export, tmp_path / "a.zip") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert prepare(export, tmp_path / "a.zip", "--overwrite") == 0
