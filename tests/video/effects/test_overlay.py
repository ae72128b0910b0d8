"""The overlay: colours of the label map, the background untouched, a legend that fits."""

from __future__ import annotations

import numpy as np
import pytest

from segkit.labels import IGNORE_ID, Label, LabelMap
from segkit.video import Overlay
from segkit.video.effects.legend import Legend


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, (120, 160, 3), np.uint8)


def test_classes_are_blended_with_their_colors(image: np.ndarray, labels: LabelMap) -> None:
    mask = np.full((120, 160), 1, np.uint8)
    picture = Overlay(labels, opacity=0.25, legend=False)(image, mask)
    np.testing.assert_allclose(picture, 0.75 * image + 0.25 * np.array([128, 64, 128]), atol=1)


@pytest.mark.parametrize("class_id", [0, 3, 200, IGNORE_ID])
def test_background_ignored_and_unknown_ids_leave_the_image_as_it_is(
    image: np.ndarray, labels: LabelMap, class_id: int
) -> None:
    mask = np.full((120, 160), class_id, np.uint8)
    np.testing.assert_array_equal(Overlay(labels, legend=False)(image, mask), image)


def test_borders_carry_the_full_color(image: np.ndarray, labels: LabelMap) -> None:
    mask = np.zeros((120, 160), np.uint8)
    mask[:, 80:] = 2
    picture = Overlay(labels, legend=False)(image, mask)
    np.testing.assert_array_equal(picture[:, 80], np.tile([64, 0, 128], (120, 1)))
    np.testing.assert_array_equal(picture[:, :80], image[:, :80])


def test_the_image_itself_is_not_changed(image: np.ndarray, labels: LabelMap) -> None:
    before = image.copy()
    Overlay(labels)(image, np.full((120, 160), 1, np.uint8))
    np.testing.assert_array_equal(image, before)


def test_no_opacity_gives_the_image(image: np.ndarray, labels: LabelMap) -> None:
    mask = np.random.default_rng(1).integers(0, 3, (120, 160), np.uint8)
    picture = Overlay(labels, opacity=0, legend=False)(image, mask)
    np.testing.assert_array_equal(picture, image)


def test_a_class_may_have_an_opacity_of_its_own(image: np.ndarray, labels: LabelMap) -> None:
    mask = np.full((120, 160), 1, np.uint8)
    mask[:, 60:] = 2
    mask[:, 120:] = 0
    overlay = Overlay(labels, opacity=0.25, class_opacity={2: 0.8}, legend=False)
    picture = overlay(image, mask)
    for columns, share, color in (
        (slice(0, 59), 0.25, (128, 64, 128)),
        (slice(61, 119), 0.8, (64, 0, 128)),
        (slice(120, 160), 0, (0, 0, 0)),
    ):
        expected = (1 - share) * image[:, columns] + share * np.array(color)
        np.testing.assert_allclose(picture[:, columns], expected, atol=1.5)


def test_a_class_of_no_opacity_has_no_border_either(image: np.ndarray, labels: LabelMap) -> None:
    mask = np.random.default_rng(1).integers(0, 2, (120, 160), np.uint8)
    picture = Overlay(labels, class_opacity={1: 0}, legend=False)(image, mask)
    np.testing.assert_array_equal(picture, image)


def drawn(names: list[str], shape: tuple[int, int], fill: int) -> np.ndarray:
    legend = Legend(tuple(Label(name, (200, 20 + i, 30)) for i, name in enumerate(names)))
    picture = np.full((*shape, 3), fill, np.uint8)
    legend.draw(picture)
    return picture


@pytest.mark.parametrize("fill", [0, 128, 255])
def test_names_stand_out_on_any_background(fill: int) -> None:
    picture = drawn(["road", "pavement"], (480, 640), fill)
    rows, columns = np.where((picture != fill).any(axis=-1))
    panel = picture[rows.min() : rows.max(), columns.min() : columns.max()].astype(int)
    luminance = panel.mean(axis=-1)
    assert np.percentile(luminance, 99) - np.median(luminance) > 110
    assert ((panel == (200, 20, 30)).all(axis=-1)).sum() > 20, "a swatch in the class's colour"


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (240, 320), (432, 768)])
@pytest.mark.parametrize("count", [1, 7, 32])
def test_panel_lies_inside_and_covers_at_most_half(shape: tuple[int, int], count: int) -> None:
    picture = drawn([f"class {i}" for i in range(count)], shape, 128)
    rows, columns = np.where((picture != 128).any(axis=-1))
    assert columns.size, "a legend is drawn"
    assert columns.max() < shape[1] * 0.55
    assert rows.min() > 0
    assert rows.max() < shape[0] - 1


def test_an_image_too_small_for_names_gets_none() -> None:
    picture = drawn(["a class with a long name"] * 9, (32, 48), 128)
    assert (picture == 128).all()


def test_names_beyond_ascii_are_drawn_in_plain_letters() -> None:
    accented = drawn(["Straße", "piétons"], (240, 320), 128)
    plain = drawn(["Strasse", "pietons"], (240, 320), 128)
    np.testing.assert_array_equal(accented, plain)


def test_black_classes_are_not_in_the_legend() -> None:
    only_background = LabelMap((Label("background", (0, 0, 0)),))
    image = np.full((240, 320, 3), 90, np.uint8)
    picture = Overlay(only_background)(image, np.zeros((240, 320), np.uint8))
    np.testing.assert_array_equal(picture, image)
