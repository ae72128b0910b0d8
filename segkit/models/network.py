"""What a network file offers, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from segkit.models.backbones import Backbone
from segkit.models.layers import Normalization, ResizeMethod

__all__ = ["Network", "NetworkFunction", "NetworkOptions"]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What `build_model` was asked for; a network reads what it has a use for.

    Args:
        auxiliary: Build the auxiliary head too, if the network has one.
        resize: The form of resizes and of dilated depthwise convolutions.
        aspp_rates: Dilation rates of ASPP.
    """

    auxiliary: bool = False
    resize: ResizeMethod = "bilinear"
    aspp_rates: tuple[int, ...] = ()


# (normalised image, num_classes, options) -> logits at the network's own stride, and those of the
# auxiliary head or None.
NetworkFunction = Callable[[tf.Tensor, int, NetworkOptions], tuple[tf.Tensor, tf.Tensor | None]]


class Network(NamedTuple):
    """A line of NETWORKS.

    Attributes:
        function: Builds the layers.
        normalization: What its backbone was trained with.
        head: The first parts, up to a dot, of the names of all layers that are not the backbone's.
        backbone: The backbone, if it is one of tf.keras.applications.
        has_aspp: Whether `aspp_rates` mean anything to it.
    """

    function: NetworkFunction
    normalization: Normalization
    head: tuple[str, ...]
    backbone: Backbone | None = None
    has_aspp: bool = False
