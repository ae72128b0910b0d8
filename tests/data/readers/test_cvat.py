from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_sets import COLORS, LABEL_MAP, ids, jpeg, png

from segkit.data.reader import Kind, SampleError, require_complete
from segkit.data.readers import cvat
from segkit.data.readers.files import FileReader
from segkit.errors import DataError
from segkit.labels import IGNORE_ID

Export = Callable[..., Path]
LISTS = "ImageSets/Segmentation/"


def mask_of(reader: FileReader, stem: str) -> np.ndarray:
    return next(sample for sample in reader if sample.stem == stem).load().mask


def test_masks_of_colours_become_class_ids_and_images_keep_their_bytes(cvat_export: Export) -> None:
    reader = cvat.read(cvat_export())
    samples = {sample.stem: sample.load() for sample in reader}
    assert list(samples) == ["a", "b", "c", "d/e"]
    assert len(reader) == 4
    for seed, stem in enumerate(samples):
        assert samples[stem].image == jpeg(seed)
        assert samples[stem].suffix == ".jpg"
        expected = np.zeros((6, 8)) if stem == "c" else ids(seed)
        assert np.array_equal(samples[stem].mask, expected)
        assert samples[stem].mask.dtype == np.uint8


def test_a_zip_reads_like_its_folder(cvat_export: Export, tmp_path: Path) -> None:
    folder = cvat_export()
    archive = shutil.make_archive(str(tmp_path / "task"), "zip", folder)
    from_zip = [(x.stem, *x.load()) for x in cvat.read(Path(archive))]
    from_folder = [(x.stem, *x.load()) for x in cvat.read(folder)]
    for left, right in zip(from_zip, from_folder, strict=True):
        assert left[:3] == right[:3]
        assert np.array_equal(left[3], right[3])


def test_a_listed_frame_without_a_mask_is_background(cvat_export: Export) -> None:
    reader = cvat.read(cvat_export())
    assert reader.blank == ("c",)
    assert not mask_of(reader, "c").any()


def test_a_blank_frame_is_ignored_where_the_background_is(cvat_export: Export) -> None:
    reader = cvat.read(cvat_export(), ignore="background")
    assert reader.labels.names == ("car", "road")
    assert (mask_of(reader, "c") == IGNORE_ID).all()
    assert np.array_equal(mask_of(reader, "a"), ids(0) - 1)  # 0 - 1 wraps to 255


def test_a_grey_mask_holds_lines_of_the_label_map_whatever_their_order(cvat_export: Export) -> None:
    text = "car:64,0,128::\nroad:128,64,128::\nvoid:9,9,9::\nbackground:0,0,0::\n"
    lines = np.array([[0, 1, 2, 3, 255, 0, 0, 0]] * 6)
    reader = cvat.read(
        cvat_export({"labelmap.txt": text, "SegmentationClass/a.png": png(lines)}), ignore="void"
    )
    assert reader.labels.names == ("background", "car", "road")
    assert mask_of(reader, "a")[0].tolist() == [1, 2, 255, 0, 255, 1, 1, 1]


def test_line_numbers_start_after_a_background_that_cvat_had_to_add(cvat_export: Export) -> None:
    text = "car:64,0,128::\nroad:128,64,128::\n"
    lines = np.array([[0, 1, 2, 0, 0, 0, 0, 0]] * 6)
    reader = cvat.read(cvat_export({"labelmap.txt": text, "SegmentationClass/a.png": png(lines)}))
    assert mask_of(reader, "a")[0, :3].tolist() == [0, 1, 2]


def test_a_palette_mask_is_read_by_its_label_colours(cvat_export: Export) -> None:
    # What an optimiser makes of an RGB mask: the colours stay, the indices mean nothing.
    shuffled = png(2 - ids(0), palette=COLORS[::-1])
    reader = cvat.read(cvat_export({"SegmentationClass/a.png": shuffled}))
    assert np.array_equal(mask_of(reader, "a"), ids(0))


def test_a_palette_mask_of_other_colours_is_read_by_its_indices(cvat_export: Export) -> None:
    strange = png(ids(0), palette=np.array([(9, 9, 9), (8, 8, 8), (7, 7, 7)], np.uint8))
    reader = cvat.read(cvat_export({"SegmentationClass/a.png": strange}))
    assert np.array_equal(mask_of(reader, "a"), ids(0))


def test_lists_named_train_and_validation_are_the_split(cvat_export: Export) -> None:
    lists = {
        LISTS + "default.txt": None,
        LISTS + "Train.txt": 'a\n"d/e"\n',
        LISTS + "Validation.txt": "\ufeffb.jpg\r\nc\r\n",
    }
    splits = {sample.stem: sample.split for sample in cvat.read(cvat_export(lists))}
    assert splits == {"a": "train", "d/e": "train", "b": "val", "c": "val"}


def test_one_list_says_nothing_of_the_split(cvat_export: Export) -> None:
    assert {sample.split for sample in cvat.read(cvat_export())} == {None}


def test_an_image_in_two_splits_is_refused(cvat_export: Export) -> None:
    lists = {LISTS + "train.txt": "a\nb\n", LISTS + "val.txt": "b\nc\n"}
    (finding,) = cvat.read(cvat_export(lists)).findings
    assert finding.kind is Kind.LEAK and "'b' is in train and 'b' in val" in finding.problem


def test_a_stem_may_hold_dots(cvat_export: Export) -> None:
    export = cvat_export(
        {
            "JPEGImages/run.0001.JPEG": jpeg(1),
            "SegmentationClass/run.0001.png": png(COLORS[ids(1)]),
        }
    )
    assert np.array_equal(mask_of(cvat.read(export), "run.0001"), ids(1))


def test_a_png_called_jpg_is_named_by_its_content(cvat_export: Export) -> None:
    image = png(np.zeros((6, 8, 3)))
    reader = cvat.read(cvat_export({"JPEGImages/a.jpg": image}))
    assert next(iter(reader)).load().suffix == ".png"


def test_an_undeclared_colour_names_file_colour_and_count(cvat_export: Export) -> None:
    colors = COLORS[ids(0)]
    colors[5, 2:4] = (1, 200, 3)
    reader = cvat.read(cvat_export({"SegmentationClass/a.png": png(colors)}))
    with pytest.raises(SampleError, match=r"Class/a.png' has 2 pixels.*\(1, 200, 3\)"):
        mask_of(reader, "a")


def test_a_line_number_beyond_the_label_map_names_file_value_and_count(cvat_export: Export) -> None:
    lines = np.zeros((6, 8))
    lines[2, :5] = 7
    reader = cvat.read(cvat_export({"SegmentationClass/a.png": png(lines)}))
    with pytest.raises(SampleError, match=r"a.png' has 5 pixels of value 7[^$]*0\.\.2"):
        mask_of(reader, "a")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labelmap.txt": None}, "has no labelmap.txt"),
        ({"labelmap.txt": b"\xff\xfe\x00"}, "not UTF-8"),
        (
            {"labelmap.txt": None, "x/labelmap.txt": LABEL_MAP},
            "give the folder of 'x/labelmap.txt'",
        ),
        ({"JPEGImages/a.jpg": None}, "the mask 'SegmentationClass/a.png' has no image"),
        ({"JPEGImages/c.jpg": None}, "the list names 'c', of which"),
        (
            {"JPEGImages/f.jpg": jpeg(9)},
            "'JPEGImages/f.jpg' has neither a mask nor a line",
        ),
        ({"JPEGImages/a.png": png(np.zeros((6, 8, 3)))}, "have the same name but for the suffix"),
        (
            {f"JPEGImages/{x}.jpg": None for x in ("a", "b", "c", "d/e")},
            "export again with 'Save images' ticked",
        ),
        (
            {f"SegmentationClass/{x}.png": None for x in ("a", "b", "d/e")},
            "polylines and points leave no mask",
        ),
    ],
)
def test_an_export_that_does_not_fit_together_says_how(
    cvat_export: Export, changes: dict[str, bytes | str | None], words: str
) -> None:
    with pytest.raises(DataError) as caught:
        require_complete(cvat.read(cvat_export(changes)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"SegmentationClass/a.png": png(COLORS[ids(0, (8, 6))])},
            "'JPEGImages/a.jpg' is 8x6, its mask 'SegmentationClass/a.png' 6x8",
        ),
        ({"JPEGImages/a.jpg": jpeg()[:200]}, "'JPEGImages/a.jpg' cannot be decoded"),
        ({"SegmentationClass/a.png": b"no png"}, "'SegmentationClass/a.png' cannot be decoded"),
        ({"SegmentationClass/a.png": jpeg()}, "JPEG changes colours"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    cvat_export: Export, changes: dict[str, bytes | str | None], words: str
) -> None:
    with pytest.raises(DataError) as caught:
        mask_of(cvat.read(cvat_export(changes)), "a")
    assert words in str(caught.value)


def test_an_image_turned_by_exif_is_explained(cvat_export: Export) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    image = jpeg(0, (8, 6), exif=exif)
    with pytest.raises(DataError, match="EXIF"):
        mask_of(cvat.read(cvat_export({"JPEGImages/a.jpg": image})), "a")


def test_a_missing_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere' does not exist"):
        cvat.read(tmp_path / "nowhere")


def test_camvid_has_468_images_in_12_classes_split_367_to_101(shared_dir: Path) -> None:
    reader = cvat.read(shared_dir / "data" / "camvid")
    splits = [sample.split for sample in reader]
    assert (splits.count("train"), splits.count("val"), len(reader)) == (367, 101, 468)
    assert reader.labels.num_classes == 12
