from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sets import COLORS, LABEL_MAP, ids, jpeg, png, write

from segkit.commands import augment_data, make_blank_label
from segkit.config import execute


def blank(*flags: object) -> int:
    return execute(make_blank_label, [str(flag) for flag in flags], prog="make_blank_label.py")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """One labelled image, and two without masks."""
    files = {f"rgb/{name}.jpg": jpeg(seed) for seed, name in enumerate(("a", "b", "c.0001"))}
    masks = {f"{folder}/a.png": png(COLORS[ids(0)]) for folder in ("mask", "obj_mask")}
    return write(tmp_path, {"labelmap.txt": LABEL_MAP, **files, **masks})


def test_images_without_masks_get_blank_ones_and_can_then_be_augmented(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(augment_data, ["--raw_path", str(raw)], prog="x") == 1
    assert blank("--raw_path", raw) == 0
    assert f"wrote 2 masks to {raw / 'mask'} and {raw / 'obj_mask'}" in capsys.readouterr().out
    for name in ("b", "c.0001"):
        assert np.array(Image.open(raw / f"mask/{name}.png")).shape == (6, 8, 3)
    assert execute(augment_data, ["--raw_path", str(raw)], prog="x") == 0
    assert not np.array(Image.open(raw / "augment/MASK/b.png")).any()


def test_a_second_run_writes_nothing(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert blank("--raw_path", raw) == 0
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*.png")}
    assert blank("--raw_path", raw) == 0
    assert "wrote 0 masks" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*.png")} == before


def test_blank_is_the_colour_of_the_background(raw: Path) -> None:
    (raw / "labelmap.txt").write_text("car:64,0,128::\nbackground:9,8,7::\n")
    assert blank("--raw_path", raw) == 0
    assert (np.array(Image.open(raw / "mask/b.png")) == (9, 8, 7)).all()
    assert blank("--raw_path", raw, "--mask_path", raw / "m", "--obj_mask_path", raw / "o") == 0
    assert len(list((raw / "m").iterdir())) == 3


def test_without_a_label_map_the_background_is_black(raw: Path) -> None:
    (raw / "labelmap.txt").unlink()
    assert blank("--raw_path", raw) == 0
    assert not np.array(Image.open(raw / "mask/b.png")).any()
    assert blank("--raw_path", raw, "--label_map_path", raw / "labelmap.txt") == 1


def test_images_with_one_mask_of_the_two_are_named(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw / "obj_mask/a.png").rename(raw / "obj_mask/b.png")
    assert blank("--raw_path", raw) == 0
    printed = capsys.readouterr().out
    assert "1 images have an object mask but no mask and were left alone: b" in printed
    assert "1 images have a mask but no object mask and were left alone: a" in printed
    assert "wrote 1 masks" in printed


def test_no_images_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert blank("--raw_path", tmp_path) == 1
    assert f"there is no folder '{tmp_path / 'rgb'}'" in capsys.readouterr().err
    (tmp_path / "rgb").mkdir()
    assert blank("--raw_path", tmp_path) == 1
    assert "there are no images" in capsys.readouterr().err
