"""Predictors: whatever is evaluated, behind one protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit.client import Segmenter
from segkit.errors import DataError
from segkit.labels import LabelMap
from segkit.models import build_model, inference_model
from segkit.models.checkpoints import load_checkpoint
from segkit.video.resize import resize_image, resize_mask

__all__ = [
    "CheckpointPredictor",
    "ModelPredictor",
    "Passes",
    "Predictor",
    "SegmenterPredictor",
    "open_checkpoint",
]

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
Size = tuple[int, int]


class Predictor(Protocol):
    """Predicts the class ids of one image after another.

    Attributes:
        labels: What its class ids mean.
        image_size: Height and width that images are resized to; None: they keep their own.
    """

    labels: LabelMap
    image_size: Size | None

    def predict(self, image: Image, size: Size) -> Mask:
        """The class ids of an image.

        Args:
            image: uint8, (H, W, 3), RGB.
            size: Height and width of the mask.

        Returns:
            uint8, (height, width).
        """


class SegmenterPredictor:
    """An exported version, in this process or behind a server, see `Predictor`.

    It answers class ids alone, so they are resized to the label by nearest.

    Args:
        segmenter: What answers.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        metadata = segmenter.describe()
        self.labels = metadata.labels
        self.image_size: Size | None = metadata.image_size

    def predict(self, image: Image, size: Size) -> Mask:
        """See `Predictor`."""
        return resize_mask(self._segmenter.segment(image[None])[0], size)


class ModelPredictor:
    """A Keras model as an export answers: its arg max at its own size, see `Predictor`.

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        labels: Its classes.
    """

    def __init__(self, model: tf.keras.Model, labels: LabelMap) -> None:
        height, width = model.input_shape[1:3]
        self.labels = labels
        self.image_size: Size | None = (height, width)

        @tf.function(autograph=False)
        def segment(image: tf.Tensor) -> tf.Tensor:
            logits = model(tf.cast(image[tf.newaxis], tf.float32), training=False)
            return tf.cast(tf.argmax(logits, axis=-1)[0], tf.uint8)

        signature = tf.TensorSpec([height, width, 3], tf.uint8)
        self._segment = segment.get_concrete_function(signature)

    def predict(self, image: Image, size: Size) -> Mask:
        """See `Predictor`."""
        assert self.image_size is not None
        image = resize_image(image, self.image_size)
        return resize_mask(self._segment(tf.constant(image)).numpy(), size)


@dataclass(frozen=True, kw_only=True)
class Passes:
    """How often a network looks at an image; the softmax probabilities of all passes are averaged.

    Args:
        scales: The image size, times each of these.
        flip: At each scale also mirrored, left to right.
        window: Height and width of what the network sees: a part of the image, which keeps its own
            size; None: all of it, resized.
        stride: From one window to the next, down and right; no more than the window.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: Size | None = None
    stride: Size | None = None

    @property
    def averages(self) -> bool:
        """Whether there is more than one pass."""
        return len(self.scales) > 1 or self.flip or self.window is not None


class CheckpointPredictor:
    """A network in any number of passes, see `Predictor`.

    Its logits are resized to the label, bilinearly, before anything else is done with them.

    Args:
        model_of: The network for a height and width: float32 RGB 0..255 (B, H, W, 3) -> logits.
        labels: Its classes.
        image_size: Height and width that it sees at scale 1, unless windows say otherwise.
        passes: What it looks at.
    """

    def __init__(
        self,
        model_of: Callable[[Size], tf.keras.Model],
        labels: LabelMap,
        *,
        image_size: Size,
        passes: Passes,
    ) -> None:
        self.labels = labels
        self.image_size: Size | None = None if passes.window else image_size
        self._passes = passes
        self._model_of = model_of
        self._graphs: dict[Size, Any] = {}

    def predict(self, image: Image, size: Size) -> Mask:
        """See `Predictor`.

        Raises:
            DataError: The window is larger than the image.
        """
        total: Any = 0.0
        height, width = self.image_size or image.shape[:2]
        for scale in self._passes.scales:
            seen = round(height * scale), round(width * scale)
            scaled = resize_image(image, seen)
            total = total + (
                self._in_windows(scaled, size)
                if self._passes.window
                else self._graph(seen)(scaled, size)
            )
        return tf.cast(tf.argmax(total, axis=-1), tf.uint8).numpy()

    def _in_windows(self, image: Image, size: Size) -> tf.Tensor:
        """Mean probabilities of the windows over each pixel, (*size, num_classes)."""
        window, stride = self._passes.window, self._passes.stride
        assert window is not None and stride is not None
        if any(a > b for a, b in zip(window, image.shape, strict=False)):
            raise DataError(
                f"the sliding window of {window[0]} {window[1]} is larger than an image of "
                f"{image.shape[0]} {image.shape[1]}",
                expected="a window that fits into every image, at every scale",
                next_step="give a smaller --sliding_window, or leave it out",
            )
        graph = self._graph(window)
        total = np.zeros((*image.shape[:2], self.labels.num_classes), np.float32)
        counts = np.zeros((*image.shape[:2], 1), np.float32)
        for top in _starts(image.shape[0], window[0], stride[0]):
            for left in _starts(image.shape[1], window[1], stride[1]):
                part = np.s_[top : top + window[0], left : left + window[1]]
                total[part] += graph(image[part], window).numpy()
                counts[part] += 1
        return tf.image.resize(total / counts, size, method="bilinear")

    def _graph(self, seen: Size) -> Any:
        """(image of the size `seen`, size) -> probabilities; of a single pass, its logits."""
        if seen not in self._graphs:
            self._graphs[seen] = _make_graph(self._model_of(seen), seen, self._passes)
        return self._graphs[seen]


def open_checkpoint(
    path: Path, *, image_size: Size | None = None, passes: Passes | None = None
) -> tuple[CheckpointPredictor, tf.keras.Model]:
    """Opens a checkpoint to be evaluated.

    Args:
        path: The file, or a run folder, which stands for its best checkpoint.
        image_size: Another height and width than it was trained at.
        passes: What it looks at; the whole image, once, if None.

    Returns:
        The predictor, and the network at its image size or window.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        ModelError: The image size does not fit the network.
    """
    passes = passes or Passes()
    model, record = load_checkpoint(path, image_size=passes.window or image_size)

    def model_of(seen: Size) -> tf.keras.Model:
        if seen == model.input_shape[1:3]:
            return model
        num_classes, rates = record.labels.num_classes, record.aspp_rates
        other = build_model(record.network, seen, num_classes, aspp_rates=rates)
        other = inference_model(other)
        other.set_weights(model.get_weights())
        return other

    size = image_size or record.image_size
    predictor = CheckpointPredictor(model_of, record.labels, image_size=size, passes=passes)
    return predictor, model


def _make_graph(model: tf.keras.Model, seen: Size, passes: Passes) -> Any:
    @tf.function(autograph=False)
    def graph(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        views = [image, image[:, ::-1]] if passes.flip else [image]
        logits = model(tf.cast(tf.stack(views), tf.float32), training=False)
        values = tf.image.resize(logits, size, method="bilinear")  # (1 or 2, *size, C)
        if passes.averages:
            values = tf.nn.softmax(values)
        return (values[0] + values[1][:, ::-1]) / 2 if passes.flip else values[0]

    signature = tf.TensorSpec([*seen, 3], tf.uint8), tf.TensorSpec([2], tf.int32)
    traced = graph.get_concrete_function(*signature)
    return lambda image, size: traced(tf.constant(image), tf.constant(size))


def _starts(length: int, window: int, stride: int) -> Iterator[int]:
    """Where windows begin: every stride, the last one flush with the end."""
    count = math.ceil((length - window) / stride) + 1
    return (min(index * stride, length - window) for index in range(count))
