"""ContractEngine: the four signatures of the contract round a function of images alone.

For engines that run a network and nothing else: files are decoded and encoded here, by OpenCV. A
request that does not fit fails with TensorFlow's code and words, as behind any other engine.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segkit import contract
from segkit.contract import Metadata
from segkit.engines.base import (
    Array,
    Code,
    SignatureSpec,
    StatusError,
    TensorSpec,
    read_metadata,
)
from segkit.engines.image_files import decode_image
from segkit.errors import ContractMismatch
from segkit.video.resize import resize_image, resize_mask

__all__ = ["ContractEngine", "Segmented"]

UInt8 = npt.NDArray[np.uint8]


class Segmented(NamedTuple):
    """What a network says of a batch.

    Attributes:
        class_ids: uint8, (B, H, W).
        confidence: Probability of that class times 255, uint8, (B, H, W); None if not asked for.
    """

    class_ids: UInt8
    confidence: UInt8 | None


class ContractEngine(ABC):
    """An engine that runs a network alone, see `segkit.engines.Engine`.

    Args:
        version_dir: The folder of the version.

    Raises:
        ContractMismatch: The version does not describe itself as segkit's exports do.
    """

    def __init__(self, version_dir: Path) -> None:
        metadata = read_metadata(version_dir)
        if metadata is None:
            raise ContractMismatch(
                f"the version '{version_dir}' has no {contract.METADATA_FILE}",
                expected="a version made by `python -m segkit export`",
            )
        self._description = metadata.to_json().encode()
        self._image_size = metadata.image_size
        self.metadata: Metadata | None = metadata
        self.signatures: Mapping[str, SignatureSpec] = {
            name: _spec(signature, metadata.image_size)
            for name, signature in contract.SIGNATURES.items()
        }

    @abstractmethod
    def segment(self, image: UInt8, *, confidence: bool, deadline: float | None) -> Segmented:
        """Runs the network. Threads may call it at the same time.

        Args:
            image: uint8, (B, H, W, 3), RGB; B is 1 or more, H and W are those of the version.
            confidence: Whether the confidence is wanted too.
            deadline: time.monotonic() at which the run is given up; None waits for ever.

        Raises:
            StatusError: The run failed, or took too long.
        """

    @abstractmethod
    def close(self) -> None:
        """Frees what the version holds."""

    def run(
        self,
        signature: str,
        inputs: Mapping[str, Array],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Runs a signature, see `Engine.run`."""
        spec = self.signatures[signature]
        names = list(spec.outputs) if outputs is None else list(outputs)
        for name, wanted in spec.inputs.items():
            _check_input(name, wanted, inputs[name])
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if signature == "describe":
            described = np.full(len(inputs[contract.QUERY]), self._description, object)
            results: dict[str, Array] = {contract.METADATA: described}
        elif signature == "encoded":
            masks = self._segment_encoded(inputs[contract.ENCODED_IMAGE], deadline)
            results = {contract.ENCODED_MASK: masks}
        else:
            results = self._segment(inputs[contract.IMAGE], names, deadline)
        return {name: results[name] for name in names}

    def _segment(
        self, image: Array, names: Sequence[str], deadline: float | None
    ) -> dict[str, Array]:
        if not len(image):  # TensorFlow answers an empty batch by an empty one
            empty = np.empty((0, *self._image_size), np.uint8)
            return {contract.CLASS_IDS: empty, contract.CONFIDENCE: empty}
        segmented = self.segment(
            np.ascontiguousarray(image), confidence=contract.CONFIDENCE in names, deadline=deadline
        )
        results: dict[str, Array] = {contract.CLASS_IDS: segmented.class_ids}
        if segmented.confidence is not None:
            results[contract.CONFIDENCE] = segmented.confidence
        return results

    def _segment_encoded(self, files: Array, deadline: float | None) -> Array:
        images, sizes = [], []
        for file in files:  # one at a time: of what was decoded only its size is kept
            image = decode_image(file)
            sizes.append((image.shape[0], image.shape[1]))
            images.append(resize_image(image, self._image_size))
        masks = np.empty(len(files), object)
        if images:
            class_ids = self.segment(
                np.stack(images), confidence=False, deadline=deadline
            ).class_ids
            for index, (size, mask) in enumerate(zip(sizes, class_ids, strict=True)):
                _, png = cv2.imencode(".png", resize_mask(mask, size))
                masks[index] = png.tobytes()
        return masks


def _spec(signature: contract.Signature, image_size: tuple[int, int]) -> SignatureSpec:
    sizes = {"H": image_size[0], "W": image_size[1]}

    def tensor(given: contract.Tensor) -> TensorSpec:
        shape = (sizes[size] if isinstance(size, str) else size for size in given.shape)
        return TensorSpec(given.dtype, (None, *shape))

    return SignatureSpec(
        {signature.input.name: tensor(signature.input)},
        {output.name: tensor(output) for output in signature.outputs},
    )


def _check_input(name: str, spec: TensorSpec, value: Array) -> None:
    value = np.asarray(value)
    given = "string" if value.dtype == object else value.dtype.name
    given = {"float32": "float", "float64": "double"}.get(given, given)  # as TensorFlow says
    if given != spec.dtype:
        raise StatusError(
            Code.INVALID_ARGUMENT, f"Expects arg[0] to be {spec.dtype} but {given} is provided"
        )
    assert spec.shape is not None
    if value.ndim != len(spec.shape) or any(
        wanted not in (None, size) for wanted, size in zip(spec.shape, value.shape, strict=True)
    ):
        sizes = ",".join(map(str, value.shape))
        wanted = ",".join("?" if size is None else str(size) for size in spec.shape)
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f"Shape of tensor {name} [{sizes}] is not compatible with expected shape [{wanted}].",
        )
