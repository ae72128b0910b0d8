"""DDRNet-23-slim against outputs of the authors' network (fixtures in data/, 67 KB in all)."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from published_ddrnet import SIZES, assert_as_published, tensors_and_images

from segkit.models import build_model
from segkit.models.torch_weights import match, set_weights


@pytest.mark.parametrize("size", SIZES)
def test_outputs_equal_the_published_network(size: tuple[int, int]) -> None:
    model = build_model("ddrnet23_slim", size, 19, auxiliary=True)
    set_weights(model, match(model, tensors_and_images()[0]))
    assert_as_published(model, "final_layer")
    assert_as_published(model, "seghead_extra")


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
