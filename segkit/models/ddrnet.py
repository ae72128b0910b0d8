"""DDRNet-23-slim, as its authors published it.

Reference: Hong, Pan, Sun, Jia, "Deep Dual-resolution Networks for Real-time and Accurate Semantic
Segmentation of Road Scenes", arXiv:2101.06085, section III and table 1. Every layer with weights
has the name of its module in the authors' PyTorch network, so their weights fit by name.
"""

from __future__ import annotations

import tensorflow as tf

from segkit.models.layers import (
    Normalization,
    ResizeMethod,
    add,
    batch_normalization,
    convolution,
    resize_like,
)
from segkit.models.network import NetworkOptions

__all__ = ["HEAD", "NORMALIZATION", "ddrnet23_slim"]

# torchvision's mean and standard deviation of ImageNet, of RGB 0..1.
NORMALIZATION = Normalization(
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (0.229 * 255, 0.224 * 255, 0.225 * 255),
    "RGB / 255, minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)",
)
# First parts of the names of what an ImageNet classifier of the authors does not have.
HEAD = ("spp", "final_layer", "seghead_extra")
PLANES = 32  # channels at stride 4; "slim" has half of DDRNet-23's 64
SPP_PLANES = 128
HEAD_PLANES = 64
# Kernel and stride of DAPPM's pools, table 2; the fifth branch pools globally.
DAPPM_POOLS = ((5, 2), (9, 4), (17, 8))


def ddrnet23_slim(
    image: tf.Tensor, num_classes: int, options: NetworkOptions
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Builds the network.

    The authors' code needs a height and a width that are multiples of 8; here the low-resolution
    branch is resized to what the other really has, which is the same there and works elsewhere.

    Args:
        image: Normalised RGB, (B, H, W, 3).
        num_classes: Number of classes.
        options: `auxiliary` adds the head on the high-resolution branch (deep supervision).

    Returns:
        Main logits and auxiliary logits or None: float32, (B, H / 8, W / 8, num_classes).
    """
    resize = options.resize
    # Stem, stride 4
    x = convolution(image, PLANES, 3, strides=2, use_bias=True, name="conv1.0")
    x = _relu(batch_normalization(x, name="conv1.1"))
    x = convolution(x, PLANES, 3, strides=2, use_bias=True, name="conv1.3")
    x = _relu(batch_normalization(x, name="conv1.4"))

    # Shared trunk, stride 8
    x = _relu(_basic_blocks(x, PLANES, name="layer1"))
    x = _relu(_basic_blocks(x, PLANES * 2, strides=2, name="layer2"))

    # Stage 3: low resolution at stride 16, high at stride 8
    low = _basic_blocks(x, PLANES * 4, strides=2, name="layer3")
    high = _basic_blocks(x, PLANES * 2, name="layer3_")
    down = _conv_bn(_relu(high), PLANES * 4, 3, strides=2, name="down3", first=0)
    up = _conv_bn(_relu(low), PLANES * 2, 1, name="compression3", first=0)
    low = add(low, down)
    high = add(high, resize_like(up, high, resize))
    auxiliary_input = high

    # Stage 4: low at stride 32
    low = _basic_blocks(_relu(low), PLANES * 8, strides=2, name="layer4")
    high = _basic_blocks(_relu(high), PLANES * 2, name="layer4_")
    down = _relu(_conv_bn(_relu(high), PLANES * 4, 3, strides=2, name="down4", first=0))
    down = _conv_bn(down, PLANES * 8, 3, strides=2, name="down4", first=3)
    up = _conv_bn(_relu(low), PLANES * 2, 1, name="compression4", first=0)
    low = add(low, down)
    high = add(high, resize_like(up, high, resize))

    # Stage 5: low at stride 64, pooled and brought back to stride 8
    high = _bottleneck(_relu(high), PLANES * 2, name="layer5_.0")
    low = _bottleneck(_relu(low), PLANES * 8, strides=2, name="layer5.0")
    context = _dappm(low, SPP_PLANES, PLANES * 4, resize=resize, name="spp")
    x = add(high, resize_like(context, high, resize))

    logits = _head(x, num_classes, name="final_layer")
    if not options.auxiliary:
        return logits, None
    return logits, _head(auxiliary_input, num_classes, name="seghead_extra")


def _basic_blocks(x: tf.Tensor, filters: int, *, name: str, strides: int = 1) -> tf.Tensor:
    """Two residual blocks; the second leaves its ReLU to whoever takes the sum."""
    x = _relu(_basic_block(x, filters, strides=strides, name=f"{name}.0"))
    return _basic_block(x, filters, name=f"{name}.1")


def _basic_block(x: tf.Tensor, filters: int, *, name: str, strides: int = 1) -> tf.Tensor:
    residual = _shortcut(x, filters, strides=strides, name=name)
    x = convolution(x, filters, 3, strides=strides, name=f"{name}.conv1")
    x = _relu(batch_normalization(x, name=f"{name}.bn1"))
    x = convolution(x, filters, 3, name=f"{name}.conv2")
    return add(batch_normalization(x, name=f"{name}.bn2"), residual)


def _bottleneck(x: tf.Tensor, filters: int, *, name: str, strides: int = 1) -> tf.Tensor:
    """1x1, 3x3, 1x1 to twice the filters; without the last ReLU."""
    residual = _shortcut(x, filters * 2, strides=strides, name=name)
    x = convolution(x, filters, 1, name=f"{name}.conv1")
    x = _relu(batch_normalization(x, name=f"{name}.bn1"))
    x = convolution(x, filters, 3, strides=strides, name=f"{name}.conv2")
    x = _relu(batch_normalization(x, name=f"{name}.bn2"))
    x = convolution(x, filters * 2, 1, name=f"{name}.conv3")
    return add(batch_normalization(x, name=f"{name}.bn3"), residual)


def _shortcut(x: tf.Tensor, filters: int, *, strides: int, name: str) -> tf.Tensor:
    if strides == 1 and x.shape[-1] == filters:
        return x
    return _conv_bn(x, filters, 1, strides=strides, name=f"{name}.downsample", first=0)


def _dappm(
    x: tf.Tensor, filters: int, out_filters: int, *, resize: ResizeMethod, name: str
) -> tf.Tensor:
    """Deep Aggregation Pyramid Pooling Module, section III-C, figure 5."""
    branches = [_bn_relu_conv(x, filters, 1, name=f"{name}.scale0", first=0)]
    pooled = [_average_pool(x, kernel, strides) for kernel, strides in DAPPM_POOLS]
    pooled.append(tf.keras.layers.GlobalAveragePooling2D(keepdims=True)(x))
    for index, pool in enumerate(pooled, start=1):
        y = _bn_relu_conv(pool, filters, 1, name=f"{name}.scale{index}", first=1)
        y = add(resize_like(y, x, resize), branches[-1])
        branches.append(_bn_relu_conv(y, filters, 3, name=f"{name}.process{index}", first=0))
    x_all = tf.keras.layers.Concatenate()(branches)
    return add(
        _bn_relu_conv(x_all, out_filters, 1, name=f"{name}.compression", first=0),
        _bn_relu_conv(x, out_filters, 1, name=f"{name}.shortcut", first=0),
    )


def _head(x: tf.Tensor, num_classes: int, *, name: str) -> tf.Tensor:
    x = _relu(batch_normalization(x, name=f"{name}.bn1"))
    x = convolution(x, HEAD_PLANES, 3, name=f"{name}.conv1")
    x = _relu(batch_normalization(x, name=f"{name}.bn2"))
    # float32 whatever the policy: a softmax of half-precision logits loses small classes.
    return convolution(x, num_classes, 1, use_bias=True, dtype="float32", name=f"{name}.conv2")


def _average_pool(x: tf.Tensor, kernel: int, strides: int) -> tf.Tensor:
    """Pads with zeros that count in the mean, as PyTorch does and TensorFlow's "same" does not."""
    x = tf.keras.layers.ZeroPadding2D(kernel // 2)(x)
    return tf.keras.layers.AveragePooling2D(kernel, strides, padding="valid")(x)


def _conv_bn(
    x: tf.Tensor, filters: int, kernel_size: int, *, name: str, first: int, strides: int = 1
) -> tf.Tensor:
    """Convolution and normalisation at positions `first` and `first + 1` of a Sequential."""
    x = convolution(x, filters, kernel_size, strides=strides, name=f"{name}.{first}")
    return batch_normalization(x, name=f"{name}.{first + 1}")


def _bn_relu_conv(
    x: tf.Tensor, filters: int, kernel_size: int, *, name: str, first: int
) -> tf.Tensor:
    """Normalisation, ReLU, convolution at positions `first` to `first + 2` of a Sequential."""
    x = _relu(batch_normalization(x, name=f"{name}.{first}"))
    return convolution(x, filters, kernel_size, name=f"{name}.{first + 2}")


def _relu(x: tf.Tensor) -> tf.Tensor:
    return tf.keras.layers.ReLU()(x)
