"""Helpers: a network of three layers that is in NETWORKS while a test lasts, and its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from segkit import models
from segkit.labels import LabelMap
from segkit.models import build_model
from segkit.models.checkpoints import CheckpointRecord, save_checkpoint
from segkit.models.layers import Normalization
from segkit.models.network import Network, NetworkOptions

NAME = "tiny"


def tiny_network(image: tf.Tensor, num_classes: int, options: NetworkOptions) -> tuple[Any, Any]:
    x = tf.keras.layers.Conv2D(8, 5, strides=2, padding="same", activation="relu", name="a")(image)
    return tf.keras.layers.Conv2D(num_classes, 3, padding="same", name="head")(x), None


def add_tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    same = Normalization((128.0,) * 3, (64.0,) * 3, "RGB / 64 - 2")
    monkeypatch.setitem(models.NETWORKS, NAME, Network(tiny_network, same, head=("head",)))


def save_tiny_checkpoint(path: Path, labels: LabelMap, image_size: tuple[int, int]) -> Path:
    """A checkpoint of random weights, whose answer depends on the image."""
    tf.keras.utils.set_random_seed(7)
    record = CheckpointRecord(
        network=NAME,
        image_size=image_size,
        labels=labels,
        auxiliary=False,
        precision="float32",
        epoch=1,
        step=1,
        val_mean_iou=None,
    )
    model = build_model(NAME, image_size, labels.num_classes)
    save_checkpoint(model, record, path)
    return path
