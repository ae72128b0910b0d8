"""The networks: `build_model(name, ...)`. A new network is one file and one line in NETWORKS."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import tensorflow as tf

from segkit.errors import ModelError
from segkit.models import ddrnet, deeplabv3plus
from segkit.models.deeplabv3plus import DeepLabV3Plus
from segkit.models.layers import Resize, ResizeMethod
from segkit.models.network import Network, NetworkOptions
from segkit.models.pretrained import load_pretrained

__all__ = [
    "ALIASES",
    "MIN_IMAGE_SIZE",
    "NETWORKS",
    "build_model",
    "canonical_name",
    "get_network",
    "heads_model",
    "inference_model",
    "resolve_aspp_rates",
]

logger = logging.getLogger(__name__)


def _deeplabv3plus(network: DeepLabV3Plus) -> Network:
    backbone = network.backbone
    return Network(network, backbone.normalization, deeplabv3plus.HEAD, backbone, has_aspp=True)


NETWORKS = {
    "ddrnet23_slim": Network(ddrnet.ddrnet23_slim, ddrnet.NORMALIZATION, ddrnet.HEAD),
    "efficientnetv2s_deeplabv3plus": _deeplabv3plus(deeplabv3plus.EFFICIENTNETV2S_DEEPLABV3PLUS),
    "efficientnetv2s_deeplabv3plus_light": _deeplabv3plus(
        deeplabv3plus.EFFICIENTNETV2S_DEEPLABV3PLUS_LIGHT
    ),
    "mobilenetv3_deeplabv3plus": _deeplabv3plus(deeplabv3plus.MOBILENETV3_DEEPLABV3PLUS),
}

# What other toolkits call them, in lower case.
ALIASES = {
    "ddrnet_23_slim": "ddrnet23_slim",
    "ddrnet-23-slim": "ddrnet23_slim",
    "eff-deeplabv3+": "efficientnetv2s_deeplabv3plus",
    "eff-deeplabv3+ light-weight": "efficientnetv2s_deeplabv3plus_light",
    "eff-deeplabv3+-light": "efficientnetv2s_deeplabv3plus_light",
    "mobilenetv3-deeplabv3+": "mobilenetv3_deeplabv3plus",
}

MIN_IMAGE_SIZE = 32  # height and width, pixels: one step of the deepest stride


def build_model(
    name: str,
    image_size: tuple[int, int],
    num_classes: int,
    *,
    auxiliary: bool = False,
    resize: ResizeMethod = "bilinear",
    weights: str | Path = "none",
    aspp_rates: Sequence[int] | None = None,
) -> tf.keras.Model:
    """Builds a network with its normalisation inside and logits at the size of its image.

    Args:
        name: A key of NETWORKS or ALIASES.
        image_size: Height and width, pixels. Weights fit a model of any other size.
        num_classes: Number of classes, with the background.
        auxiliary: Also return the auxiliary head's logits, for training, if the network has one.
        resize: "bilinear" for training and for CPU serving; "matmul" is the same function with the
            same weights in the form for TensorRT: resizes are matrix products, and dilated
            depthwise convolutions one op at inference (models/layers.py).
        weights: "none" (random), "imagenet" (Keras's, for the backbone), or a file, see
            `load_pretrained`.
        aspp_rates: Dilation rates of ASPP; `default_aspp_rates` of the image size if None.

    Returns:
        A functional model: float32 (B, H, W, 3), RGB 0..255 -> float32 logits
        (B, H, W, num_classes), or a list of two of them with `auxiliary`.

    Raises:
        ModelError: There is no such network, or it cannot be built that way.
        CheckpointError: The weights cannot be fetched, or do not fit.
    """
    name = canonical_name(name)
    network = NETWORKS[name]
    _check_image_size(image_size)
    if resize not in get_args(ResizeMethod):
        raise ModelError(
            f"there is no resize '{resize}'", expected="one of " + ", ".join(get_args(ResizeMethod))
        )
    options = NetworkOptions(
        auxiliary=auxiliary,
        resize=resize,
        aspp_rates=resolve_aspp_rates(name, image_size, aspp_rates),
    )
    # === Layers ===
    to_image_size = Resize(image_size, resize, name="logits", dtype="float32")
    auxiliary_to_image_size = Resize(image_size, resize, name="auxiliary_logits", dtype="float32")

    # === Functional model ===
    image = tf.keras.Input((*image_size, 3), name="image")
    x = network.normalization.layer(name="normalization")(image)
    main, extra = network.function(x, num_classes, options)
    logits = to_image_size(main)
    outputs = logits if extra is None else [logits, auxiliary_to_image_size(extra)]
    model = tf.keras.Model(image, outputs, name=name)

    if weights != "none":
        logger.info("%s: %s", name, load_pretrained(model, network, weights))
    return model


def inference_model(model: tf.keras.Model) -> tf.keras.Model:
    """The same layers and weights without the auxiliary head."""
    return tf.keras.Model(model.input, model.get_layer("logits").output, name=model.name)


def heads_model(model: tf.keras.Model) -> tf.keras.Model:
    """The same layers and weights without the last resize: each head's logits as it makes them."""
    heads = [layer.name for layer in model.layers if layer.name in ("logits", "auxiliary_logits")]
    order = sorted(heads, key=("logits", "auxiliary_logits").index)
    return tf.keras.Model(model.input, [model.get_layer(name).input for name in order])


def canonical_name(name: str) -> str:
    """The key of NETWORKS that a name or an alias means.

    Raises:
        ModelError: There is no such network; the message names the close one, or all.
    """
    if name in NETWORKS:
        return name
    if name.lower() in ALIASES:
        return ALIASES[name.lower()]
    close = difflib.get_close_matches(name, NETWORKS, n=1)
    raise ModelError(
        f"there is no network '{name}'",
        expected=f"perhaps '{close[0]}'" if close else "one of " + ", ".join(NETWORKS),
    )


def get_network(name: str) -> Network:
    """The line of NETWORKS for a name or an alias, see `canonical_name`."""
    return NETWORKS[canonical_name(name)]


def resolve_aspp_rates(
    name: str, image_size: tuple[int, int], aspp_rates: Sequence[int] | None
) -> tuple[int, ...]:
    """The dilation rates that a network is built with; none for a network without ASPP.

    They are no weights, but the weights are trained for them: whoever keeps the weights must keep
    the rates too.

    Raises:
        ModelError: The network has no ASPP, or a rate is not positive.
    """
    has_aspp = get_network(name).has_aspp
    if not aspp_rates:
        return deeplabv3plus.default_aspp_rates(image_size) if has_aspp else ()
    if not has_aspp:
        raise ModelError(
            f"{name} has no ASPP, so aspp_rates {', '.join(map(str, aspp_rates))} mean nothing",
            expected="no aspp_rates, or one of "
            + ", ".join(key for key, network in NETWORKS.items() if network.has_aspp),
        )
    if any(rate < 1 for rate in aspp_rates):
        raise ModelError(
            f"aspp_rates are {', '.join(map(str, aspp_rates))}",
            expected="dilation rates of 1 or more, such as 6 12 18",
        )
    return tuple(aspp_rates)


def _check_image_size(image_size: tuple[int, int]) -> None:
    if any(size < MIN_IMAGE_SIZE for size in image_size):
        height, width = (max(size, MIN_IMAGE_SIZE) for size in image_size)
        raise ModelError(
            f"the image size {image_size[0]} {image_size[1]} is too small",
            expected=f"a height and a width of {MIN_IMAGE_SIZE} or more",
            next_step=f"--image_size {height} {width}",
        )
