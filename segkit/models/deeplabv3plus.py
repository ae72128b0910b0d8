"""DeepLabV3+ on three backbones.

Reference: Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution
for Semantic Image Segmentation", arXiv:1802.02611, figure 2 and section 3. The 3x3 convolutions of
ASPP and of the decoder are separable, as in its section 3.2: dense ones would cost three times as
much. Only the head is named here; the backbones' layers keep Keras's names (models/backbones.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from segkit.models import backbones
from segkit.models.backbones import Backbone
from segkit.models.layers import (
    DepthwiseConv2D,
    Dropout,
    batch_normalization,
    convolution,
    resize_like,
)
from segkit.models.network import NetworkOptions

__all__ = [
    "EFFICIENTNETV2S_DEEPLABV3PLUS",
    "EFFICIENTNETV2S_DEEPLABV3PLUS_LIGHT",
    "HEAD",
    "MOBILENETV3_DEEPLABV3PLUS",
    "DeepLabV3Plus",
    "default_aspp_rates",
]

HEAD = ("aspp", "decoder")  # first parts of the names of the head's layers
DROPOUT = 0.1  # of the projected ASPP features, as in the authors' released code
# Below this short side, pixels, a rate of 18 at stride 16 mostly sees padding: Chen et al. 2017,
# arXiv:1706.05587, section 3.3.
LARGE_IMAGE = 512


@dataclass(frozen=True, kw_only=True)
class DeepLabV3Plus:
    """A backbone with the head of DeepLabV3+.

    Args:
        backbone: Features at strides 4 and 16.
        aspp_filters: Filters of each branch of ASPP.
        low_filters: Filters that the stride-4 features are reduced to; 48 in section 4.1.
        decoder_filters: Filters of the decoder.
        activation: After every normalisation of the head.
    """

    backbone: Backbone
    aspp_filters: int = 256
    low_filters: int = 48
    decoder_filters: int = 256
    activation: str = "swish"

    def __call__(
        self, image: tf.Tensor, num_classes: int, options: NetworkOptions
    ) -> tuple[tf.Tensor, None]:
        """Builds the network.

        Args:
            image: Normalised RGB, (B, H, W, 3).
            num_classes: Number of classes.
            options: `aspp_rates` are the dilations of ASPP's separable branches.

        Returns:
            Logits, float32, (B, H / 4, W / 4, num_classes); there is no auxiliary head.
        """
        features = self.backbone(image, native=options.resize == "matmul")
        x = self._aspp(features.high, options)
        low = self._pointwise(features.low, self.low_filters, name="decoder.low")
        x = tf.keras.layers.Concatenate(name="decoder.concat")(
            [resize_like(x, low, options.resize), low]
        )
        x = self._separable(x, self.decoder_filters, name="decoder.0")
        x = self._separable(x, self.decoder_filters, name="decoder.1")
        # float32 whatever the policy: a softmax of half-precision logits loses small classes.
        logits = convolution(
            x, num_classes, 1, use_bias=True, dtype="float32", name="decoder.classifier"
        )
        return logits, None

    def _aspp(self, x: tf.Tensor, options: NetworkOptions) -> tf.Tensor:
        """Atrous Spatial Pyramid Pooling: (B, h, w, C) -> (B, h, w, aspp_filters)."""
        pooled = tf.keras.layers.GlobalAveragePooling2D(keepdims=True, name="aspp.pool")(x)
        pooled = self._pointwise(pooled, self.aspp_filters, name="aspp.pool")
        branches = [
            resize_like(pooled, x, options.resize),
            self._pointwise(x, self.aspp_filters, name="aspp.0"),
        ]
        native = options.resize == "matmul"
        for index, rate in enumerate(options.aspp_rates, start=1):
            branches.append(
                self._separable(
                    x, self.aspp_filters, rate=rate, native=native, name=f"aspp.{index}"
                )
            )
        x = tf.keras.layers.Concatenate(name="aspp.concat")(branches)
        x = self._pointwise(x, self.aspp_filters, name="aspp.project")
        return Dropout(DROPOUT, name="aspp.dropout")(x)

    def _pointwise(self, x: tf.Tensor, filters: int, *, name: str) -> tf.Tensor:
        x = convolution(x, filters, 1, name=f"{name}.conv")
        return self._bn_activation(x, name=name)

    def _separable(
        self, x: tf.Tensor, filters: int, *, name: str, rate: int = 1, native: bool = False
    ) -> tf.Tensor:
        """Depthwise 3x3 and pointwise, each with normalisation and activation (section 4.2)."""
        x = DepthwiseConv2D(
            3,
            padding="same",
            dilation_rate=rate,
            use_bias=False,
            native=native,
            depthwise_initializer=tf.keras.initializers.VarianceScaling(2.0, mode="fan_out"),
            name=f"{name}.depthwise",
        )(x)
        x = self._bn_activation(x, name=f"{name}.depthwise")
        return self._pointwise(x, filters, name=name)

    def _bn_activation(self, x: tf.Tensor, *, name: str) -> tf.Tensor:
        x = batch_normalization(x, name=f"{name}.bn")
        return tf.keras.layers.Activation(self.activation, name=f"{name}.activation")(x)


def default_aspp_rates(image_size: tuple[int, int]) -> tuple[int, ...]:
    """Rates 6, 12, 18 of the paper (output stride 16), halved for images below LARGE_IMAGE."""
    return (6, 12, 18) if min(image_size) >= LARGE_IMAGE else (3, 6, 9)


EFFICIENTNETV2S_DEEPLABV3PLUS = DeepLabV3Plus(backbone=backbones.EFFICIENTNETV2S)

EFFICIENTNETV2S_DEEPLABV3PLUS_LIGHT = DeepLabV3Plus(
    backbone=backbones.EFFICIENTNETV2S_STRIDE_16,
    aspp_filters=128,
    low_filters=24,
    decoder_filters=128,
)

MOBILENETV3_DEEPLABV3PLUS = DeepLabV3Plus(backbone=backbones.MOBILENETV3LARGE, activation="relu")
