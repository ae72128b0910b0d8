from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.errors import ConfigError, DataError
from segkit.evaluation.real_images import read_images
from segkit.labels import LabelMap

LABELS = LabelMap.from_names(("road", "car"))
RED = (250, 10, 20)  # RGB


def write(path: Path, rgb: tuple[int, int, int], size: tuple[int, int] = (8, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, 3), rgb, np.uint8)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of a set whose classes are car, sky, road, in this order; four of them train."""
    for index in range(6):
        split = "train" if index < 4 else "val"
        write(tmp_path / f"images/{split}/s{index}.png", RED)
        mask = np.repeat(np.array([[0, 1, 2, 255]], np.uint8), 8, axis=0).repeat(3, axis=1)
        (tmp_path / f"masks/{split}").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"masks/{split}/s{index}.png"), mask)
    (tmp_path / "labelmap.txt").write_text("car:1,0,0::\nsky:2,0,0::\nroad:3,0,0::\n")
    return tmp_path


def test_labels_become_the_models_ids_by_name(folder: Path) -> None:
    found = read_images(f"folder:{folder}", LABELS, limit=10)
    assert [shown.stem for shown in found.images] == ["s4", "s5"]  # val
    assert found.unscored == ("sky",) and found.labeled
    truth = found.images[0].truth
    assert truth is not None
    assert truth[0].tolist() == [1] * 3 + [255] * 3 + [0] * 3 + [255] * 3


def test_the_split_can_be_chosen_and_images_are_spread_evenly(folder: Path) -> None:
    found = read_images(f"folder:{folder}", LABELS, limit=2, split="train")
    assert [shown.stem for shown in found.images] == ["s1", "s3"]
    assert len(read_images(f"folder:{folder}", LABELS, limit=9, split="test").images) == 6


def test_images_are_rgb(folder: Path) -> None:
    assert tuple(read_images(f"folder:{folder}", LABELS, limit=1).images[0].image[0, 0]) == RED


@pytest.mark.parametrize("what", ["images/train", "images/train/s0.png"])
def test_images_need_no_labels(folder: Path, what: str) -> None:
    found = read_images(f"images:{folder / what}", LABELS, limit=10)
    assert found.images[0].stem == "s0" and not found.labeled
    assert tuple(found.images[0].image[0, 0]) == RED


def test_a_video_gives_frames_from_all_over_it(clip: Path) -> None:
    found = read_images(f"images:{clip}", LABELS, limit=4)
    indices = [int(shown.stem.split()[1]) for shown in found.images]
    assert len(indices) == 4 and indices[0] < 8 and indices[-1] >= 20
    assert found.images[0].image.shape == (96, 160, 3)


def test_a_set_without_any_class_of_the_model_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"none of the model's classes.*car, sky, road") as caught:
        read_images(f"folder:{folder}", LabelMap.from_names(("a", "b")), limit=1)
    assert "images:PATH" in caught.value.next_step


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("images:/nowhere", "'/nowhere' does not exist"),
        ("images:{}/masks/../labelmap.txt", "holds no image"),
    ],
)
def test_a_place_without_images_is_refused(folder: Path, data: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_images(data.format(folder), LABELS, limit=1)
    assert ".jpg" in caught.value.expected


def test_a_damaged_image_is_named(folder: Path) -> None:
    (folder / "images/train/s0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"s0\.png' cannot be decoded"):
        read_images(f"images:{folder / 'images/train'}", LABELS, limit=9)


def test_what_is_no_kind_is_refused_with_all_kinds() -> None:
    with pytest.raises(ConfigError) as caught:
        read_images("streets", LABELS, limit=1)
    assert "cvat" in caught.value.expected and "images:PATH" in caught.value.expected
