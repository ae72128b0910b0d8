from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from segkit.errors import ModelError
from segkit.labels import LabelMap
from segkit.models import ALIASES, NETWORKS, build_model, canonical_name, resolve_aspp_rates
from segkit.models.checkpoints import CheckpointRecord, load_checkpoint, save_checkpoint

NETWORK = "mobilenetv3_deeplabv3plus"


def rates(model: tf.keras.Model) -> list[tuple[int, int]]:
    return [model.get_layer(f"aspp.{index}.depthwise").dilation_rate for index in (1, 2, 3)]


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 1024), (6, 12, 18)), ((480, 640), (3, 6, 9))]
)
def test_aspp_rates_follow_the_image_size(size: tuple[int, int], expected: tuple[int, ...]) -> None:
    assert resolve_aspp_rates(NETWORK, size, None) == expected
    assert resolve_aspp_rates("ddrnet23_slim", size, None) == ()


def test_aspp_rates_can_be_chosen() -> None:
    assert rates(build_model(NETWORK, (64, 64), 2, aspp_rates=[2, 4, 8])) == [
        (2, 2),
        (4, 4),
        (8, 8),
    ]


def test_a_checkpoint_keeps_its_rates_at_another_image_size(tmp_path: Path) -> None:
    model = build_model(NETWORK, (64, 64), 2, aspp_rates=(3, 6, 9))
    record = CheckpointRecord(
        network=NETWORK,
        image_size=(64, 64),
        labels=LabelMap.from_names("ab"),
        auxiliary=False,
        precision="float32",
        epoch=1,
        step=1,
        val_mean_iou=None,
        aspp_rates=(3, 6, 9),
    )
    save_checkpoint(model, record, tmp_path / "best.h5")
    large, again = load_checkpoint(tmp_path / "best.h5", image_size=(512, 512))
    assert again == record
    assert rates(large) == [(3, 3), (6, 6), (9, 9)]


@pytest.mark.parametrize(
    ("network", "aspp_rates", "words"),
    [("ddrnet23_slim", (6, 12, 18), "ddrnet23_slim has no ASPP"), (NETWORK, (0, 6), "1 or more")],
)
def test_rates_that_mean_nothing_are_refused(
    network: str, aspp_rates: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        build_model(network, (64, 64), 2, aspp_rates=aspp_rates)


def test_a_resize_that_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match="one of bilinear, matmul"):
        build_model(NETWORK, (64, 64), 2, resize="nearest")  # type: ignore[arg-type]


@pytest.mark.parametrize("alias", [*ALIASES, "DDRNet_23_slim", "Eff-DeepLabV3+"])
def test_the_names_of_other_toolkits_are_understood(alias: str) -> None:
    assert canonical_name(alias) in NETWORKS


# Facts measured on Keras's backbones with this head, 11 classes: millions of parameters, moving
# statistics included.
@pytest.mark.parametrize(
    ("network", "millions"),
    [
        ("efficientnetv2s_deeplabv3plus", 20.83),
        ("efficientnetv2s_deeplabv3plus_light", 5.58),
        (NETWORK, 3.54),
    ],
)
def test_has_the_expected_number_of_parameters(network: str, millions: float) -> None:
    model = build_model(network, (64, 64), 11)
    assert model.count_params() / 1e6 == pytest.approx(millions, abs=0.006)
