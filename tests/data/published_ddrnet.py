"""Helpers: the weights, images and outputs by which the authors' DDRNet-23-slim is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

FIXTURES = Path(__file__).parent.parent / "models" / "data"
SIZES = [(64, 96), (120, 160)]


def tensors_and_images() -> tuple[dict[str, np.ndarray], dict[tuple[int, int], np.ndarray]]:
    """Draws the weights and images from which the authors' outputs were made."""
    shapes = json.loads((FIXTURES / "ddrnet23_slim_names.json").read_text())
    rng = np.random.default_rng(23)
    tensors = {}
    for name in sorted(shapes):
        shape = tuple(shapes[name])
        if len(shape) == 4:
            value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith("running_var"):
            value = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("running_mean"):
            value = rng.standard_normal(shape) * 0.1
        elif name.endswith("weight"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.standard_normal(shape) * 0.1
        tensors[name] = value.astype(np.float32)
    images = {size: rng.standard_normal((1, *size, 3)).astype(np.float32) for size in SIZES}
    return tensors, images


def assert_as_published(model: tf.keras.Model, head: str) -> None:
    """Holds the logits at stride 8 to the authors' figures for the model's image size.

    Args:
        model: From `build_model`; the images are normalised already and go in behind that.
        head: "final_layer" or "seghead_extra".
    """
    size = model.input_shape[1:3]
    network = tf.keras.Model(
        model.get_layer("normalization").output, model.get_layer(f"{head}.conv2").output
    )
    logits = network(tensors_and_images()[1][size]).numpy()
    output = {"final_layer": "main", "seghead_extra": "auxiliary"}[head]
    with np.load(FIXTURES / "ddrnet23_slim.npz") as published:
        expected = published[f"{output}_{size[0]}x{size[1]}"]
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    assert error < 1e-4, f"{head} differs by {error:.2e} relative"
    np.testing.assert_array_equal(logits.argmax(-1), expected.argmax(-1))
