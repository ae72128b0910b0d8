"""Blur, spotlight and another background: nothing bleeds, nothing of the old room is left."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from segkit.errors import ConfigError
from segkit.video.effects.backdrops import Clip, Color, Still, cover, make_backdrop
from segkit.video.effects.background import Blur, Spotlight
from segkit.video.effects.replace import Replace

SIZE = (240, 320)
PERSON = 5


@pytest.fixture
def mask() -> np.ndarray:
    """A person in the middle: a disc of radius 60."""
    mask = np.zeros(SIZE, np.uint8)
    cv2.circle(mask, (160, 120), 60, PERSON, -1)
    return mask


@pytest.fixture
def image(mask: np.ndarray) -> np.ndarray:
    """Red person, green room."""
    return np.where(mask[..., None] == PERSON, (255, 0, 0), (0, 255, 0)).astype(np.uint8)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def shrunk(mask: np.ndarray, pixels: int) -> np.ndarray:
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return cv2.erode((mask == PERSON).astype(np.uint8), kernel) > 0


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return cv2.dilate((mask == PERSON).astype(np.uint8), kernel) > 0


def test_nothing_of_the_person_bleeds_into_the_blur(image: np.ndarray, mask: np.ndarray) -> None:
    picture = Blur((PERSON,), sigma=1 / 20)(image, mask)
    outside = picture[mask != PERSON]
    assert outside[:, 0].max() <= 2
    assert outside[:, 1].min() >= 253
    naive = cv2.GaussianBlur(image, (0, 0), 12)[mask != PERSON]
    assert naive[:, 0].max() > 90, "which an ordinary blur does"


def test_nothing_of_the_room_bleeds_into_the_person(image: np.ndarray, mask: np.ndarray) -> None:
    picture = Blur((PERSON,))(image, mask)
    np.testing.assert_array_equal(picture[shrunk(mask, 4)], image[shrunk(mask, 4)])


def test_the_background_loses_its_detail_and_keeps_its_color(
    noise: np.ndarray, mask: np.ndarray
) -> None:
    picture = Blur((PERSON,))(noise, mask)
    far = ~grown(mask, 4)
    assert picture[far].std() < 0.15 * noise[far].std()
    assert abs(picture[far].mean() - noise[far].mean()) < 2


def test_the_edge_is_soft(image: np.ndarray, mask: np.ndarray) -> None:
    bright = np.where(mask[..., None] == PERSON, 255, 0).astype(np.uint8).repeat(3, 2)
    row = Spotlight((PERSON,), brightness=0)(bright, mask)[120, :160, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert ((row > 20) & (row < 235)).sum() >= 2


def test_a_gap_within_the_person_is_filled_with_what_is_near(mask: np.ndarray) -> None:
    mask[115:125, 155:165] = 0  # the person's arm is akimbo
    image = np.full((*SIZE, 3), 180, np.uint8)
    picture = Blur((PERSON,))(image, mask)
    assert np.abs(picture.astype(int) - 180).max() <= 2


def test_without_anybody_all_is_background(noise: np.ndarray) -> None:
    nobody = np.zeros(SIZE, np.uint8)
    assert Blur((PERSON,))(noise, nobody).std() < 0.15 * noise.std()
    picture = Replace((PERSON,), Color((1, 2, 3)))(noise, nobody)
    assert (picture == (1, 2, 3)).all()


@pytest.mark.parametrize(
    "effect", [Blur((PERSON,)), Spotlight((PERSON,)), Replace((PERSON,), Color((0, 0, 0)))]
)
def test_what_is_all_foreground_stays_as_it_is(noise: np.ndarray, effect) -> None:
    picture = effect(noise, np.full(SIZE, PERSON, np.uint8))
    np.testing.assert_array_equal(picture, noise)


def test_spotlight_takes_the_color_and_light_of_the_rest(
    noise: np.ndarray, mask: np.ndarray
) -> None:
    picture = Spotlight((PERSON,), brightness=0.4)(noise, mask)
    np.testing.assert_array_equal(picture[shrunk(mask, 4)], noise[shrunk(mask, 4)])
    rest, before = picture[mask != PERSON], cv2.cvtColor(noise, cv2.COLOR_RGB2GRAY)
    assert (rest == rest[:, :1]).all(), "grey"
    np.testing.assert_allclose(rest[:, 0], 0.4 * before[mask != PERSON], atol=1)


def test_nothing_of_the_old_background_is_left(image: np.ndarray, mask: np.ndarray) -> None:
    effect = Replace((PERSON,), Color((10, 20, 250)))
    picture = effect(image, mask)
    assert (picture[mask != PERSON] == (10, 20, 250)).all()
    np.testing.assert_array_equal(picture[shrunk(mask, 6)], image[shrunk(mask, 6)])
    other = image.copy()
    other[mask != PERSON] = np.random.default_rng(1).integers(0, 256, 3)
    np.testing.assert_array_equal(effect(other, mask), picture, "it shows what the room was like")


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (7, 7), (300, 100), (3, 3)])
def test_a_picture_covers_all_and_its_middle_stays_in_the_middle(size: tuple[int, int]) -> None:
    image = np.zeros((60, 120, 3), np.uint8)
    image[20:40, 40:80] = 255
    covering = cover(image, size)
    assert covering.shape == (*size, 3)
    assert covering[size[0] // 2, size[1] // 2].min() == 255
    flipped = covering[::-1, ::-1].astype(int)
    assert np.abs(covering - flipped).mean() < 12


def test_a_picture_is_fitted_once(noise: np.ndarray) -> None:
    still = Still(noise)
    assert still((50, 60)) is still((50, 60))
    assert still((51, 60)).shape == (51, 60, 3)
    assert still((50, 60)).shape == (50, 60, 3)


def test_a_picture_file_keeps_its_colors(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), np.full((4, 6, 3), (0, 0, 255), np.uint8))  # BGR
    assert (make_backdrop(str(path))((8, 8)) == (255, 0, 0)).all()


def test_a_color_is_read_as_it_is_written() -> None:
    assert make_backdrop("#0aFF80") == Color((10, 255, 128))


def test_a_missing_background_is_refused(tmp_path: Path) -> None:
    for name in ("no.mp4", "."):
        with pytest.raises(ConfigError, match="there is no background") as caught:
            make_backdrop(str(tmp_path / name))
        assert "the file of a picture or a video" in str(caught.value)


def test_a_video_runs_with_the_pictures_and_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "waves.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10), options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for shade in (40, 120, 200):
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), shade, np.uint8), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    backdrop = make_backdrop(str(path))
    assert isinstance(backdrop, Clip)
    shades = [int(backdrop((24, 24)).mean()) for _ in range(7)]
    np.testing.assert_allclose(shades, [40, 120, 200, 40, 120, 200, 40], atol=4)
