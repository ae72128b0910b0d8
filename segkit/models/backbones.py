"""Backbones of tf.keras.applications at output stride 16, layer by layer under Keras's names.

The topology comes from Keras itself, so that its published weights fit; here its layers are put
together again on the network's own image, with three changes that leave every weight as it is:

- Where the full depth is kept, the last stride of 2 becomes a stride of 1 and the depthwise
  convolutions after it are dilated by 2 (Chen et al. 2017, arXiv:1706.05587, section 3.1).
- Squeeze-and-excite keeps its two dimensions of size 1 instead of dropping and restoring them.
- Depthwise convolutions are segkit's, which can trace to one native op (models/layers.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from segkit.models.layers import DepthwiseConv2D, Normalization

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
        original = self.as_published(None, (image.shape[1], image.shape[2]))
        edited = self._edited_layers(original, native=native)
        tensors: dict[str, tf.Tensor] = {original.layers[0].name: image}

        def tensor_of(keras_tensor: Any) -> Any:
            """The counterpart of an output of the original; constants stay what they are."""
            history = getattr(keras_tensor, "_keras_history", None)
            return keras_tensor if history is None else tensors[history.layer.name]

        wanted = _ancestors(original, (self.low, self.high))
        for layer in original.layers[1:]:  # in topological order
            if layer.name not in wanted:
                continue
            node = layer.inbound_nodes[0]
            args = tf.nest.map_structure(tensor_of, node.call_args)
            kwargs = tf.nest.map_structure(tensor_of, node.call_kwargs)
            new = edited[layer.name]
            tensors[layer.name] = args[0] if new is None else new(*args, **kwargs)
        return Features(tensors[self.low], tensors[self.high])

    def as_published(
        self, weights: str | None, image_size: tuple[int, int] = (224, 224)
    ) -> tf.keras.Model:
        """The network of tf.keras.applications, without classifier and preprocessing.

        Args:
            weights: "imagenet" (downloads them unless Keras has them in its cache), a file of
                them, or None.
            image_size: Height and width; Keras's padding depends on them.
        """
        function = getattr(tf.keras.applications, self.application)
        return function(
            input_shape=(*image_size, 3),
            include_top=False,
            include_preprocessing=False,
            weights=weights,
        )

    def _edited_layers(
        self, original: tf.keras.Model, *, native: bool
    ) -> dict[str, tf.keras.layers.Layer | None]:
        """New layers by name; None where the tensor passes through."""
        layers: dict[str, tf.keras.layers.Layer | None] = {}
        dilated = False
        for layer in original.layers[1:]:
            cls, config = type(layer), layer.get_config()
            if cls is tf.keras.layers.DepthwiseConv2D:
                cls = DepthwiseConv2D
                if dilated:
                    config |= {"dilation_rate": (2, 2), "native": native}
                if layer.name == self.dilate_from:
                    config |= {"strides": (1, 1), "padding": "same"}
                    dilated = True
            elif cls is tf.keras.layers.BatchNormalization and self.momentum is not None:
                config["momentum"] = self.momentum
            elif cls is tf.keras.layers.GlobalAveragePooling2D:
                config["keepdims"] = True
            passes = cls is tf.keras.layers.Reshape or layer.name == f"{self.dilate_from}/pad"
            layers[layer.name] = None if passes else cls.from_config(config)
        return layers


def _ancestors(model: tf.keras.Model, names: tuple[str, ...]) -> set[str]:
    """The named layers and all that they depend on."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            inputs = model.get_layer(name).inbound_nodes[0].keras_inputs
            left += [tensor._keras_history.layer.name for tensor in inputs]
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
    # moving statistics would still hold a third of where they began.
    momentum=0.99,
)
