"""The networks in plain Keras layers, with the same weights: what segkit's own are held against."""

from __future__ import annotations

import tensorflow as tf

from segkit.models.layers import Conv2D, DepthwiseConv2D, Dropout, Resize


def stock_keras(model: tf.keras.Model) -> tf.keras.Model:
    """A copy of a network in which every layer is one of tf.keras.layers.

    Resizes become Resizing; dilated convolutions trace as Keras does it, to SpaceToBatchND and
    back. Names and weights stay.
    """
    copy = tf.keras.models.clone_model(model, clone_function=_stock_layer)
    copy.set_weights(model.get_weights())
    return copy


def _stock_layer(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    config = layer.get_config()
    if isinstance(layer, Resize):
        height, width = layer.size
        return tf.keras.layers.Resizing(height, width, name=layer.name, dtype=config["dtype"])
    if isinstance(layer, DepthwiseConv2D):
        del config["native"]
        return tf.keras.layers.DepthwiseConv2D.from_config(config)
    if isinstance(layer, Conv2D):
        return tf.keras.layers.Conv2D.from_config(config)
    if isinstance(layer, Dropout):
        return tf.keras.layers.Dropout.from_config(config)
    return type(layer).from_config(config)
