"""Pictures that set a prediction beside its truth: image, truth, prediction, error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segkit.labels import IGNORE_ID, LabelMap

__all__ = ["ERROR_COLORS", "comparison_row", "error_picture"]

Image = npt.NDArray[np.uint8]

# Each is far lighter or darker than the others, so that they differ in any colour vision and in
# grey print too. The vermilion is Okabe and Ito's ("Color Universal Design", 2008).
ERROR_COLORS = {"right": (232, 232, 232), "wrong": (213, 94, 0), "ignored": (36, 38, 44)}
GAP = 4  # pixels between two pictures
PAPER = 255


def error_picture(truth: Image, prediction: Image) -> Image:
    """Where a prediction is right, wrong, or not asked for, in ERROR_COLORS.

    Args:
        truth: Class ids, uint8, (H, W); 255 is not asked for.
        prediction: Class ids, uint8, (H, W).

    Returns:
        uint8, (H, W, 3), RGB.
    """
    _check_shape("prediction", prediction, truth.shape)
    colors = np.array([ERROR_COLORS[kind] for kind in ("right", "wrong", "ignored")], np.uint8)
    kinds = (truth != prediction).astype(np.uint8)
    kinds[truth == IGNORE_ID] = 2
    return colors[kinds]


def comparison_row(image: Image, truth: Image, prediction: Image, *, labels: LabelMap) -> Image:
    """Image, truth, prediction and error side by side, without captions.

    Args:
        image: uint8, (H, W, 3), RGB.
        truth: Class ids, uint8, (H, W).
        prediction: Class ids, uint8, (H, W).
        labels: Colours of the classes.

    Returns:
        uint8, (H, 4 * W + 3 * GAP, 3), RGB.

    Raises:
        ValueError: The sizes differ.
    """
    _check_shape("image", image, (*truth.shape, 3))
    palette = labels.palette()
    gap = np.full((truth.shape[0], GAP, 3), PAPER, np.uint8)
    pictures = (image, palette[truth], palette[prediction], error_picture(truth, prediction))
    columns = [column for picture in pictures for column in (picture, gap)]
    return np.concatenate(columns[:-1], axis=1)


def _check_shape(what: str, array: Image, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"the {what} is {array.shape}, not {shape} as the truth asks")
