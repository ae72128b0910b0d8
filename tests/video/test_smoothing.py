"""Smoothing: less flicker, a stated lag, nothing carried over a cut."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
import pytest

from segkit.data.scenes import Street
from segkit.errors import ConfigError
from segkit.video.consistency import measure_consistency
from segkit.video.frame import Frame
from segkit.video.smoothing import ConfidenceAverage, Cuts, Hysteresis, Smoother

SIZE = (120, 160)
RATE = 25
A, B, C = 1, 2, 7


def street_frames(count: int, *, seed: int = 3) -> tuple[list[np.ndarray], list[np.ndarray]]:
    street = Street(seed, image_size=SIZE)
    images, masks = zip(*(street.render(2 + i / RATE) for i in range(count)), strict=True)
    return list(images), list(masks)


def smooth(
    smoother: Smoother,
    masks: Sequence[np.ndarray],
    confidences: Sequence[np.ndarray] | None = None,
    *,
    images: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    gray = np.full((*SIZE, 3), 99, np.uint8)
    return [
        smoother(
            Frame(gray if images is None else images[i], i, Fraction(i, RATE)),
            mask,
            None if confidences is None else confidences[i],
        )
        for i, mask in enumerate(masks)
    ]


def pixels(smoother: Smoother, ids: Sequence[int], shares: Sequence[float] | None = None) -> str:
    """What is shown of one pixel, by its ids and confidences in order."""
    masks = [np.full((1, 1), class_id, np.uint8) for class_id in ids]
    confidences = shares and [np.full((1, 1), round(255 * p), np.uint8) for p in shares]
    return " ".join(str(mask[0, 0]) for mask in smooth(smoother, masks, confidences))


def text(*ids: int) -> str:
    return " ".join(map(str, ids))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_a_change_that_lasts_is_shown_k_minus_1_frames_late(k: int) -> None:
    shown = pixels(Hysteresis(k), [A] * 4 + [B] * 8)
    assert shown == text(*[A] * (4 + k - 1), *[B] * (8 - k + 1))


def test_k_masks_must_agree_on_end() -> None:
    assert pixels(Hysteresis(3), [A, B, B, A, B, B, A, B, B, B]) == text(*[A] * 9, B)
    assert pixels(Hysteresis(2), [A, B, C, B, C, C]) == text(A, A, A, A, A, C)


def test_long_agreement_does_not_run_over() -> None:
    assert pixels(Hysteresis(255), [A] * 600 + [B] * 254).endswith(text(A))
    assert pixels(Hysteresis(255), [A] * 600 + [B] * 255).endswith(text(B))


@pytest.mark.parametrize("k", [0, 256, -1])
def test_a_number_of_frames_that_cannot_be_is_refused(k: int) -> None:
    with pytest.raises(ConfigError, match="1 to 255"):
        Hysteresis(k)


def test_a_sure_pixel_changes_at_once() -> None:
    shown = pixels(ConfidenceAverage(), [A, A, B, B, C], [1, 1, 0.8, 0.8, 0.9])
    assert shown == text(A, A, B, B, C)


def test_an_unsure_pixel_waits_for_others_to_agree() -> None:
    shown = pixels(ConfidenceAverage(), [A, *[B] * 6], [1.0, *[0.5] * 6])
    assert shown == text(*[A] * 5, *[B] * 2)


def test_classes_that_take_turns_without_being_sure_do_not_flicker() -> None:
    shown = pixels(ConfidenceAverage(), [A, B] * 50, [0.5] * 100)
    assert shown == text(*[A] * 100)


def test_without_confidence_the_masks_pass() -> None:
    assert pixels(ConfidenceAverage(), [A, B, C, B]) == text(A, B, C, B)


@pytest.mark.parametrize("smoother", [Hysteresis(2), Hysteresis(3), ConfidenceAverage()])
def test_what_was_handed_out_is_never_written_to(smoother: Smoother) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 4, SIZE, np.uint8) for _ in range(8)]
    confidences = [rng.integers(0, 256, SIZE, np.uint8) for _ in range(8)]
    given = [mask.copy() for mask in masks]
    smoother.reset()
    gray = np.full((*SIZE, 3), 99, np.uint8)
    held, copies = [], []
    for i in range(8):
        held.append(smoother(Frame(gray, i, Fraction(i, RATE)), masks[i], confidences[i]))
        copies.append(held[-1].copy())
    np.testing.assert_array_equal(held, copies)
    np.testing.assert_array_equal(masks, given)


@pytest.fixture(scope="module")
def noisy() -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """A drive: images, true masks, masks with patches of other classes, confidences.

    A patch appears where the model is unsure, most of all at borders, and says so.
    """
    images, true = street_frames(14)
    rng = np.random.default_rng(0)
    masks, confidences = [], []
    for mask in true:
        edges = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        distance = cv2.distanceTransform((edges == 0).astype(np.uint8), cv2.DIST_L2, 3)
        sure = np.clip(0.6 + 0.05 * distance, 0, 0.98)
        patches = cv2.resize(rng.random((30, 40)).astype(np.float32), SIZE[::-1])
        wrong = patches > 0.25 + 0.6 * sure
        masks.append(np.where(wrong, np.roll(mask, (4, 6), (0, 1)), mask).astype(np.uint8))
        said = np.where(wrong, rng.uniform(0.35, 0.6, mask.shape), sure)
        confidences.append((255 * said).astype(np.uint8))
    return images, true, masks, confidences


@pytest.mark.parametrize("smoother", [Hysteresis(2), Hysteresis(3), ConfidenceAverage()])
def test_smoothing_flickers_less_on_a_drive(noisy, smoother: Smoother) -> None:
    images, _, masks, confidences = noisy
    before = measure_consistency(images, masks)
    after = measure_consistency(images, smooth(smoother, masks, confidences, images=images))
    assert before.flicker_rate > 0.02
    assert after.flicker_rate < 0.5 * before.flicker_rate
    assert after.mean_iou > before.mean_iou + 0.02


def test_on_a_drive_sure_pixels_are_shown_as_they_are(noisy) -> None:
    images, _, masks, confidences = noisy
    shown = smooth(ConfidenceAverage(), masks, confidences, images=images)
    for mask, confidence, result in zip(masks, confidences, shown, strict=True):
        sure = confidence >= 0.8 * 255
        assert sure.any()
        np.testing.assert_array_equal(result[sure], mask[sure])


def test_the_true_masks_are_steadier_than_noisy_ones(noisy) -> None:
    images, true, masks, _ = noisy
    assert measure_consistency(images, true).mean_iou > measure_consistency(images, masks).mean_iou


def test_one_mask_all_along_is_perfectly_steady() -> None:
    images, masks = street_frames(3)
    assert measure_consistency([images[0]] * 3, [masks[0]] * 3) == (0, 1)


def test_consistency_counts_what_changes_without_motion() -> None:
    image, other = np.full((*SIZE, 3), 50, np.uint8), np.full(SIZE, A, np.uint8)
    other[:, :40] = B  # a quarter
    measured = measure_consistency([image, image], [np.full(SIZE, A, np.uint8), other])
    assert measured.flicker_rate == 0.25
    assert measured.mean_iou == pytest.approx((0.75 + 0) / 2)


def test_consistency_needs_two_frames_and_their_masks() -> None:
    image, mask = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8)
    with pytest.raises(ValueError, match="1 images and 1 masks"):
        measure_consistency([image], [mask])
    with pytest.raises(ValueError, match="2 images and 1 masks"):
        measure_consistency([image, image], [mask])


def cut_at(frames: Sequence[Frame]) -> list[int]:
    cuts = Cuts()
    return [i for i, frame in enumerate(frames) if cuts(frame)]


def test_cuts_are_found_and_a_drive_has_none() -> None:
    images, _ = street_frames(6)
    others, _ = street_frames(3, seed=4)
    frames = [Frame(image, i, Fraction(i, RATE)) for i, image in enumerate(images + others)]
    assert cut_at(frames) == [0, 6]


@pytest.mark.parametrize(
    ("times", "expected"), [([0, 0.4, 0.8], [0]), ([0, 0.6, 0.7], [0, 1]), ([0, 1, 0.1], [0, 1, 2])]
)
def test_a_gap_or_a_step_back_in_time_begins_anew(times: list[float], expected: list[int]) -> None:
    gray = np.full((*SIZE, 3), 99, np.uint8)
    assert cut_at([Frame(gray, i, Fraction(time)) for i, time in enumerate(times)]) == expected


@pytest.mark.parametrize("smoother", [Hysteresis(3), ConfidenceAverage()])
def test_nothing_is_carried_over_a_cut_a_gap_or_a_reset(smoother: Smoother) -> None:
    def show(class_id: int, time: float, shade: int = 99) -> int:
        image, mask = np.full((*SIZE, 3), shade, np.uint8), np.full(SIZE, class_id, np.uint8)
        unsure = np.full(SIZE, 80, np.uint8)
        return int(smoother(Frame(image, 0, Fraction(time)), mask, unsure)[0, 0])

    assert show(A, 0) == A
    assert show(B, 0.1) == A
    assert show(B, 0.2, shade=250) == B, "a cut"
    assert show(A, 0.3, shade=250) == B
    assert show(A, 2.3, shade=250) == A, "a gap"
    assert show(B, 2.4, shade=250) == A
    smoother.reset()
    assert show(B, 2.5, shade=250) == B


def test_another_size_begins_anew() -> None:
    smoother, image = Hysteresis(3), np.full((*SIZE, 3), 99, np.uint8)
    smoother(Frame(image, 0, Fraction(0)), np.full((4, 6), A, np.uint8))
    shown = smoother(Frame(image, 1, Fraction(1, RATE)), np.full((5, 3), B, np.uint8))
    np.testing.assert_array_equal(shown, np.full((5, 3), B))


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (63, 65)])
def test_frames_of_any_size_are_compared(size: tuple[int, int]) -> None:
    frames = [Frame(np.full((*size, 3), v, np.uint8), v, Fraction(v, 1000)) for v in (0, 1, 255)]
    assert cut_at(frames) == [0, 2]
