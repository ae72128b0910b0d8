"""The networks: `build_model(name, ...)`. A new network is one file and one line in NETWORKS."""

from __future__ import annotations

import difflib
from typing import NamedTuple, Protocol

import tensorflow as tf

from segkit.errors import ModelError
from segkit.models import ddrnet
from segkit.models.layers import IMAGENET_NORMALIZATION, Resize, imagenet_normalization

__all__ = ["NETWORKS", "Network", "build_model", "get_network", "inference_model"]


class _NetworkFunction(Protocol):
    """What a network file offers: normalised image in, logits at the network's own stride out."""

    def __call__(
        self, image: tf.Tensor, num_classes: int, *, auxiliary: bool
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the main logits and, if asked for, the auxiliary head's."""


class Network(NamedTuple):
    """A network and what it asks of its image size.

    Attributes:
        function: Builds the layers.
        multiple: Height and width must be multiples of this.
        normalization: What its normalisation layer does, in words.
    """

    function: _NetworkFunction
    multiple: int
    normalization: str


NETWORKS = {
    "ddrnet23_slim": Network(ddrnet.ddrnet23_slim, 8, IMAGENET_NORMALIZATION),
}


def build_model(
    name: str, image_size: tuple[int, int], num_classes: int, *, auxiliary: bool = False
) -> tf.keras.Model:
    """Builds a network with its normalisation inside and logits at the size of its image.

    Args:
        name: A key of NETWORKS.
        image_size: Height and width, pixels. Weights fit a model of any other size.
        num_classes: Number of classes, with the background.
        auxiliary: Also return the auxiliary head's logits, for training.

    Returns:
        A functional model: float32 (B, H, W, 3), RGB 0..255 -> float32 logits
        (B, H, W, num_classes), or a list of two of them where `auxiliary` is set.

    Raises:
        ModelError: There is no such network, or it cannot take that image size.
    """
    network = get_network(name)
    _check_image_size(name, image_size, network.multiple)
    # === Layers ===
    to_image_size = Resize(image_size, name="logits", dtype="float32")
    auxiliary_to_image_size = Resize(image_size, name="auxiliary_logits", dtype="float32")

    # === Functional model ===
    image = tf.keras.Input((*image_size, 3), name="image")
    x = imagenet_normalization(name="normalization")(image)
    main, extra = network.function(x, num_classes, auxiliary=auxiliary)
    logits = to_image_size(main)
    outputs = logits if extra is None else [logits, auxiliary_to_image_size(extra)]
    return tf.keras.Model(image, outputs, name=name)


def inference_model(model: tf.keras.Model) -> tf.keras.Model:
    """The same layers and weights without the auxiliary head."""
    return tf.keras.Model(model.input, model.get_layer("logits").output, name=model.name)


def get_network(name: str) -> Network:
    """Looks a network up; a ModelError names the ones there are."""
    if name not in NETWORKS:
        close = difflib.get_close_matches(name, NETWORKS, n=1)
        raise ModelError(
            f"there is no network '{name}'",
            expected=f"perhaps '{close[0]}'" if close else "one of " + ", ".join(NETWORKS),
        )
    return NETWORKS[name]


def _check_image_size(name: str, image_size: tuple[int, int], multiple: int) -> None:
    if any(size <= 0 or size % multiple for size in image_size):
        height, width = (max(1, -(-size // multiple)) * multiple for size in image_size)
        raise ModelError(
            f"the image size {image_size[0]} {image_size[1]} does not fit {name}",
            expected=f"a height and a width that are multiples of {multiple}",
            next_step=f"--image_size {height} {width}",
        )
