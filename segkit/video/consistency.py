"""How steady the masks of a video are: flicker rate and temporal consistency.

Both follow what moves by optical flow (DIS) of the images, so that only masks that change without a
reason count. An empty mask is perfectly steady: read them beside the mean IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segkit.video.frame import Image, Mask

__all__ = ["Consistency", "measure_consistency"]

STILL_PIXELS = 0.5  # flow below this is no motion


class Consistency(NamedTuple):
    """What was measured, means over pairs of neighbouring frames.

    Args:
        flicker_rate: Share of the pixels that do not move whose class changes.
        mean_iou: Of each mask, carried along by the flow, with the next: 1 is perfectly steady.
    """

    flicker_rate: float
    mean_iou: float


def measure_consistency(images: Sequence[Image], masks: Sequence[Mask]) -> Consistency:
    """Flicker rate and temporal consistency of two or more frames in order.

    Args:
        images: uint8, (H, W, 3), RGB.
        masks: uint8, (H, W), class ids.

    Raises:
        ValueError: There are fewer than two, or not as many masks as images.

    Reference:
        Liu et al., "Efficient semantic video segmentation with per-frame inference", ECCV 2020
        (temporal consistency; there with FlowNet2).
    """
    if not len(images) == len(masks) >= 2:
        raise ValueError(f"{len(images)} images and {len(masks)} masks, not two or more of each")
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    grays = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    rates, ious = [], []
    for index in range(1, len(masks)):
        last, mask = masks[index - 1], masks[index]
        # Backwards: for each pixel of this frame, where it was in the last one.
        flow = dis.calc(grays[index], grays[index - 1], None)
        still = np.hypot(flow[..., 0], flow[..., 1]) < STILL_PIXELS
        if still.any():
            rates.append(float((mask != last)[still].mean()))
        ious.append(_mean_iou(_carried(last, flow), mask))
    return Consistency(float(np.mean(rates)) if rates else 0.0, float(np.mean(ious)))


def _carried(mask: Mask, flow: npt.NDArray[np.float32]) -> Mask:
    height, width = mask.shape
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    nearest = cv2.remap(mask, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(nearest)


def _mean_iou(one: Mask, other: Mask) -> float:
    """Over the classes that either has."""
    pairs = np.bincount(one.ravel().astype(np.intp) * 256 + other.ravel(), minlength=256 * 256)
    counts = pairs.reshape(256, 256)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return float((counts.diagonal()[union > 0] / union[union > 0]).mean())
