"""DDRNet-23-slim against outputs of the authors' network (fixtures in data/, 67 KB in all)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from segkit.models import build_model, ddrnet

DATA = Path(__file__).parent / "data"
SIZES = [(64, 96), (120, 160)]


def tensors_and_images() -> tuple[dict[str, np.ndarray], dict[tuple[int, int], np.ndarray]]:
    """Draws the weights and images from which the authors' outputs were made."""
    shapes = json.loads((DATA / "ddrnet23_slim_names.json").read_text())
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


def load_torch_tensors(model: tf.keras.Model, tensors: dict[str, np.ndarray]) -> None:
    """Sets every weight by its PyTorch name, and fails if one is left over on either side."""
    left = dict(tensors)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.Conv2D):
            values = [left.pop(f"{layer.name}.weight").transpose(2, 3, 1, 0)]
            if layer.use_bias:
                values.append(left.pop(f"{layer.name}.bias"))
            layer.set_weights(values)
        elif isinstance(layer, tf.keras.layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([left.pop(f"{layer.name}.{part}") for part in parts])
        else:
            assert not layer.weights
    assert not left


@pytest.mark.parametrize("size", SIZES)
def test_outputs_equal_the_published_network(size: tuple[int, int]) -> None:
    tensors, images = tensors_and_images()
    image = tf.keras.Input((*size, 3))
    main, auxiliary = ddrnet.ddrnet23_slim(image, 19, auxiliary=True)
    model = tf.keras.Model(image, [main, auxiliary])
    load_torch_tensors(model, tensors)
    with np.load(DATA / "ddrnet23_slim.npz") as published:
        for name, output in zip(("main", "auxiliary"), model(images[size]), strict=True):
            expected = published[f"{name}_{size[0]}x{size[1]}"]
            error = np.abs(output - expected).max() / np.abs(expected).max()
            assert error < 1e-4, f"{name} differs by {error:.2e} relative"


@pytest.mark.parametrize(("num_classes", "parameters"), [(19, 5_695_987), (11, 5_695_467)])
def test_has_the_published_number_of_parameters(num_classes: int, parameters: int) -> None:
    model = build_model("ddrnet23_slim", (64, 64), num_classes)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters


def test_normalisation_is_inside_and_takes_0_to_255() -> None:
    model = build_model("ddrnet23_slim", (64, 64), 3)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    normalised = tf.keras.Model(model.input, model.get_layer("normalization").output)(image)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(normalised, (image / 255 - mean) / std, atol=1e-5)
