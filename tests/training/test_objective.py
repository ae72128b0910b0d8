from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import yaml

from segkit.errors import ConfigError
from segkit.training.losses import CrossEntropy, Dice, Focal, Ohem, WeightedSum
from segkit.training.objective import LOSSES, Objective, make_loss


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[cross_entropy]", CrossEntropy()),
        ("[ce]", CrossEntropy()),
        ("[focal: {gamma: 3}]", Focal(3.0)),
        ("[cross_entropy: {label_smoothing: 0.1}]", CrossEntropy(0.1)),
        (
            "[{ohem: {threshold: 0.7}}, {dice: {weight: 0.5}}]",
            WeightedSum(((1.0, Ohem(0.7)), (0.5, Dice()))),
        ),
    ],
)
def test_a_list_becomes_a_loss(text: str, expected: object) -> None:
    assert make_loss(yaml.safe_load(text)) == expected


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_can_be_named(name: str) -> None:
    assert isinstance(make_loss([name]), LOSSES[name])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "the loss is empty"),
        ("[focl]", "has 'focl', which is no loss[^$]*perhaps focal"),
        ("[dice: {weight: 0}]", "gives dice weight 0"),
        ("[dice: {weight: much}]", "gives dice weight 'much'[^$]*a number"),
        ("[focal: {alpha: 1}]", "gives focal the parameter 'alpha'[^$]*gamma"),
        ("[ohem: {min_kept: 2}]", "gives ohem min_kept is 2"),
    ],
)
def test_a_loss_that_cannot_be_is_explained(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        make_loss(yaml.safe_load(text))
    assert caught.value.expected


def test_an_objective_weighs_classes_boundaries_and_heads() -> None:
    mask = np.array([[[0, 0, 0, 0, 1, 1, 255, 1]]], np.uint8)
    objective = Objective(
        class_weights=(1.0, 2.0), boundary_weight=3.0, boundary_radius=1, auxiliary_weight=0.5
    )
    target = objective.target(mask)
    assert target.weight.numpy().ravel().tolist() == [1, 1, 1, 3, 6, 2, 0, 2]
    assert float(target.total) == 16
    logits = tf.zeros((1, 1, 8, 2))
    once = float(objective([logits], target, image_size=(1, 8)))
    assert once == pytest.approx(np.log(2))
    assert float(objective([logits, logits], target, image_size=(1, 8))) == pytest.approx(
        1.5 * once
    )
