"""Every file of configs/ is one that train.py takes, and says what it is good for."""

from __future__ import annotations

from pathlib import Path

import pytest

from segkit.commands import train
from segkit.config import read_options
from segkit.data.recipe import make_augmentation
from segkit.labels import LabelMap
from segkit.models import get_network
from segkit.training.class_weights import read_weights
from segkit.training.objective import make_loss

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
EXPERIMENTS = [path for path in CONFIGS if "class_weights" not in path.name]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_can_be_trained(path: Path) -> None:
    options = read_options(train, path)
    get_network(options.network)
    make_loss(options.loss)
    make_augmentation(
        options.augmentation,
        options.image_size,
        crop_size=options.crop_size or options.image_size,
        min_scale=options.min_scale,
        max_scale=options.max_scale,
    )
    if options.class_weights not in ("none", "median", "enet"):
        labels = LabelMap.builtin(path.name.partition("_")[0])
        assert len(read_weights(ROOT / options.class_weights, labels)) == labels.num_classes


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_its_head_says_what_to_expect(path: Path) -> None:
    head = path.read_text().partition("\nnetwork:")[0].partition("\nimage_size:")[0]
    for word in ("command", "hardware", "time", "val mean_iou", "measured"):
        assert f"\n# {word} " in head, word
    assert f"--config_path configs/{path.name}" in head


def test_the_weights_of_cityscapes_are_the_published_ones() -> None:
    weights = read_weights(
        ROOT / "configs" / "cityscapes_class_weights.yaml", LabelMap.builtin("cityscapes")
    )
    assert weights.tolist()[:3] == [0.8373, 0.918, 0.866]
    assert weights.sum() == pytest.approx(19.0, abs=0.01)
