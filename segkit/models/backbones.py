"""Backbones of tf.keras.applications at output stride 16, layer by layer under Keras's names.

The topology comes from Keras itself, so that its published weights fit; here its layers are put
together again on the network's own image, with three changes that leave every weight as it is:

- Where the full depth is kept, the last stride of 2 becomes a stride of 1 and the depthwise
  convolutions after it are dilated by 2 (Chen et al. 2017, arXiv:1706.05587, section 3.1).
- Squeeze-and-excite keeps its two dimensions of size 1 instead of dropping and restoring them.
- Depthwise convolutions are segkit's, which can trace to one native op (models/layers.py).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from segkit.models.layers import DepthwiseConv2D, Dropout, Normalization

__all__ = [
    "EFFICIENTNETV2S",
    "EFFICIENTNETV2S_STRIDE_16",
    "MOBILENETV3LARGE",
    "Backbone",
    "Features",
]


class Features(NamedTuple):
    """What a backbone gives its decoder.

    Attributes:
        low: Stride 4.
        high: Stride 16.
    """

    low: tf.Tensor
    high: tf.Tensor


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A backbone of tf.keras.applications and the layers to tap.

    Args:
        application: Name of its function in tf.keras.applications.
        low: Layer at stride 4.
        high: Layer at stride 16, or at stride 32 in Keras's own network if `dilate_from` is set.
        normalization: What Keras's preprocessing does.
        dilate_from: The depthwise convolution whose stride is taken out.
        momentum: Of every batch normalisation; Keras's own if None.
    """

    application: str
    low: str
    high: str
    normalization: Normalization
    dilate_from: str | None = None
    momentum: float | None = None

    def __call__(self, image: tf.Tensor, *, native: bool) -> Features:
        """Builds the layers.

        Args:
            image: Normalised RGB, (B, H, W, 3), H and W 32 or more.
            native: Dilated depthwise convolutions as one op, see `DepthwiseConv2D`.
        """
        outputs = {_IMAGE: image}

        def tensor(value: Any) -> Any:
            return outputs[value.layer] if isinstance(value, _Output) else value

        dilated = False
        # Keras pads by whether a size is odd, at each of five strides of 2.
        height, width = (_STRIDE + size % _STRIDE for size in image.shape[1:3])
        steps = _steps(self.application, (height, width))
        wanted = _ancestors(steps, (self.low, self.high))
        for step in (step for step in steps if step.name in wanted):
            args, kwargs = tf.nest.map_structure(tensor, (step.args, step.kwargs))
            layer = self._edited(step, dilated=dilated, native=native)
            outputs[step.name] = args[0] if layer is None else layer(*args, **kwargs)
            dilated |= step.name == self.dilate_from
        return Features(outputs[self.low], outputs[self.high])

    def _edited(self, step: _Step, *, dilated: bool, native: bool) -> tf.keras.layers.Layer | None:
        """A new layer, or None where the tensor passes through."""
        cls, config = step.cls, dict(step.config)
        if cls is tf.keras.layers.Reshape or step.name == f"{self.dilate_from}/pad":
            return None
        if cls is tf.keras.layers.DepthwiseConv2D:
            cls = DepthwiseConv2D
            if dilated:
                config |= {"dilation_rate": (2, 2), "native": native}
            if step.name == self.dilate_from:
                config |= {"strides": (1, 1), "padding": "same"}
        elif cls is tf.keras.layers.BatchNormalization and self.momentum is not None:
            config["momentum"] = self.momentum
        elif cls is tf.keras.layers.Dropout:
            cls = Dropout
        elif cls is tf.keras.layers.GlobalAveragePooling2D:
            config["keepdims"] = True
        return cls.from_config(config)

    def as_published(
        self, weights: str | None, image_size: tuple[int, int] = (224, 224)
    ) -> tf.keras.Model:
        """The network of tf.keras.applications, without classifier and preprocessing.

        Args:
            weights: "imagenet" (downloads them unless Keras has them in its cache), a file of
                them, or None.
            image_size: Height and width; Keras's padding depends on them.
        """
        return _published(self.application, weights, image_size)


@dataclass(frozen=True)
class _Output:
    """Stands for a layer's output among the arguments of another."""

    layer: str


class _Step(NamedTuple):
    """One layer of a network: what makes it, and what it is called with."""

    name: str
    cls: type[tf.keras.layers.Layer]
    config: dict[str, Any]
    args: Any
    kwargs: Any


_IMAGE = ""  # stands for the input among the layers' names
_STRIDE = 32  # of all these networks, as Keras has them


def _published(
    application: str, weights: str | None, image_size: tuple[int, int]
) -> tf.keras.Model:
    return getattr(tf.keras.applications, application)(
        input_shape=(*image_size, 3),
        include_top=False,
        include_preprocessing=False,
        weights=weights,
    )


@functools.lru_cache(maxsize=8)  # Keras takes seconds to build the large ones
def _steps(application: str, image_size: tuple[int, int]) -> tuple[_Step, ...]:
    """The layers of a published network, in topological order."""
    image, *layers = _published(application, None, image_size).layers

    def output(value: Any) -> Any:
        history = getattr(value, "_keras_history", None)
        if history is None:
            return value
        return _Output(_IMAGE if history.layer is image else history.layer.name)

    steps = []
    for layer in layers:
        node = layer.inbound_nodes[0]
        args, kwargs = tf.nest.map_structure(output, (node.call_args, node.call_kwargs))
        config = layer.get_config()
        config.pop("dtype", None)  # the policy of this build is not that of the next
        steps.append(_Step(layer.name, type(layer), config, args, kwargs))
    return tuple(steps)


def _ancestors(steps: tuple[_Step, ...], names: tuple[str, ...]) -> set[str]:
    """The named layers and all that they depend on."""
    found = set(names)
    for step in reversed(steps):
        if step.name in found:
            values = tf.nest.flatten((step.args, step.kwargs))
            found.update(value.layer for value in values if isinstance(value, _Output))
    return found


_EFFICIENTNETV2S_NORMALIZATION = Normalization((128.0,) * 3, (128.0,) * 3, "RGB / 128 - 1")

# Tan, Le 2021, arXiv:2104.00298, table 4: stage 2 at stride 4, stage 6 at stride 32.
EFFICIENTNETV2S = Backbone(
    application="EfficientNetV2S",
    low="block2d_add",
    high="block6o_add",
    normalization=_EFFICIENTNETV2S_NORMALIZATION,
    dilate_from="block6a_dwconv2",
)

# Cut after stage 5, which ends at stride 16: a quarter of the parameters, and no dilation.
EFFICIENTNETV2S_STRIDE_16 = Backbone(
    application="EfficientNetV2S",
    low="block2d_add",
    high="block5i_add",
    normalization=_EFFICIENTNETV2S_NORMALIZATION,
)

# Howard et al. 2019, arXiv:1905.02244, table 1.
MOBILENETV3LARGE = Backbone(
    application="MobileNetV3Large",
    low="expanded_conv_2/Add",
    high="expanded_conv_14/Add",
    normalization=Normalization((127.5,) * 3, (127.5,) * 3, "RGB / 127.5 - 1"),
    dilate_from="expanded_conv_12/depthwise",
    # Keras's 0.999 is for ImageNet's hundreds of thousands of steps: after a thousand steps the
    # moving statistics would still hold a third of where they began. Its depthwise convolutions
    # begin with a thousandth of the variance that the statistics begin with, and even by 0.99 a
    # trained network came to nothing at inference for hundreds of steps.
    momentum=0.9,
)
