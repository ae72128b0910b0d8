"""write_tflite(): a network as a TFLite file, in float32, with float16 weights, or in int8.

Both signatures of images lie in one file and share its weights: `serving_default`, the subgraph
that runs when none is named, and `confidence`, so that who wants class ids pays for no softmax.
docs/tflite.md says what was measured, and why the graph is built as it is.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError
from tensorflow.lite.tools import flatbuffer_utils

from segkit import contract
from segkit.engines.variants import INT8
from segkit.errors import ExportError
from segkit.export.segmentation import class_ids, confidence

__all__ = ["write_tflite"]

UInt8 = npt.NDArray[np.uint8]

CONFIDENCE_SIGNATURE = "confidence"
SIGNATURES = (contract.DEFAULT_SIGNATURE, CONFIDENCE_SIGNATURE)
# Of as many as are given: more cost a second each, and change nothing (docs/tflite.md).
CALIBRATION_IMAGES = 50
BATCH_SIZE = 1  # a batch in one run is no faster than its images one by one (docs/tflite.md)


def write_tflite(
    model: tf.keras.Model,
    path: Path,
    *,
    precision: str,
    calibration: Sequence[UInt8] = (),
) -> None:
    """Writes `path`: uint8 `image` (1, H, W, 3) -> uint8 `class_ids` (1, H, W), and `confidence`.

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        path: Ends in .tflite.
        precision: "float32"; "float16": the weights alone, half as large; "int8": all of it.
        calibration: For int8: images of the kind it will see, uint8 (H, W, 3), RGB. Of many,
            CALIBRATION_IMAGES at most are used, spread over all.

    Raises:
        ExportError: TFLite cannot convert the network, or the images to calibrate by do not fit.
    """
    if precision == INT8:
        _check_calibration(calibration, tuple(model.input_shape[1:]))
    with tempfile.TemporaryDirectory() as folder:
        # From a SavedModel of our own functions: given a Keras model, the converter would have
        # Keras save it, which takes ten times as long.
        served = _Served(model, quantized=precision == INT8)
        try:
            tf.saved_model.save(served, folder, signatures=served.signatures())
            converter = tf.lite.TFLiteConverter.from_saved_model(
                folder, signature_keys=list(SIGNATURES)
            )
            if precision == "float16":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_types = [tf.float16]
            elif precision == INT8:
                _quantize(converter, calibration)
            with _quiet():
                content = converter.convert()
        except (ConverterError, RuntimeError, ValueError, tf.errors.OpError) as err:
            raise ExportError(
                f"TFLite cannot convert the network: {err}",
                expected="a network of segkit",
                next_step="publish it without tflite, and please report this",
            ) from err
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_default_first(content))


class _Served(tf.Module):
    """The two signatures round a model.

    Args:
        model: As `write_tflite` takes it.
        quantized: For int8, whose converter makes integers of the float ends itself: the image is
            float32 here, and the confidence the probability.
    """

    def __init__(self, model: tf.keras.Model, *, quantized: bool) -> None:
        super().__init__()
        self.weights = model.weights
        self._logits = tf.function(_scaling_once(model), autograph=False)
        self._confidence = _probability if quantized else confidence
        dtype = tf.float32 if quantized else tf.uint8
        shape = [BATCH_SIZE, *model.input_shape[1:]]
        self._image = tf.TensorSpec(shape, dtype, name=contract.IMAGE)

    def signatures(self) -> dict[str, Any]:
        """Signature name -> concrete function, as tf.saved_model.save wants them."""
        functions = (self._segment, self._segment_with_confidence)
        return {
            name: function.get_concrete_function(self._image)
            for name, function in zip(SIGNATURES, functions, strict=True)
        }

    @tf.function
    def _segment(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {contract.CLASS_IDS: class_ids(self._logits(tf.cast(image, tf.float32)))}

    @tf.function
    def _segment_with_confidence(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self._logits(tf.cast(image, tf.float32))
        return {
            contract.CLASS_IDS: class_ids(logits),
            contract.CONFIDENCE: self._confidence(logits),
        }


def _probability(logits: tf.Tensor) -> tf.Tensor:
    """float32 (B, H, W): of the class of the largest logit."""
    return tf.reduce_max(tf.nn.softmax(logits), axis=-1)


def _scaling_once(model: tf.keras.Model) -> Any:
    """The model as a function of its image, with the normalisation as one product.

    Subtracted and divided in two ops, an image in int8 would be rounded twice, which costs half a
    per cent of the pixels. A depthwise convolution of 1x1 has a scale for each channel.
    """
    layers = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.Normalization)]
    if len(layers) != 1:  # not a network of segkit.models
        return lambda image: model(image, training=False)
    rest = tf.keras.Model(layers[0].output, model.output)
    mean = np.reshape(layers[0].mean, -1)
    std = np.sqrt(np.reshape(layers[0].variance, -1))

    def logits(image: tf.Tensor) -> tf.Tensor:
        kernel = tf.constant((1 / std)[np.newaxis, np.newaxis, :, np.newaxis], tf.float32)
        x = tf.nn.depthwise_conv2d(image, kernel, strides=[1, 1, 1, 1], padding="VALID")
        return rest(tf.nn.bias_add(x, tf.constant(-mean / std, tf.float32)), training=False)

    return logits


# === Int8 ===


def _quantize(converter: Any, calibration: Sequence[UInt8]) -> None:
    """Tells the converter to make everything int8, uint8 at both ends."""
    used = calibration[:: -(-len(calibration) // CALIBRATION_IMAGES)]

    def representative_dataset() -> Iterator[tuple[str, dict[str, npt.NDArray[np.float32]]]]:
        for index, image in enumerate(used):
            batch = image[np.newaxis].astype(np.float32)
            if not index:
                # The range of the image must come out as 0..255, or a pixel's 8 bits would mean
                # another brightness.
                batch[0, 0, 0], batch[0, -1, -1] = 0, 255
            for signature in SIGNATURES:
                yield signature, {contract.IMAGE: batch}

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative_dataset
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8


def _check_calibration(calibration: Sequence[UInt8], shape: tuple[int, ...]) -> None:
    if not calibration:
        raise ExportError(
            "int8 needs images to find the ranges of the activations by, and there are none",
            expected="some hundred images of the kind that the model will see",
            next_step="--calibration KIND:PATH",
        )
    for image in calibration:
        if image.shape != shape or image.dtype != np.uint8:
            raise ExportError(
                f"an image to calibrate int8 by is {image.dtype} {image.shape}",
                expected=f"uint8 {shape}, as the model takes it",
                next_step="resize the images to the model's size",
            )


# === The file ===


@contextmanager
def _quiet() -> Iterator[None]:
    """Drops what the converter prints straight to file descriptor 2, at any log level.

    It is a table of ops; what goes wrong is raised.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _default_first(content: bytes) -> bytes:
    """Puts the subgraph of serving_default first, which whoever names no signature runs.

    The converter orders them by name.
    """
    model = flatbuffer_utils.convert_bytearray_to_object(content)
    (first,) = (
        signature.subgraphIndex
        for signature in model.signatureDefs
        if signature.signatureKey == contract.DEFAULT_SIGNATURE.encode()
    )
    model.subgraphs.insert(0, model.subgraphs.pop(first))
    for signature in model.signatureDefs:
        if signature.subgraphIndex == first:
            signature.subgraphIndex = 0
        elif signature.subgraphIndex < first:
            signature.subgraphIndex += 1
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
