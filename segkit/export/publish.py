"""publish(): a model as the next version, held to the model before it gets its number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from segkit import contract
from segkit.contract import Metadata
from segkit.engines import open_variant
from segkit.engines.variants import Variant, VariantName, write_variants
from segkit.errors import ExportError
from segkit.export.check import check_answers
from segkit.export.formats import TENSORFLOW, write_variant
from segkit.export.publishing import new_version
from segkit.export.served import ServedFunction, ServedModel
from segkit.export.warmup import write_warmup_records

__all__ = ["Prove", "publish", "write_saved_model"]

# Told of a version's folder, before it is published, and of its variants; gives them with their
# proofs, or raises.
Prove = Callable[[Path, tuple[Variant, ...]], tuple[Variant, ...]]


def publish(
    model: tf.keras.Model,
    metadata: Metadata,
    base_path: Path,
    *,
    model_name: str = contract.DEFAULT_MODEL_NAME,
    variants: Sequence[VariantName] = (TENSORFLOW,),
    calibration: Sequence[npt.NDArray[np.uint8]] = (),
    prove: Prove = lambda version_dir, variants: variants,
) -> Path:
    """Writes `base_path/<next integer>/`: SavedModel, warm-up records, segkit.json, other forms.

    The version is written beside its target, loaded and compared with the model, then renamed.

    Args:
        model: float32 RGB 0..255 (B, H, W, 3) -> float32 logits (B, H, W, num_classes).
        metadata: What the version says of itself; image_size fixes H and W, and there are warm-up
            records for each of its batch sizes.
        base_path: The folder of numbered versions that the server polls.
        model_name: The name in the warm-up records.
        variants: The forms to write.
        calibration: For int8: images at the model's size, uint8 (H, W, 3), RGB.
        prove: Has the last word.

    Returns:
        The folder of the new version.

    Raises:
        ExportError: The model does not fit the metadata, cannot be written in a form, answers
            otherwise once it is exported, or the folder cannot be written.
    """
    _check_fit(model, metadata)
    with new_version(base_path) as new:
        served = ServedModel(model, metadata)
        write_saved_model(served, metadata, new.path, model_name=model_name)
        engine = open_variant(new.path, Variant.of(TENSORFLOW, new.path, ""))
        try:
            check_answers(engine, model=model)
        finally:
            engine.close()
        written = tuple(
            write_variant(model, new.path, name, calibration=calibration) for name in variants
        )
        write_variants(new.path, prove(new.path, written))
    return new.version


def write_saved_model(
    served: ServedFunction, metadata: Metadata, version_dir: Path, *, model_name: str
) -> None:
    """Writes what tensorflow/serving loads: the SavedModel, its warm-up records, segkit.json."""
    tf.saved_model.save(served, str(version_dir), signatures=served.signatures())
    write_warmup_records(
        version_dir / contract.WARMUP_FILE,
        image_size=metadata.image_size,
        model_name=model_name,
        batch_sizes=metadata.batch_sizes,
    )
    (version_dir / contract.METADATA_FILE).write_text(metadata.to_json(), encoding="utf-8")


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
