"""check_batch_sizes(): whether a converted version answers at every batch size, and alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segkit import contract
from segkit.engines import Engine, StatusError
from segkit.errors import ExportError
from segkit.export.check import ask

__all__ = ["check_batch_sizes"]

UInt8 = npt.NDArray[np.uint8]


def check_batch_sizes(
    engine: Engine, image: UInt8, batch_sizes: Sequence[int], *, min_agreement: float
) -> None:
    """Asks every signature for one image, at every batch size that engines were built for.

    To be called `without_fallback`: each batch size has kernels of its own, and one that is missing
    must not pass because TensorFlow's ops step in.

    Args:
        engine: The version, opened.
        image: uint8, (H, W, 3), RGB, of the model's size.
        batch_sizes: What to ask.
        min_agreement: Share of pixels that must have the class that the image alone is given.

    Raises:
        ExportError: A signature fails, or answers otherwise.
    """
    alone = _answer(engine, contract.DEFAULT_SIGNATURE, image, 1)[0]
    for signature in (contract.DEFAULT_SIGNATURE, "confidence", "encoded"):
        for batch_size in batch_sizes:
            masks = _answer(engine, signature, image, batch_size)
            agreement = float(np.mean(masks == alone))
            if agreement < min_agreement:
                raise ExportError(
                    f"signature '{signature}' gives a batch of {batch_size} the classes of the "
                    f"same image alone on only {agreement:.2%} of the pixels",
                    expected=f"{min_agreement:.2%} or more (--min_agreement)",
                    next_step="nothing was published; convert with a higher --floating_mode, or "
                    "without that one of --batch_sizes",
                )


def _answer(engine: Engine, signature: str, image: UInt8, batch_size: int) -> UInt8:
    """uint8, (batch_size, H, W), class ids."""
    try:
        return ask(engine, signature, np.stack([image] * batch_size))
    except StatusError as err:
        raise ExportError(
            f"signature '{signature}' fails at a batch size of {batch_size}: {err}",
            expected="an engine for every one of --batch_sizes",
            next_step="nothing was published; TensorRT's own words are above. If GPU memory ran "
            "out, give fewer --batch_sizes or a --workspace_mib",
        ) from err
