"""Broken sets, each made here, each caught with the file named."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sets import COLORS, LABEL_MAP, ids, jpeg, png, write

from segkit.__main__ import main
from segkit.commands import check_data
from segkit.labels import voc_color

Files = Mapping[str, bytes | str | None]


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


VOC_PALETTE = np.array([voc_color(i) for i in range(256)], np.uint8)
SIXTEEN_BITS = encoded(Image.fromarray(ids(2).astype(np.uint16)), "PNG")
OTHER_COLORS = np.array([(9, 8, 7), (64, 0, 128)], np.uint8)[ids() % 2]
SAME_AS_A = {"images/train/x.jpg": jpeg(0), "masks/train/x.png": png(ids(7))}


@pytest.fixture
def checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Writes a folder set of train and val, then `changes` (None removes), and checks it."""
    monkeypatch.chdir(tmp_path)

    def run(changes: Files, *flags: str, kind: str = "folder") -> tuple[int, str]:
        files: dict[str, bytes | str | None] = {"labelmap.txt": LABEL_MAP}
        for seed, name in enumerate(("train/a", "train/b", "val/c")):
            split, stem = name.split("/")
            files[f"images/{split}/{stem}.jpg"] = jpeg(seed)
            files[f"masks/{split}/{stem}.png"] = png(ids(seed))
        files |= changes
        kept = {name: content for name, content in files.items() if content is not None}
        status = main(["check-data", f"{kind}:{write(tmp_path / 'set', kept)}", *flags])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


Checked = Callable[..., tuple[int, str]]


def test_a_set_without_fault_passes_and_says_how_often_each_class_occurs(checked: Checked) -> None:
    status, text = checked({})
    assert status == 0
    assert "images: train 2  val 1" in text
    share = 100 * np.mean([(ids(seed) == 1).mean() for seed in range(2)])
    assert f"   1  car       {share:>11.3g}{100:>9}" in text
    assert "sizes, height x width: 6x8 (3)" in text
    assert "no errors, no warnings" in text


@pytest.mark.parametrize(
    ("changes", "file", "words"),
    [
        ({"masks/train/b.png": None}, "images/train/b.jpg", "image without a mask (1)"),
        ({"images/train/b.jpg": None}, "masks/train/b.png", "mask without an image (1)"),
        ({"masks/train/b.png": png(np.zeros((8, 6)))}, "masks/train/b.png", "of two sizes (1)"),
        ({"images/val/c.jpg": b"no image"}, "images/val/c.jpg", "image that cannot be read (1)"),
        ({"images/val/c.jpg": jpeg(2)[:250]}, "images/val/c.jpg", "image that cannot be read (1)"),
        ({"masks/val/c.png": png(ids(2))[:60]}, "masks/val/c.png", "mask that cannot be read (1)"),
        ({"masks/val/c.png": jpeg(2)}, "masks/val/c.png", "mask that cannot be read (1)"),
        ({"masks/val/c.png": SIXTEEN_BITS}, "masks/val/c.png", "mask that cannot be read (1)"),
        (
            {"masks/train/a.png": png(ids(0) + 2)},
            "masks/train/a.png",
            "class id that the label map",
        ),
        (
            {"masks/train/a.png": png(OTHER_COLORS)},
            "masks/train/a.png",
            "colour that the label map",
        ),
        (
            {"labelmap.txt": None, "masks/train/a.png": png(VOC_PALETTE[ids(0)])},
            "masks/train/a.png",
            "a palette's colours instead of its indices (1)",
        ),
        ({"images/val/x.jpg": jpeg(0), "masks/val/x.png": png(ids(5))}, "x", "in two splits (1)"),
        ({"images/train/a.png": png(ids(0))}, "images/train/a.png", "two files of one name (1)"),
        (
            {"images/val/a.aug1.jpg": jpeg(9), "masks/val/a.aug1.png": png(ids(9))},
            "a.aug1",
            "image in two splits (1)",
        ),
        (
            {
                "masks/train/a.png": png(np.minimum(ids(0), 1)),
                "masks/train/b.png": png(np.minimum(ids(1), 1)),
            },
            "'road'",
            "class of val that train does not have (1)",
        ),
    ],
)
def test_a_fault_is_an_error_that_names_the_file_and_the_remedy(
    checked: Checked, changes: Files, file: str, words: str
) -> None:
    status, text = checked(changes)
    assert status == 1
    error = text.split("\nerror: ")[1]
    assert words in error.splitlines()[0]
    assert file in error
    assert "next: " in error
    assert "the set has 1 error, no warnings, see above" in text.splitlines()[-2]
    assert "mend them" in text.splitlines()[-1]


def test_a_set_that_teaches_one_class_alone_is_an_error(checked: Checked) -> None:
    blank = {f"masks/train/{name}.png": png(np.zeros((6, 8))) for name in "ab"}
    status, text = checked(blank)
    assert status == 1
    assert "images of one class alone: background (2)" in text
    assert "error: masks of a single class (1)" in text
    assert "the masks of train hold nothing but the class 'background'" in text
    assert "the set has 1 error, no warnings" in text


def test_of_a_set_in_which_nothing_can_be_read_the_classes_are_no_matter(checked: Checked) -> None:
    status, text = checked({f"images/{name}.jpg": b"" for name in ("train/a", "train/b", "val/c")})
    assert status == 1
    assert "the set has 3 errors, no warnings" in text


def test_masks_of_0_and_255_are_an_error(checked: Checked) -> None:
    names = ("train/a", "train/b", "val/c")
    binary = {f"masks/{name}.png": png((ids(seed) > 0) * 255) for seed, name in enumerate(names)}
    status, text = checked(binary)
    assert status == 1
    assert "error: mask of nothing but 0 and 255 (3)" in text
    assert "masks/val/c.png" in text and "write 1 instead of 255" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"images/train/x.jpg": jpeg(0), "masks/train/x.png": png(ids(7))},
            "one picture twice (1)",
        ),
        ({"labelmap.txt": LABEL_MAP + "bus:1,2,3::\n"}, "class that no mask has (1)"),
        ({"masks/val/c.png": png(np.full((6, 8), 255))}, "every pixel is ignored (1)"),
        ({"images/val/c.jpg": None, "masks/val/c.png": None}, "split without images (1)"),
    ],
)
def test_what_only_deserves_a_look_is_a_warning(
    checked: Checked, changes: Files, words: str
) -> None:
    status, text = checked(changes)
    assert status == 0
    assert words in text.split("\nwarning: ")[1].splitlines()[0]
    assert "no errors, 1 warning (" in text


def test_a_picture_is_known_in_another_format(checked: Checked) -> None:
    image = encoded(Image.open(io.BytesIO(jpeg(0))), "PNG")
    status, text = checked({"images/val/x.png": image, "masks/val/x.png": png(ids(5))})
    assert status == 1
    assert "'a' in train and 'x' in val are the same picture" in text


def test_of_many_files_the_first_ten_are_named(checked: Checked) -> None:
    changes = {f"images/train/x{number:02}.jpg": jpeg(number) for number in range(13)}
    _, text = checked(changes)
    assert "image without a mask (13)" in text
    assert "x09.jpg" in text and "x10.jpg" not in text
    assert "and 3 more" in text


def test_a_listed_name_without_an_image_is_an_error_of_cvat(
    checked: Checked, tmp_path: Path
) -> None:
    files = {"labelmap.txt": LABEL_MAP, "JPEGImages/a.jpg": jpeg(), "set/x": ""}
    files |= {"SegmentationClass/a.png": png(COLORS[ids()])}
    files |= {"ImageSets/Segmentation/default.txt": "a\ngone\n"}
    status, text = checked(files, kind="cvat")
    assert status == 1
    assert "error: listed name without an image (1)" in text and "'gone'" in text


def test_several_kinds_of_fault_are_found_in_one_pass(checked: Checked) -> None:
    status, text = checked({"masks/train/a.png": png(ids(0) + 9), "masks/val/c.png": None})
    assert status == 1
    assert text.count("\nerror: ") == 2
    assert "the set has 2 errors" in text


def test_the_report_is_written_as_json(checked: Checked, tmp_path: Path) -> None:
    assert checked({"masks/train/b.png": None}, "--json", "report.json")[0] == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images"] == {"train": 1, "val": 1}
    assert report["errors"][0]["file"] == "images/train/b.jpg"
    assert sum(report["pixels"]["train"].values()) == 48


def test_the_sheet_shows_samples_and_is_drawn_for_a_broken_set_too(
    checked: Checked, tmp_path: Path
) -> None:
    status, text = checked({"images/val/c.jpg": b"no image"}, "--sheet", "sheets/look.png")
    assert status == 1
    assert "samples drawn in sheets/look.png: 2" in text
    with Image.open(tmp_path / "sheets" / "look.png") as sheet:
        colors = {color for _, color in sheet.convert("RGB").getcolors(1 << 24)}
    assert (128, 64, 128) in colors  # road, in the legend
    assert len(colors) > 50


@pytest.mark.parametrize("flag", ["sheet", "json"])
def test_what_an_earlier_check_wrote_is_replaced_and_nothing_else(
    checked: Checked, tmp_path: Path, flag: str
) -> None:
    assert checked({}, f"--{flag}", "out")[0] == 0
    first = (tmp_path / "out").read_bytes()
    assert checked({"images/val/c.jpg": b"no image"}, f"--{flag}", "out")[0] == 1
    assert (tmp_path / "out").read_bytes() != first

    (tmp_path / "notes").write_text("mine")
    status, text = checked({}, f"--{flag}", "notes")
    assert status == 1
    assert f"not the {flag} of an earlier check" in text and f"another --{flag}" in text
    assert (tmp_path / "notes").read_text() == "mine"


def test_no_sheet_is_drawn_where_none_is_wanted(checked: Checked, tmp_path: Path) -> None:
    assert checked({}, "--samples", "0")[0] == 0
    assert not list(tmp_path.glob("*.png"))
    (tmp_path / "data_check.png").write_text("mine")
    assert checked({}, "--samples", "0")[0] == 0


def test_another_seed_shows_other_samples(checked: Checked, tmp_path: Path) -> None:
    def sheet(seed: int) -> bytes:
        assert checked({}, "--samples", "1", "--seed", str(seed))[0] == 0
        return (tmp_path / "data_check.png").read_bytes()

    assert sheet(0) == sheet(0)
    assert len({sheet(seed) for seed in range(6)}) > 1


@pytest.mark.parametrize(
    ("flags", "terminal", "lines"),
    [((), False, 3), (("--progress", "plain"), True, 3), (("--progress", "none"), False, 0)],
)
def test_how_far_it_is_is_said_in_lines_off_a_terminal(
    checked: Checked,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    terminal: bool,
    lines: int,
) -> None:
    monkeypatch.setattr(check_data, "PLAIN_SECONDS", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    _, text = checked({}, *flags)
    assert text.count("\nimage ") == lines
    assert ("image 2 of 3 (67%)" in text) == bool(lines)


def test_on_a_terminal_a_bar_shows_and_no_lines(
    checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_data, "PLAIN_SECONDS", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    status, text = checked({})
    assert status == 0
    assert "image 2 of 3" not in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--samples", "-1"], "--samples is -1"),
        (["--workers", "0"], "--workers is 0"),
        (["--ignore_label", "bus"], "'bus' is not a class"),
        (["--json", "/proc/nowhere/x.json"], "'/proc/nowhere/x.json' cannot be written"),
        (["--json", "."], "'.' cannot be written"),
    ],
)
def test_wrong_flags_are_named(checked: Checked, flags: list[str], words: str) -> None:
    status, text = checked({}, *flags)
    assert status == 1
    assert words in text and "expected:" in text


def test_camvid_has_the_class_shares_that_were_measured(
    shared_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    flags = ["--json", str(report), "--samples", "0"]
    assert main(["check-data", f"cvat:{shared_dir / 'data' / 'camvid'}", *flags]) == 0
    assert "no errors, no warnings" in capsys.readouterr().out
    pixels = json.loads(report.read_text())["pixels"]["train"]
    total = sum(pixels.values())
    measured = {"sky": 16.8, "building": 23.3, "pole": 0.98, "road": 31.7, "pavement": 4.5}
    measured |= {"tree": 9.7, "sign_symbol": 1.17, "fence": 1.13, "car": 5.9, "pedestrian": 0.64}
    measured |= {"bicyclist": 0.29, "background": 3.9}
    found = {name: 100 * pixels[name] / total for name in measured}
    assert found == pytest.approx(measured, rel=0.02)
