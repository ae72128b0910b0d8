from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segkit.data.readers import open_reader
from segkit.errors import ConfigError
from segkit.labels import LabelMap
from segkit.training.class_weights import (
    ClassCounts,
    count_classes,
    enet_weights,
    median_frequency_weights,
    read_weights,
)

LABELS = LabelMap.from_names(["road", "car", "sky"])


def test_classes_are_counted_without_what_is_ignored() -> None:
    masks = [np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 0, 0, 0]], np.uint8)]
    counts = count_classes(masks, 3)
    assert counts.pixels.tolist() == [6, 1, 0]
    assert counts.pixels_where_present.tolist() == [7, 3, 0]


def test_median_frequency_and_enet_follow_their_formulas() -> None:
    counts = ClassCounts(np.array([600, 50, 0]), np.array([1000, 500, 0]))
    # Frequencies 0.6 and 0.1, their median 0.35; the class that is nowhere weighs nothing.
    assert median_frequency_weights(counts).tolist() == pytest.approx([0.35 / 0.6, 3.5, 0])
    expected = [1 / np.log(1.02 + 600 / 650), 1 / np.log(1.02 + 50 / 650), 0]
    assert enet_weights(counts).tolist() == pytest.approx(expected)


def test_camvid_has_the_published_weights(shared_dir: Path) -> None:
    """Measured on the train split, void left out of the images' pixels but not of ENet's share."""
    reader = open_reader(f"cvat:{shared_dir / 'data' / 'camvid'}", ignore="background")
    masks = (sample.load().mask for sample in reader if sample.split == "train")
    counts = count_classes(masks, reader.labels.num_classes)
    published = {"sky": 0.279, "building": 0.202, "pole": 4.79, "road": 0.149, "pavement": 1.00}
    published |= {"tree": 0.422, "sign_symbol": 3.85, "fence": 1.97, "car": 0.789}
    published |= {"pedestrian": 6.37, "bicyclist": 8.86}
    found = dict(zip(reader.labels.names, median_frequency_weights(counts), strict=True))
    assert found == pytest.approx(published, rel=0.02)


def test_a_file_gives_every_class_its_weight(tmp_path: Path) -> None:
    path = tmp_path / "weights.yaml"
    path.write_text("sky: 0\nroad: 1\ncar: 2.5\n")
    assert read_weights(path, LABELS).tolist() == [1, 2.5, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read: No such file[^$]*median, enet"),
        ("road: [", "cannot be read"),
        ("road: 1\nsky: 1\n", "lack 'car'"),
        ("road: 1\nsky: 1\ncar: 1\nbus: 1\n", "have 'bus', which is no class"),
        ("road: 1\nsky: 1\ncar: -1\n", "give 'car' -1"),
        ("road: 1\nsky: 1\ncar: much\n", "give 'car' 'much'"),
        ("- 1\n", "lack 'road'"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "weights.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_weights(path, LABELS)
    assert caught.value.expected
