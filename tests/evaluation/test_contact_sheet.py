from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segkit.evaluation.contact_sheet import Moment, write_contact_sheet
from segkit.labels import LabelMap


@pytest.mark.parametrize("with_truth", [True, False])
def test_shows_every_picture_in_the_colours_of_the_label_map(
    labels: LabelMap, with_truth: bool, tmp_path: Path
) -> None:
    mask = np.full((60, 80), 1, np.uint8)
    mask[:, 40:] = 2
    grey = np.full((60, 80, 3), 127, np.uint8)
    moment = Moment(1.5, grey, mask, grey, mask if with_truth else None)
    path = tmp_path / "sheet.png"
    write_contact_sheet(
        path,
        [moment, moment],
        labels,
        title="t",
        subtitle="s",
        figures=[("0.8", "mean IoU")],
        class_iou=np.array([np.nan, 0.5, 1.0]) if with_truth else None,
    )
    sheet = cv2.imread(str(path))[..., ::-1]
    masks = 2 * (2 if with_truth else 1)
    pictures = sheet.shape[1] ** 2 * (0.75 / (4 if with_truth else 3) ** 2)  # pixels of one
    for label in labels.labels[1:]:
        share = np.all(sheet == label.color, axis=-1).sum() / (masks * pictures / 2)
        assert 0.7 < share < 1.3, label.name
