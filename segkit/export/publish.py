"""publish(): a model as the next version, held to the model before it gets its number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from segkit import contract
from segkit.contract import Metadata
from segkit.errors import ExportError
from segkit.export.publishing import new_version
from segkit.export.served import ServedModel
from segkit.export.warmup import write_warmup_records

__all__ = ["publish"]


def publish(
    model: tf.keras.Model,
    metadata: Metadata,
    base_path: Path,
    *,
    model_name: str = contract.DEFAULT_MODEL_NAME,
    batch_sizes: Sequence[int] = (1,),
) -> Path:
    """Writes `base_path/<next integer>/`: SavedModel, warm-up records and segkit.json.

    The version is written beside its target, loaded and compared with the model, then renamed.

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        metadata: What the version says of itself; image_size fixes H and W.
        base_path: The folder of numbered versions that the server polls.
        model_name: The name in the warm-up records.
        batch_sizes: Batch sizes to write warm-up records for.

    Returns:
        The folder of the new version.

    Raises:
        ExportError: The model does not fit the metadata, the exported version answers otherwise
            than the model, or the folder cannot be written.
    """
    _check_fit(model, metadata)
    with new_version(base_path) as new:
        served = ServedModel(model, metadata)
        tf.saved_model.save(served, str(new.path), signatures=served.signatures())
        write_warmup_records(
            new.path / contract.WARMUP_FILE,
            image_size=metadata.image_size,
            model_name=model_name,
            batch_sizes=batch_sizes,
        )
        (new.path / contract.METADATA_FILE).write_text(metadata.to_json(), encoding="utf-8")
        _check_answers(model, new.path, metadata.image_size)
    return new.version


def _check_fit(model: tf.keras.Model, metadata: Metadata) -> None:
    *_, num_classes = model.output_shape
    if num_classes != metadata.labels.num_classes:
        raise ExportError(
            f"the model gives {num_classes} classes, its label map has "
            f"{metadata.labels.num_classes}",
            expected="as many logits as classes",
            next_step="export with the label map that the model was trained with",
        )
    sizes = zip(model.input_shape[1:3], metadata.image_size, strict=True)
    if any(built not in (None, wanted) for built, wanted in sizes):
        raise ExportError(
            f"the model is built for {model.input_shape[1:3]}, not for {metadata.image_size}",
            expected="one image size (height, width)",
            next_step="build the model again at the image size to export",
        )


def _check_answers(model: tf.keras.Model, version: Path, image_size: tuple[int, int]) -> None:
    """Holds every signature of the written version to the model itself, on coloured squares.

    On noise a deep network would amplify the rounding of another graph until the classes differ.
    """
    height, width = image_size
    grid = np.random.default_rng(0).integers(0, 256, (2, height // 16 + 1, width // 16 + 1, 3))
    image = grid.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width].astype(np.uint8)
    expected = np.argmax(model(image.astype(np.float32), training=False), axis=-1)
    loaded = tf.saved_model.load(str(version))
    answers = {
        name: loaded.signatures[name](**{contract.IMAGE: tf.constant(image)})[contract.CLASS_IDS]
        for name in (contract.DEFAULT_SIGNATURE, "confidence")
    }
    pngs = tf.stack([tf.io.encode_png(single) for single in image])
    masks = loaded.signatures["encoded"](**{contract.ENCODED_IMAGE: pngs})[contract.ENCODED_MASK]
    answers["encoded"] = np.stack([tf.io.decode_png(mask)[..., 0] for mask in masks])
    for name, answer in answers.items():
        agreement = float(np.mean(np.asarray(answer) == expected))
        # Not 1: two logits may be equal to the last bit, and graphs round in another order.
        if agreement < 0.999:
            raise ExportError(
                f"signature '{name}' of the exported version agrees with the model on only "
                f"{agreement:.1%} of the pixels",
                expected="99.9 % or more",
                next_step="nothing was published; please report this with the checkpoint",
            )
