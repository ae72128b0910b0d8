"""Layers and layer recipes that several networks share.

Some stand where Keras's own would break a TensorRT engine in pieces (docs/tensorrt-report.md):
`Resize` has two forms of one function, and so have dilated depthwise convolutions.
"""

from __future__ import annotations

import random
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

__all__ = [
    "Conv2D",
    "DepthwiseConv2D",
    "Dropout",
    "Normalization",
    "Resize",
    "ResizeMethod",
    "add",
    "batch_normalization",
    "convolution",
    "interpolation_matrix",
    "resize_like",
]

ResizeMethod = Literal["bilinear", "matmul"]


class Normalization(NamedTuple):
    """What a network subtracts from its image and divides it by, by channel.

    Attributes:
        mean: Of red, green and blue, on the scale 0..255.
        std: Likewise.
        words: The same for people.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    words: str

    def layer(self, *, name: str) -> tf.keras.layers.Layer:
        """float32 RGB 0..255 -> normalised; it has no weights."""
        variance = [std**2 for std in self.std]
        return tf.keras.layers.Normalization(mean=list(self.mean), variance=variance, name=name)


@tf.keras.utils.register_keras_serializable("segkit")
class Dropout(tf.keras.layers.Dropout):
    """Keras's own, whose random state is in a checkpoint: a training that is resumed goes on."""

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)
        # Python's own random numbers are what `set_random_seed` seeds.
        self._random = tf.random.Generator.from_seed(random.getrandbits(63))

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Sets a share of the values to 0 in training, and scales the others up."""
        if not training:
            return inputs
        return tf.nn.experimental.general_dropout(
            inputs,
            rate=self.rate,
            noise_shape=self._get_noise_shape(inputs),
            uniform_sampler=self._random.uniform,
        )


# === Convolutions ===


def convolution(
    x: tf.Tensor,
    filters: int,
    kernel_size: int,
    *,
    name: str,
    strides: int = 1,
    use_bias: bool = False,
    dtype: str | None = None,
) -> tf.Tensor:
    """A convolution padded as PyTorch pads it: `kernel_size // 2` zeros on every side.

    TensorFlow's "same" pads a strided convolution by (0, 1) on even sizes, so weights trained with
    symmetric padding would see an image shifted by half a pixel at every stride.
    """
    padding = "same"
    if strides > 1 and kernel_size > 1:
        x = tf.keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}.pad")(x)
        padding = "valid"
    return tf.keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=use_bias,
        # He et al. 2015, fan-out, as PyTorch's kaiming_normal_ draws it.
        kernel_initializer=tf.keras.initializers.VarianceScaling(
            2.0, mode="fan_out", distribution="untruncated_normal"
        ),
        dtype=dtype,
        name=name,
    )(x)


def batch_normalization(x: tf.Tensor, *, name: str) -> tf.Tensor:
    """Batch normalisation with PyTorch's defaults (its momentum 0.1 is Keras's 0.9)."""
    return tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def add(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Sum of two tensors, in the precision of the policy."""
    return tf.keras.layers.Add()([x, y])


@tf.keras.utils.register_keras_serializable("segkit")
class Conv2D(tf.keras.layers.Conv2D):
    """Keras's Conv2D, whose dilation is, at inference, an attribute of one Conv2D op.

    Keras's own traces a dilated convolution to SpaceToBatchND, Conv2D and BatchToSpaceND, the two
    outer of which TF-TRT does not know. In training it stays that way: on a CPU only oneDNN's
    kernels have the gradient of the one op.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """(B, h, w, C) -> (B, h', w', filters)."""
        if training or self.dilation_rate == (1, 1):
            return super().call(inputs)
        outputs = tf.nn.conv2d(
            inputs,
            self.kernel,
            self.strides,
            self.padding.upper(),
            dilations=self.dilation_rate,
        )
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


@tf.keras.utils.register_keras_serializable("segkit")
class DepthwiseConv2D(tf.keras.layers.DepthwiseConv2D):
    """Keras's DepthwiseConv2D, whose dilation TF-TRT takes as well.

    Keras's own traces to SpaceToBatchND and BatchToSpaceND, which TF-TRT does not know. One
    DepthwiseConv2dNative op with dilations it would take, but no kernel of TensorFlow 2.15 but
    oneDNN's does, and TF-TRT runs the network by TensorFlow's own kernels before it builds an
    engine. So for TensorRT the two are spelled out as reshapes and transposes (docs/adr/0007).

    Args:
        native: Trace to ops that TF-TRT takes, at inference.
    """

    def __init__(self, *args: Any, native: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.native = native

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """(B, h, w, C) -> (B, h', w', C * depth_multiplier)."""
        if not self.native or training or self.dilation_rate == (1, 1):
            return super().call(inputs)
        outputs = self._in_phases(inputs)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def _in_phases(self, x: tf.Tensor) -> tf.Tensor:
        """Every rate-th row and column is an image of its own, and its convolution a dense one."""
        rate, kernel = np.array(self.dilation_rate), np.array(self.kernel_size)
        size = np.array(x.shape[1:3])
        halo = rate * (kernel - 1)  # what the dilated kernel covers besides the pixel itself
        before = halo // 2 if self.padding == "same" else np.zeros(2, int)
        answered = size if self.padding == "same" else size - halo
        phase = -(-answered // rate) + kernel - 1  # height and width of one, the last rows padding
        after = np.maximum(phase * rate - size - before, 0)
        x = tf.pad(x, [[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]])
        x = tf.reshape(x, [-1, phase[0], rate[0], phase[1], rate[1], x.shape[-1]])
        x = tf.transpose(x, [0, 2, 4, 1, 3, 5])  # (B, rate, rate, h, w, C)
        x = tf.reshape(x, [-1, *phase, x.shape[-1]])
        x = tf.nn.depthwise_conv2d(x, self.depthwise_kernel, [1, 1, 1, 1], "VALID")
        height, width = phase - kernel + 1
        x = tf.reshape(x, [-1, *rate, height, width, x.shape[-1]])
        x = tf.transpose(x, [0, 3, 1, 4, 2, 5])
        x = tf.reshape(x, [-1, height * rate[0], width * rate[1], x.shape[-1]])
        return x[:, : answered[0], : answered[1]]

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `from_config`."""
        return {**super().get_config(), "native": self.native}


# === Resize ===


def resize_like(x: tf.Tensor, reference: tf.Tensor, method: ResizeMethod) -> tf.Tensor:
    """Resizes to the height and width of another tensor."""
    return Resize(reference.shape[1:3], method)(x)


@tf.keras.utils.register_keras_serializable("segkit")
class Resize(tf.keras.layers.Layer):
    """Bilinear resize with half-pixel centres (PyTorch's align_corners=False), in two forms.

    Args:
        size: Height and width of the output.
        method: "bilinear" is tf.image.resize. "matmul" is the same function as two products with
            constant matrices: TF-TRT refuses ResizeBilinear with half-pixel centres.
    """

    def __init__(
        self, size: tuple[int, int], method: ResizeMethod = "bilinear", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.size = (size[0], size[1])
        self.method = method

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """(B, h, w, C) -> (B, *size, C)."""
        if tuple(x.shape[1:3]) == self.size:
            return tf.cast(x, self.compute_dtype)
        if self.method == "matmul":
            return self._products(x)
        # tf.image.resize answers in float32 whatever it is given.
        return tf.cast(tf.image.resize(x, self.size, method="bilinear"), self.compute_dtype)

    def _products(self, x: tf.Tensor) -> tf.Tensor:
        height, width, channels = x.shape[1:]
        out_height, out_width = self.size
        columns = interpolation_matrix(width, out_width)[np.newaxis, np.newaxis]
        rows = interpolation_matrix(height, out_height)[np.newaxis]
        x = tf.matmul(tf.constant(columns, x.dtype), x)  # (B, h, W, C)
        x = tf.reshape(x, [-1, height, out_width * channels])  # (B, h, W * C)
        x = tf.matmul(tf.constant(rows, x.dtype), x)  # (B, H, W * C)
        return tf.reshape(x, [-1, out_height, out_width, channels])

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `from_config`."""
        return {**super().get_config(), "size": list(self.size), "method": self.method}


def interpolation_matrix(size: int, out_size: int) -> npt.NDArray[np.float32]:
    """Row i holds the weights of the inputs in output i: float32 (out_size, size), rows sum to 1.

    The positions are computed in float32 in the order of TensorFlow's kernel (resize_bilinear_op,
    HalfPixelScaler), so that both forms round alike.
    """
    scale = np.float32(size) / np.float32(out_size)
    position = (np.arange(out_size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    below = np.floor(position)
    fraction = position - below
    matrix = np.zeros((out_size, size), np.float32)
    index = np.arange(out_size)
    # At the borders both neighbours are the same input, so that the weights add up there.
    np.add.at(matrix, (index, np.clip(below, 0, size - 1).astype(int)), 1 - fraction)
    np.add.at(matrix, (index, np.clip(below + 1, 0, size - 1).astype(int)), fraction)
    return matrix
