from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sets import COLORS, LABEL_MAP, ids, jpeg, png, write

from segkit.commands import augment_data
from segkit.config import EXIT_INTERRUPTED, execute
from segkit.data.readers import cvat
from segkit.data.splits import source_of

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = (24, 36)
Make = Callable[..., Path]


def augment(*flags: object) -> int:
    return execute(augment_data, [str(flag) for flag in flags], prog="augment_data.py")


@pytest.fixture
def raw_data(tmp_path: Path) -> Make:
    """Writes the raw folders of three images, then `changes`; None removes a file."""

    def make(changes: Mapping[str, bytes | str | None] | None = None) -> Path:
        files: dict[str, bytes | str | None] = {"labelmap.txt": LABEL_MAP}
        for seed, stem in enumerate(("one", "two", "three")):
            mask = np.repeat(np.repeat(ids(seed, (4, 6)), 6, axis=0), 6, axis=1)
            files[f"rgb/{stem}.jpg"] = jpeg(seed, SIZE)
            files[f"mask/{stem}.png"] = png(COLORS[mask])
            files[f"obj_mask/{stem}.png"] = png(COLORS[np.where(mask == 1, 1, 0)])
        files["bg/forest.png"] = png(np.full((50, 40, 3), (0, 200, 0)))
        files |= changes or {}
        return write(tmp_path / "raw", {k: v for k, v in files.items() if v is not None})

    return make


def test_it_says_what_it_reads_where_it_wrote_and_how_much(
    raw_data: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = raw_data()
    assert augment("--raw_path", raw, "--variants", 2) == 0
    printed = capsys.readouterr().out
    assert f"reading {raw / 'rgb'} and {raw / 'mask'}" in printed
    assert "3 images, 3 classes" in printed
    assert f"wrote {raw / 'augment'}: 3 images and 6 copies" in printed
    assert {path.name for path in (raw / "augment").iterdir()} == {
        "RGB",
        "MASK",
        "VIS_MASK",
        "labelmap.txt",
    }
    assert {p.stem for p in raw.glob("augment/RGB/two*")} == {"two", "two.aug1", "two.aug2"}


def test_every_folder_has_a_flag(raw_data: Make, tmp_path: Path) -> None:
    raw = raw_data()
    flags: list[object] = []
    for name in ("rgb", "mask", "obj_mask", "bg"):
        (raw / name).rename(tmp_path / f"my_{name}")
        flags += [f"--{name}_path", tmp_path / f"my_{name}"]
    (raw / "labelmap.txt").rename(tmp_path / "labels.txt")
    flags += ["--label_map_path", tmp_path / "labels.txt", "--output_path", tmp_path / "out"]
    assert augment(*flags, "--effects", "color", "background", "--probability", 1) == 0
    assert len(list(tmp_path.glob("out/RGB/*"))) == 15


def test_an_image_without_objects_is_as_good_as_any_other(
    raw_data: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    blank = png(np.zeros((*SIZE, 3)))
    raw = raw_data({"mask/one.png": blank, "obj_mask/one.png": blank})
    assert augment("--raw_path", raw, "--effects", "color", "--variants", 2) == 0
    assert "2 copies were left out: nothing in them could be altered" in capsys.readouterr().out
    assert [p.name for p in raw.glob("augment/RGB/one*")] == ["one.jpg"]


def test_bg_path_gives_the_background(raw_data: Make) -> None:
    (raw := raw_data()).joinpath("bg").rename(raw / "pictures")
    flags = ["--bg_path", raw / "pictures", "--effects", "background", "--variants", 1]
    assert augment("--raw_path", raw, *flags) == 0
    mask = np.array(Image.open(raw / "augment/MASK/one.aug1.png"))
    image = np.array(Image.open(raw / "augment/RGB/one.aug1.jpg"), int)
    far = np.zeros(SIZE, bool)
    for row in range(0, SIZE[0], 6):  # the middle of the mask's blocks of 6x6 pixels
        for column in range(0, SIZE[1], 6):
            far[row + 2 : row + 4, column + 2 : column + 4] = mask[row, column] == 0
    assert far.any()
    assert abs(image[far] - (0, 200, 0)).mean() < 25  # JPEG
    assert abs(image[mask != 0] - (0, 200, 0)).mean() > 60


@pytest.mark.parametrize("given", [True, False])
def test_all_effects_are_used_and_background_where_there_are_pictures(
    raw_data: Make, given: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = raw_data({} if given else {"bg/forest.png": None})
    assert augment("--raw_path", raw, "--variants", 1) == 0
    others = "color, equalize, brightness, blur, shift, rotate, crop"
    expected = f"background, {others}" if given else others
    assert f"effects: {expected}\n" in capsys.readouterr().out


def test_a_seed_gives_the_same_bytes_again(raw_data: Make, tmp_path: Path) -> None:
    raw = raw_data()
    outputs = []
    for name, *flags in (("a", "--workers", 1), ("b", "--workers", 4), ("c", "--seed", 1)):
        assert augment("--raw_path", raw, "--output_path", tmp_path / name, *flags) == 0
        paths = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        outputs.append({p.relative_to(tmp_path / name): p.read_bytes() for p in paths})
    assert outputs[0] == outputs[1] != outputs[2]


def test_it_reads_a_cvat_export_with_and_without_object_masks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files: dict[str, bytes | str] = {"labelmap.txt": LABEL_MAP}
    for seed, stem in enumerate(("a", "d/e")):
        files[f"JPEGImages/{stem}.jpg"] = jpeg(seed)
        files[f"SegmentationClass/{stem}.png"] = png(COLORS[ids(seed)])
    files["SegmentationObject/a.png"] = png(COLORS[ids(0)])
    export = write(tmp_path / "export", files)
    for name in ("with", "without"):
        flags = ["--data", f"cvat:{export}", "--effects", "color", "--variants", 1]
        assert augment(*flags, "--output_path", tmp_path / name) == 0
        told = "there are no object masks: the pixels of a class count as one object"
        assert (told in capsys.readouterr().out) == (name == "without")
        for path in (export / "SegmentationObject").glob("*"):
            path.unlink()
    # d/e has classes but no object mask: altered only where classes are taken for objects.
    assert not list(tmp_path.glob("with/RGB/d/e.aug1.jpg"))
    assert list(tmp_path.glob("without/RGB/d/e.aug1.jpg"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--effects", "blurr"], "--effects has 'blurr'"),
        (["--variants", "0"], "--variants is 0"),
        (["--probability", "1.5"], "--probability is 1.5"),
        (["--seed", "-1"], "--seed is -1"),
        (["--max_shift", "1"], "--max_shift is 1.0"),
        (["--max_angle", "0"], "--max_angle is 0.0"),
        (["--min_crop", "0"], "--min_crop is 0.0"),
        (["--max_blur", "0"], "--max_blur is 0.0"),
        (["--max_brightness", "300"], "--max_brightness is 300.0"),
        (["--max_hue", "181"], "--max_hue is 181.0"),
        (["--jpeg_quality", "0"], "--jpeg_quality is 0"),
        (["--workers", "0"], "--workers is 0"),
        (["--data", "e.zip", "--output_path", "x"], "'e.zip' names no kind of set"),
        (["--data", "cvat:x"], "--data is given without --output_path"),
        (["--data", "cvat:x", "--mask_path", "y"], "--data and --mask_path are both given"),
        (["--bg_path", "x", "--effects", "blur"], "--bg_path is given, but --effects has no"),
        (["--raw_path", "nowhere"], "'nowhere/labelmap.txt' does not exist"),
        (["--data", "cvat:nowhere", "--output_path", "x"], "'nowhere' does not exist"),
    ],
)
def test_wrong_flags_are_named(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert augment(*flags) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert "expected:" in captured.err


@pytest.mark.parametrize(
    ("changes", "flags", "message"),
    [
        (
            {"rgb/one.jpg": None, "rgb/two.jpg": None, "rgb/three.jpg": None, "rgb/x.txt": ""},
            [],
            "no images in '.*rgb'",
        ),
        ({"mask/one.png": None}, [], "make_blank_label.py"),
        ({"obj_mask/one.png": None}, [], "'one' has no object mask"),
        ({"obj_mask/four.png": png(COLORS[ids(0)])}, [], "'four' has no image"),
        ({"bg/forest.png": None}, ["--effects", "background"], "there is no folder '.*bg'"),
        ({"bg/forest.png": None, "bg/x": ""}, ["--effects", "background"], "no pictures in '.*bg'"),
        (
            {},
            ["--effects", "background", "--ignore_label", "background"],
            "--background_label",
        ),
        ({"augment/RGB/old.png": b"", "augment/labelmap.txt": ""}, [], "--overwrite"),
    ],
)
def test_sets_that_cannot_be_used_leave_nothing_behind(
    raw_data: Make,
    changes: dict[str, bytes | str | None],
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = raw_data(changes)
    before = sorted(raw.rglob("*"))
    assert augment("--raw_path", raw, *flags) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert sorted(raw.rglob("*")) == before


def test_an_interrupt_ends_it_at_once_and_leaves_nothing(raw_data: Make, tmp_path: Path) -> None:
    raw = raw_data()
    code = (
        "import sys; from segkit.commands import augment_data; from segkit.config import execute\n"
        "sys.exit(execute(augment_data, sys.argv[1:], prog='augment_data.py'))"
    )
    command = [sys.executable, "-c", code, "--raw_path", str(raw), "--variants", "20000"]
    output = tmp_path / "augmented"
    process = subprocess.Popen(
        [*command, "--output_path", str(output)], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob(".augmented.*.partial/RGB/*.aug1.jpg")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == EXIT_INTERRUPTED
    assert error == "augment_data.py: interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_the_script_starts_in_any_folder_and_finds_its_own_raw_data(tmp_path: Path) -> None:
    """Without site-packages' .pth files an editable install is not seen either."""
    import simple_parsing

    packages = str(Path(simple_parsing.__file__).parents[1])
    reply = subprocess.run(
        [sys.executable, "-S", str(REPOSITORY / "data_augmentation" / "augment_data.py"), "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": packages, "COLUMNS": "300"},
        capture_output=True,
        text=True,
    )
    assert reply.returncode == 0, reply.stderr
    assert "usage: augment_data.py" in reply.stdout
    assert str(REPOSITORY / "data_augmentation" / "raw_data") in reply.stdout


def test_camvid_gets_no_id_that_an_image_did_not_have(shared_dir: Path, tmp_path: Path) -> None:
    camvid = shared_dir / "data" / "camvid"
    export, out = tmp_path / "export", tmp_path / "out"
    stems = sorted(path.stem for path in (camvid / "JPEGImages").glob("*.jpg"))[::60]
    files: dict[str, bytes | str] = {"labelmap.txt": (camvid / "labelmap.txt").read_text()}
    for stem in stems:
        files[f"JPEGImages/{stem}.jpg"] = (camvid / f"JPEGImages/{stem}.jpg").read_bytes()
        name = f"SegmentationClass/{stem}.png"
        files[name] = (camvid / name).read_bytes()
    write(export, files)
    assert augment("--data", f"cvat:{export}", "--output_path", out) == 0
    known = {x.stem: set(np.unique(x.load().mask).tolist()) for x in cvat.read(export)}
    masks = sorted((out / "MASK").iterdir())
    assert len(masks) == 5 * len(stems)
    for path in masks:
        found = set(np.unique(np.array(Image.open(path))).tolist())
        assert found <= known[source_of(path.stem)] | {255}, path.name
