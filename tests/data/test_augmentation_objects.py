from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_sets import png, write

from segkit.data.augmentation_objects import (
    ObjectMasks,
    background_id,
    number_objects,
    objects_by_class,
)
from segkit.data.images import MaskFile
from segkit.data.tree import open_tree
from segkit.errors import DataError
from segkit.labels import LabelMap

# Two colours of one grey value (0.299 r + 0.587 g + 0.114 b), and two that differ in red alone.
SAME_GREY = [(0, 0, 0), (187, 0, 0), (0, 95, 0), (188, 0, 0)]


def test_colours_of_one_grey_value_are_different_objects() -> None:
    mask = np.array([SAME_GREY], np.uint8)
    assert sorted(number_objects(MaskFile(mask, None))[0].tolist()) == [0, 1, 2, 3]
    assert number_objects(MaskFile(mask, None))[0, 0] == 0, "black is none"


def test_in_indices_0_and_255_and_black_are_no_objects() -> None:
    indices = np.array([[0, 255, 9, 4, 9]], np.uint8)
    assert number_objects(MaskFile(indices, None)).tolist() == [[0, 0, 2, 1, 2]]
    palette = np.full((256, 3), 50, np.uint8)
    palette[4] = 0
    assert number_objects(MaskFile(indices, palette)).tolist() == [[0, 0, 1, 0, 1]]


def test_more_objects_than_256_are_told_apart() -> None:
    colors = np.arange(1, 301, dtype=np.uint32)
    mask = np.stack([colors >> 8, colors & 255, colors * 0], -1).astype(np.uint8)[None]
    assert number_objects(MaskFile(mask, None)).max() == 300


def test_an_image_without_an_object_mask_has_no_objects(tmp_path: Path) -> None:
    colors = np.array([SAME_GREY], np.uint8)
    files = {"SegmentationObject/d/e.png": png(colors), "SegmentationClass/x.png": png(colors)}
    masks = ObjectMasks(open_tree(write(tmp_path, files)))
    assert masks.stems == {"d/e"}
    assert masks("d/e", np.zeros((1, 4), np.uint8)).max() == 3
    assert not masks("x", np.zeros((1, 4), np.uint8)).any()


def test_an_object_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    tree = open_tree(write(tmp_path, {"a.png": png(np.zeros((2, 3), np.uint8))}))
    with pytest.raises(DataError, match="'a.png' of '.*' is 3x2, its image 5x4"):
        ObjectMasks(tree, "")("a", np.zeros((4, 5), np.uint8))


@pytest.mark.parametrize(
    ("stems", "problem"), [({"a", "b"}, "'b' has no object mask"), ({"c"}, "'a' has no image")]
)
def test_object_masks_that_do_not_pair_are_named(
    tmp_path: Path, stems: set[str], problem: str
) -> None:
    tree = open_tree(write(tmp_path, {"a.png": png(np.zeros((2, 3), np.uint8))}))
    with pytest.raises(DataError, match=problem) as caught:
        ObjectMasks(tree, "").check_pairs(frozenset(stems))
    assert "make_blank_label.py" in str(caught.value)


def test_without_object_masks_a_class_is_an_object() -> None:
    mask = np.array([[0, 1, 5, 255, 254]], np.uint8)
    assert objects_by_class("a", mask, background=0).tolist() == [[0, 2, 6, 0, 255]]
    assert objects_by_class("a", mask, background=None).tolist() == [[1, 2, 6, 0, 255]]


@pytest.mark.parametrize(
    ("lines", "name", "expected"),
    [
        ("road:1,1,1::\nBackground:9,9,9::\nother:0,0,0::", None, 1),
        ("road:1,1,1::\nother:0,0,0::", None, 1),
        ("road:1,1,1::\nbackground:0,0,0::", "road", 0),
        ("road:1,1,1::\ncar:2,2,2::", None, None),
    ],
    ids=["by name", "the black one", "as the user says", "none"],
)
def test_the_background_is_found(lines: str, name: str | None, expected: int | None) -> None:
    assert background_id(LabelMap.load(lines), name) == expected
