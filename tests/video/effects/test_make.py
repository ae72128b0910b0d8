"""Effects by name: what a user writes, every size and mask, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.errors import ConfigError, SegkitError
from segkit.labels import IGNORE_ID, LabelMap
from segkit.video import Overlay
from segkit.video.effects import (
    EFFECTS,
    make_effect,
    make_effects,
    needs_confidence,
    picture_size,
)
from segkit.video.effects.background import Blur, Spotlight
from segkit.video.effects.plain import InTurn, SideBySide

DOCS = Path(__file__).resolve().parents[3] / "docs" / "effects.md"
TEXTS = [
    "overlay",
    "overlay:road=0.2,car=1",
    "contours",
    "contours:car",
    "mask",
    "side_by_side",
    "side_by_side:blur:car",
    "confidence",
    "blur:car",
    "blur:road,car",
    "replace:car:#00ff7f",
    "replace:car:beach.png",
    "spotlight:car",
    "pixelate:road,car",
    "original",
]


@pytest.fixture(scope="module", autouse=True)
def folder_with_a_beach(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("beach")
    cv2.imwrite(str(folder / "beach.png"), np.full((30, 50, 3), (10, 20, 200), np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def test_every_effect_is_tried_here() -> None:
    assert {text.partition(":")[0] for text in TEXTS} == set(EFFECTS)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (4, 1), (3, 2), (63, 65), (240, 321)])
def test_any_size_and_any_mask_gives_a_picture_of_its_own(
    labels: LabelMap, text: str, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    confidence = rng.integers(0, 256, size, np.uint8)
    drawer = make_effect(text, labels)
    masks = [np.full(size, class_id, np.uint8) for class_id in (0, 2, 9, IGNORE_ID)]
    masks.append(rng.choice(np.array([0, 1, 2, IGNORE_ID], np.uint8), size))
    given = [array.copy() for array in (image, confidence, *masks)]

    pictures = [drawer(image, mask, confidence) for mask in masks]
    copies = [picture.copy() for picture in pictures]
    again = [drawer(image, mask, confidence) for mask in masks]

    width = size[1] * (2 if text.startswith("side_by_side") else 1)
    for picture in pictures:
        assert picture.shape == (size[0], width, 3)
        assert picture.dtype == np.uint8
        assert text == "original" or not np.shares_memory(picture, image)
    for array, before in zip((image, confidence, *masks), given, strict=True):
        np.testing.assert_array_equal(array, before, "an input was written to")
    np.testing.assert_array_equal(pictures, copies, "a picture that was handed out was written to")
    np.testing.assert_array_equal(again, copies, "the same input gave another picture")
    assert picture_size(drawer, size) == (size[0], width)


def test_side_by_side_is_the_image_and_the_effect(labels: LabelMap) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    mask = np.full((40, 60), 1, np.uint8)
    picture = make_effect("side_by_side:mask", labels, legend=False)(image, mask)
    np.testing.assert_array_equal(picture[:, :60], image)
    assert (picture[:, 60:] == (128, 64, 128)).all()


def test_class_names_are_found_in_any_case(labels: LabelMap) -> None:
    assert make_effect("spotlight:CAR, Road", labels) == Spotlight((2, 1))


def test_opacity_and_legend_reach_the_effect(labels: LabelMap) -> None:
    made = make_effect("overlay:car=0.9", labels, opacity=0.25, legend=False)
    assert made == Overlay(labels, opacity=0.25, class_opacity={2: 0.9}, legend=False)
    assert make_effect("side_by_side", labels, opacity=0.1) == SideBySide(
        Overlay(labels, opacity=0.1)
    )


def test_several_effects_are_drawn_in_turn(labels: LabelMap) -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (60, 80, 3), np.uint8), np.full((60, 80), 1, np.uint8)
    mask[20:40, 30:50] = 2
    both = make_effects(["pixelate:car", "overlay"], labels)
    pixelated = make_effect("pixelate:car", labels)(image, mask)
    np.testing.assert_array_equal(both(image, mask), Overlay(labels)(pixelated, mask))
    assert make_effects(["blur:car"], labels) == Blur((2,))


def test_only_the_confidence_map_needs_confidence(labels: LabelMap) -> None:
    asking = [text for text in TEXTS if needs_confidence(make_effect(text, labels))]
    assert asking == ["confidence"]
    assert needs_confidence(make_effect("side_by_side:confidence", labels))
    assert needs_confidence(make_effects(["overlay", "confidence"], labels))
    assert not needs_confidence(make_effects(["overlay", "contours"], labels))
    assert not needs_confidence(lambda image, mask, confidence=None: image)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("overlai", ["there is no effect 'overlai'", "perhaps overlay;", "pixelate"]),
        ("", ["there is no effect ''", "one of overlay, contours"]),
        ("blur:caar", ["'blur:caar' names the class 'caar'", "perhaps car;", "background, road"]),
        ("blur:zzz", ["'zzz', which the model does not have", "one of background, road, car"]),
        ("contours:road,,car", ["names the class ''"]),
        ("blur", ["'blur' names no class", "blur:CLASS,..."]),
        ("pixelate: ", ["names no class", "pixelate:CLASS,..."]),
        ("spotlight:", ["names no class", "spotlight:CLASS,..."]),
        ("replace:car", ["names no background", "replace:CLASS,...:BACKGROUND"]),
        ("replace::#ffffff", ["names no class"]),
        ("replace:car:#fffff", ["there is no background '#fffff'", "#00ff00"]),
        ("replace:car:no.jpg", ["there is no background 'no.jpg'", "correct the path"]),
        ("overlay:car", ["gives car the opacity ''", "overlay[:CLASS=OPACITY,...]"]),
        ("overlay:car=red", ["gives car the opacity 'red'"]),
        ("overlay:car=1.5", ["opacity of car is 1.5", "from 0 to 1"]),
        ("overlay:car=nan", ["opacity of car is nan"]),
        ("overlay:bus=0.5", ["names the class 'bus'"]),
        ("side_by_side:side_by_side", ["puts one beside another"]),
        ("side_by_side:blur:x", ["'blur:x' names the class 'x'"]),
        ("mask:car", ["takes nothing after its name"]),
        ("confidence:1", ["takes nothing after its name"]),
        ("original:1", ["takes nothing after its name"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_message(
    labels: LabelMap, text: str, words: list[str]
) -> None:
    with pytest.raises(SegkitError) as caught:
        make_effect(text, labels)
    for word in words:
        assert word in str(caught.value)


def test_an_opacity_that_cannot_be_is_refused(labels: LabelMap) -> None:
    with pytest.raises(ConfigError, match="opacity is 1.2"):
        make_effect("overlay", labels, opacity=1.2)


def test_no_effect_and_one_after_a_wider_picture_are_refused(labels: LabelMap) -> None:
    with pytest.raises(ConfigError, match="no effect is named"):
        make_effects([], labels)
    with pytest.raises(ConfigError, match="'side_by_side' is followed by another") as caught:
        make_effects(["side_by_side", "overlay"], labels)
    assert "put 'side_by_side' at the end" in str(caught.value)
    assert isinstance(make_effects(["overlay", "side_by_side"], labels), InTurn)


def test_a_file_that_is_no_picture_and_no_video_is_refused(labels: LabelMap) -> None:
    Path("beach.txt").write_text("sand")
    with pytest.raises(SegkitError, match="'beach.txt' is not a video"):
        make_effect("replace:car:beach.txt", labels)


def test_the_documentation_has_every_usage() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for effect in EFFECTS.values():
        assert f"| `{effect.usage}` |" in text
