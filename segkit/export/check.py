"""check_answers(): every signature of a written version, held to the model it was made of."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit import contract
from segkit.engines import Engine
from segkit.errors import ExportError

__all__ = ["ask", "check_answers"]

UInt8 = npt.NDArray[np.uint8]

MIN_AGREEMENT = (
    0.999  # not 1: two logits may be equal to the last bit, and graphs round differently
)
SQUARE = 16  # pixels


def check_answers(engine: Engine, *, model: tf.keras.Model | None = None) -> None:
    """Asks every signature for the classes of coloured squares.

    Of noise a deep network amplifies the rounding of another graph until the classes differ. How
    near the classes are to the model's on real images is for `prove_version` to say.

    Args:
        engine: The version, opened; it describes itself.
        model: float32 RGB 0..255 (B, H, W, 3) -> logits (B, H, W, num_classes); None holds the
            other signatures to serving_default.

    Raises:
        ExportError: A signature answers otherwise.
    """
    assert engine.metadata is not None
    image = _squares(engine.metadata.image_size)
    signatures = (contract.DEFAULT_SIGNATURE, "confidence", "encoded")
    answers = {name: ask(engine, name, image) for name in signatures}
    if model is None:
        against, expected = contract.DEFAULT_SIGNATURE, answers[contract.DEFAULT_SIGNATURE]
    else:
        logits = model(image.astype(np.float32), training=False)
        against, expected = "the model", np.argmax(logits, axis=-1)
    for name, answer in answers.items():
        agreement = float(np.mean(answer == expected))
        if agreement < MIN_AGREEMENT:
            raise ExportError(
                f"signature '{name}' of the exported version agrees with {against} on only "
                f"{agreement:.1%} of the pixels",
                expected=f"{MIN_AGREEMENT:.1%} or more",
                next_step="nothing was published; please report this with the checkpoint",
            )


def _squares(image_size: tuple[int, int]) -> UInt8:
    height, width = image_size
    shape = (2, height // SQUARE + 1, width // SQUARE + 1, 3)
    grid = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return grid.repeat(SQUARE, axis=1).repeat(SQUARE, axis=2)[:, :height, :width]


def ask(engine: Engine, signature: str, images: UInt8) -> UInt8:
    """The class ids that a signature gives a batch; by PNG both ways for `encoded`.

    Args:
        engine: The version, opened.
        signature: One that takes images.
        images: uint8, (B, H, W, 3), RGB, of the version's size.

    Returns:
        uint8, (B, H, W).
    """
    if signature != "encoded":
        return np.asarray(engine.run(signature, {contract.IMAGE: images})[contract.CLASS_IDS])
    files = np.empty(len(images), object)
    for index, single in enumerate(images):
        files[index] = cv2.imencode(".png", cv2.cvtColor(single, cv2.COLOR_RGB2BGR))[1].tobytes()
    masks = engine.run(signature, {contract.ENCODED_IMAGE: files})[contract.ENCODED_MASK]
    return np.stack(
        [cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_GRAYSCALE) for mask in masks]
    ).astype(np.uint8)
