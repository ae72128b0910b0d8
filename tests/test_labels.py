from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segkit.errors import LabelMapError
from segkit.labels import IGNORE_ID, Label, LabelMap, voc_color

BLACK = (0, 0, 0)
HEADER = "# label:color_rgb:parts:actions\n"


def test_background_is_class_0_wherever_it_stands_and_the_others_keep_file_order() -> None:
    labels = LabelMap.parse(HEADER + "car:1,2,3::\nbackground:0,0,0::\nbus:4,5,6::\n")
    assert labels.names == ("background", "car", "bus")


def test_the_name_background_in_any_case_wins_over_the_black_label() -> None:
    labels = LabelMap.parse("void:0,0,0::\nBackground:9,9,9::\n")
    assert labels.names == ("Background", "void")


def test_the_black_label_is_the_background_where_none_has_the_name() -> None:
    assert LabelMap.parse("car:1,2,3::\nother:0,0,0::\n").names == ("other", "car")


def test_a_missing_background_is_added_in_black() -> None:
    labels = LabelMap.parse("car:1,2,3::\n")
    assert labels.labels == (Label("background", BLACK), Label("car", (1, 2, 3)))


def test_a_named_background_wins_over_everything_and_is_matched_exactly() -> None:
    text = "road:1,1,1::\nRoad:2,2,2::\nbackground:0,0,0::\n"
    assert LabelMap.parse(text, background="Road").names == ("Road", "road", "background")


def test_pixels_of_the_ignore_label_become_255_and_it_is_no_class() -> None:
    labels = LabelMap.parse("car:1,2,3::\nvoid:7,7,7::\n", ignore="void")
    assert labels.names == ("background", "car")
    colors = np.array([[[7, 7, 7], [1, 2, 3], [0, 0, 0]]], np.uint8)
    assert labels.ids_from_colors(colors, source="a.png").tolist() == [[IGNORE_ID, 1, 0]]
    assert labels.palette()[IGNORE_ID].tolist() == [7, 7, 7]


@pytest.mark.parametrize("text", ["background:0,0,0::\ncar:1,2,3::", "car:1,2,3::\nvoid:0,0,0::"])
def test_where_the_background_is_ignored_there_is_no_background_class(text: str) -> None:
    ignore = "void" if "void" in text else "background"
    labels = LabelMap.parse(text, ignore=ignore)
    assert labels.names == ("car",)
    assert labels.ids_from_colors(np.zeros((1, 1, 3), np.uint8), source="x").item() == IGNORE_ID


def test_ignoring_the_label_named_as_background_is_refused() -> None:
    with pytest.raises(LabelMapError, match=r"'car'.*to be ignored and to be the background"):
        LabelMap.parse("car:1,2,3::", ignore="car", background="car")


def test_blank_lines_comments_a_byte_order_mark_and_windows_line_ends_are_skipped() -> None:
    text = "\ufeff# a\r\n\r\nbackground:0,0,0::\r\n  # b\r\ncar:1,2,3:wheel,door:drive\r\n"
    assert LabelMap.parse(text).labels[1] == Label("car", (1, 2, 3))


def test_empty_colours_get_free_colours_of_pascal_voc_and_only_the_background_black() -> None:
    labels = LabelMap.parse("car:::\nbus:128,0,0::\nbackground:::\n")
    assert labels.labels == (
        Label("background", BLACK),
        Label("car", voc_color(2)),
        Label("bus", voc_color(1)),
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("car", "line 2 is 'car'"),
        ("a:b:1,2,3::", "four fields"),
        (":1,2,3::", "four fields"),
        ("car:1,2::", "colour '1,2'"),
        ("car:1,2,256::", "three numbers 0..255"),
        ("car:red::", "three numbers 0..255"),
    ],
)
def test_a_malformed_line_is_shown_with_its_number(line: str, words: str) -> None:
    with pytest.raises(LabelMapError) as caught:
        LabelMap.parse(f"background:0,0,0::\n{line}\n", source="x/labelmap.txt")
    assert words in str(caught.value)
    assert "x/labelmap.txt" in str(caught.value)


def test_a_name_or_a_colour_given_twice_is_refused() -> None:
    with pytest.raises(LabelMapError, match="defines the label 'car' twice"):
        LabelMap.parse("car:1,2,3::\ncar:4,5,6::\n")
    with pytest.raises(LabelMapError, match=r"colour .\(1, 2, 3\). to 2 labels"):
        LabelMap.parse("car:1,2,3::\nbus:1,2,3::\n")


def test_a_map_without_labels_or_with_more_than_255_is_refused() -> None:
    with pytest.raises(LabelMapError, match="defines no label"):
        LabelMap.parse(HEADER)
    with pytest.raises(LabelMapError, match="256 classes"):
        LabelMap.from_names(f"class_{i}" for i in range(256))


@pytest.mark.parametrize("flag", ["ignore", "background"])
def test_a_label_that_does_not_exist_is_answered_with_those_that_do(flag: str) -> None:
    with pytest.raises(LabelMapError, match=f"{flag} label 'bus'[^$]*one of background, car"):
        LabelMap.parse("background:0,0,0::\ncar:1,2,3::", **{flag: "bus"})


def test_a_missing_file_says_which_export_has_one(tmp_path: Path) -> None:
    with pytest.raises(LabelMapError, match=r"does not exist[^$]*Segmentation mask 1.1"):
        LabelMap.read(tmp_path / "labelmap.txt")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labelmap.txt"
    path.write_bytes(b"\xff\xfe\x00c")
    with pytest.raises(LabelMapError, match="not UTF-8"):
        LabelMap.read(path)


def test_dump_and_load_keep_class_ids_even_where_the_background_is_not_first() -> None:
    labels = LabelMap((Label("road", (1, 1, 1)), Label("background", BLACK)))
    assert LabelMap.load(labels.dump()) == labels


def test_colours_are_told_apart_by_all_three_channels() -> None:
    # Red, green, blue and magenta of equal strength: one channel alone confuses them.
    colors = [(128, 0, 0), (0, 128, 0), (0, 0, 128), (128, 0, 128)]
    labels = LabelMap(tuple(Label(f"c{i}", color) for i, color in enumerate(colors)))
    ids = labels.ids_from_colors(np.array([colors[::-1]], np.uint8), source="x")
    assert ids.tolist() == [[3, 2, 1, 0]]
    assert ids.dtype == np.uint8


def test_palette_and_ids_from_colors_are_inverse() -> None:
    labels = LabelMap.from_names(f"class_{i}" for i in range(255))
    ids = np.arange(255, dtype=np.uint8).reshape(5, 51)
    assert np.array_equal(labels.ids_from_colors(labels.palette()[ids], source="x"), ids)


def test_an_undeclared_colour_is_named_with_file_and_count() -> None:
    labels = LabelMap.parse("background:0,0,0::\ncar:1,2,3::")
    colors = np.zeros((4, 5, 3), np.uint8)
    colors[0, :3] = (250, 3, 7)
    colors[3, 3] = (255, 255, 255)
    with pytest.raises(LabelMapError) as caught:
        labels.ids_from_colors(colors, source="SegmentationClass/a.png")
    message = str(caught.value)
    assert "'SegmentationClass/a.png' has 3 pixels of the colour (250, 3, 7)" in message
    assert "2 undeclared colours" in message
    assert "car=(1, 2, 3)" in message


def test_voc_colours_are_those_of_the_devkit() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {id_: voc_color(id_) for id_ in known} == known
    assert voc_color(255) == (224, 224, 192)
