from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sets import COLORS, LABEL_MAP, Files, ids, jpeg, png, write

from segkit.data.augmentation_raw import read_raw, write_blanks
from segkit.data.reader import require_complete
from segkit.data.readers.files import FileReader
from segkit.errors import DataError, LabelMapError
from segkit.labels import LabelMap

Make = Callable[..., Path]


@pytest.fixture
def raw_data(tmp_path: Path) -> Make:
    """Writes rgb and mask of the images a and d/e, then `changes`; None removes a file."""

    def make(changes: Mapping[str, bytes | str | None] | None = None) -> Path:
        files: dict[str, bytes | str | None] = {"labelmap.txt": LABEL_MAP}
        for seed, stem in enumerate(("a", "d/e")):
            files[f"rgb/{stem}.jpg"] = jpeg(seed)
            files[f"mask/{stem}.png"] = png(COLORS[ids(seed)])
        files |= changes or {}
        return write(tmp_path, {k: v for k, v in files.items() if v is not None})

    return make


def read(folder: Path, **names: str) -> FileReader:
    return read_raw(folder / "rgb", folder / "mask", folder / "labelmap.txt", **names)


def masks_of(reader: FileReader) -> dict[str, list[int]]:
    return {sample.stem: sample.load().mask.tolist() for sample in reader}


def test_masks_are_read_by_their_full_colour(raw_data: Make) -> None:
    reader = read(raw_data())
    assert reader.labels.names == ("background", "car", "road")
    assert len(reader) == 2
    assert masks_of(reader) == {"a": ids(0).tolist(), "d/e": ids(1).tolist()}
    first = next(iter(reader))
    assert (first.stem, first.split) == ("a", None)
    assert (first.load().image, first.load().suffix) == (jpeg(0), ".jpg")


def test_colours_that_differ_in_one_channel_are_different_classes(raw_data: Make) -> None:
    """Pascal VOC's first four colours: by their blue byte alone they would be one class."""
    labels = LabelMap.from_names(["background", "aeroplane", "bicycle", "bird"])
    mask = np.random.default_rng(0).integers(0, 4, (6, 8), np.uint8)
    colored = png(labels.palette()[mask])
    folder = raw_data({"labelmap.txt": labels.dump(), "mask/a.png": colored})
    assert next(iter(read(folder))).load().mask.tolist() == mask.tolist()


def test_grey_and_palette_masks_hold_label_numbers_unless_the_palette_shows_labels(
    raw_data: Make,
) -> None:
    palette = np.zeros((256, 3), np.uint8)
    palette[[5, 6, 7]] = COLORS
    folder = raw_data({"mask/a.png": png(ids(0)), "mask/d/e.png": png(ids(1) + 5, palette)})
    assert masks_of(read(folder)) == {"a": ids(0).tolist(), "d/e": ids(1).tolist()}


def test_numbers_are_lines_wherever_the_background_stands(raw_data: Make) -> None:
    """CVAT sorts the labels by name; a background that it had to add comes first."""
    grey = png(ids(0))
    last = raw_data(
        {"labelmap.txt": "a:1,1,1::\nb:2,2,2::\nbackground:0,0,0::", "mask/a.png": grey}
    )
    table = np.array([1, 2, 0])
    assert next(iter(read(last))).load().mask.tolist() == table[ids(0)].tolist()
    added = raw_data({"labelmap.txt": "a:1,1,1::\nb:2,2,2::", "mask/a.png": grey})
    assert next(iter(read(added))).load().mask.tolist() == ids(0).tolist()


def test_a_label_can_be_ignored(raw_data: Make) -> None:
    folder = raw_data({"mask/d/e.png": png(ids(1))})
    table = np.array([0, 255, 1])
    expected = {"a": table[ids(0)].tolist(), "d/e": table[ids(1)].tolist()}
    assert masks_of(read(folder, ignore="car")) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask/a.png": None}, "the image .*a.jpg' has no mask"),
        ({"rgb/a.jpg": None}, "the mask .*a.png' has no image"),
        ({"rgb/a.png": jpeg(0)}, "a.jpg' and '.*a.png' differ in the suffix only"),
        ({"rgb/a.jpg": None, "rgb/d/e.jpg": None, "rgb/x.txt": "x"}, "there are no images in"),
    ],
)
def test_files_that_do_not_pair_are_named(
    raw_data: Make, changes: dict[str, bytes | str | None], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        require_complete(read(raw_data(changes)))


def test_a_missing_mask_leads_to_make_blank_label(raw_data: Make) -> None:
    with pytest.raises(DataError) as caught:
        require_complete(read(raw_data({"mask/a.png": None})))
    assert "data_augmentation/make_blank_label.py" in caught.value.next_step


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mask/a.png": png(np.full((6, 8), 9))}, DataError, "48 pixels of value 9"),
        ({"mask/a.png": png(np.full((6, 8, 3), 9))}, DataError, r"48 pixels of .*\(9, 9, 9\)"),
        ({"mask/a.png": png(ids(0, (8, 6)))}, DataError, "a.jpg' is 8x6, its mask .* 6x8"),
        ({"rgb/a.jpg": jpeg(0)[:200]}, DataError, "a.jpg' cannot be decoded"),
        ({"mask/a.png": b""}, DataError, "a.png' cannot be decoded"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    raw_data: Make, changes: Files, error: type[DataError], message: str
) -> None:
    with pytest.raises(error, match=message):
        next(iter(read(raw_data(changes)))).load()


def test_a_missing_folder_and_a_missing_label_map_are_named(raw_data: Make) -> None:
    folder = raw_data()
    with pytest.raises(DataError, match="there is no folder '.*masks'"):
        read_raw(folder / "rgb", folder / "masks", folder / "labelmap.txt")
    with pytest.raises(LabelMapError, match="labels.txt' does not exist"):
        read_raw(folder / "rgb", folder / "mask", folder / "labels.txt")


def blanks(folder: Path) -> tuple[tuple[str, ...], ...]:
    return write_blanks(folder / "rgb", folder / "mask", folder / "obj_mask", color=(7, 8, 9))


def test_blank_masks_have_the_size_of_their_image(raw_data: Make) -> None:
    folder = raw_data({"rgb/d/f.png": png(np.zeros((3, 5, 3)))})
    assert blanks(folder) == (("d/f",), ("a", "d/e"), ())
    mask = np.array(Image.open(folder / "mask/d/f.png"))
    assert mask.shape == (3, 5, 3)
    assert (mask == (7, 8, 9)).all()
    assert not np.array(Image.open(folder / "obj_mask/d/f.png")).any()


def test_a_mask_that_exists_is_never_overwritten(raw_data: Make) -> None:
    """An image with a mask but without an object mask is labelled: it is not blank."""
    only_objects = {"mask/d/e.png": None, "obj_mask/d/e.png": png(COLORS[ids(1)])}
    folder = raw_data({"rgb/f.jpg": jpeg(2)} | only_objects)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert blanks(folder) == (("f",), ("a",), ("d/e",))
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert {p: after[p] for p in before} == before
    assert {p.relative_to(folder).as_posix() for p in after.keys() - before.keys()} == {
        "mask/f.png",
        "obj_mask/f.png",
    }
    assert blanks(folder).written == ()


def test_a_damaged_image_leaves_no_blank_masks(raw_data: Make) -> None:
    folder = raw_data({"rgb/f.jpg": jpeg(2), "rgb/g.jpg": b"nothing"})
    with pytest.raises(DataError, match="g.jpg' cannot be decoded"):
        blanks(folder)
    assert not (folder / "mask/f.png").exists()


def test_no_images_are_no_success(raw_data: Make) -> None:
    folder = raw_data({"rgb/a.jpg": None, "rgb/d/e.jpg": None, "rgb/notes.txt": "x"})
    with pytest.raises(DataError, match="there are no images in '.*rgb'"):
        blanks(folder)
