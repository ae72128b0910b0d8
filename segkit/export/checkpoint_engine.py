"""CheckpointEngine: a checkpoint run as an exported version would be, before it is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from segkit import contract
from segkit.contract import Metadata
from segkit.engines import Code, SignatureSpec, StatusError, TensorSpec
from segkit.export.checkpoint import describe_checkpoint
from segkit.export.segmentation import segmentation_function
from segkit.models.checkpoints import load_checkpoint

__all__ = ["CheckpointEngine"]

IMAGE_SIGNATURES = (contract.DEFAULT_SIGNATURE, "confidence")


class CheckpointEngine:
    """A network in Keras's own form, see `segkit.engines.Engine`: the signatures of images alone.

    Args:
        checkpoint: The file, or a run folder, which stands for its best checkpoint.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
    """

    def __init__(self, checkpoint: Path) -> None:
        model, record = load_checkpoint(checkpoint)
        self.metadata: Metadata | None = describe_checkpoint(
            checkpoint, record, image_size=None, batch_sizes=(1,)
        )
        image = TensorSpec("uint8", (None, *record.image_size, 3))
        answer = TensorSpec("uint8", (None, *record.image_size))
        self.signatures: Mapping[str, SignatureSpec] = {
            name: SignatureSpec(
                {contract.IMAGE: image},
                {output.name: answer for output in contract.SIGNATURES[name].outputs},
            )
            for name in IMAGE_SIGNATURES
        }
        self._segment = segmentation_function(model)

    def run(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Runs a signature, see `Engine.run`; a time limit is not kept."""
        names = self.signatures[signature].outputs if outputs is None else outputs
        try:
            results = self._segment(tf.constant(inputs[contract.IMAGE]))
        except tf.errors.OpError as err:
            raise StatusError(Code(err.error_code), err.message) from err
        return {name: results[name].numpy() for name in names}

    def close(self) -> None:
        """Does nothing: the network goes with this object."""
