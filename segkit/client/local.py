"""LocalSegmenter: a model in this process, behind the same protocol as a server."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segkit import contract
from segkit.client.failures import server_error
from segkit.client.segmenter import Answer, resize_batch
from segkit.contract import Metadata
from segkit.errors import ContractMismatch
from segkit.video.frame import Image, Mask

if TYPE_CHECKING:
    from segkit.engines.base import Engine

__all__ = ["LocalSegmenter"]


class LocalSegmenter:
    """Segments by an engine. A context manager; closing it closes the engine.

    Args:
        engine: The loaded version; `segkit.engines` has them.
        confidence: Whether `submit` answers the confidence, too.

    Raises:
        ContractMismatch: The version does not describe itself as segkit's exports do.
    """

    def __init__(self, engine: Engine, *, confidence: bool = False) -> None:
        if engine.metadata is None:
            raise ContractMismatch(
                f"the version has no {contract.METADATA_FILE}",
                expected="a version made by `python -m segkit export`",
            )
        self._engine = engine
        self._metadata = engine.metadata
        self._confidence = confidence
        # One at a time: an engine uses all cores for a single image.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segment")

    @classmethod
    def open(
        cls, version_dir: Path, engine: str = "auto", *, confidence: bool = False
    ) -> LocalSegmenter:
        """Loads an exported version, such as `exports/1`.

        Raises:
            ConfigError: There is no such engine.
            ExportError: The folder holds no version that the engine can load.
            ContractMismatch: It is no version of segkit's.
        """
        from segkit.engines import open_engine

        return cls(open_engine(version_dir, engine), confidence=confidence)

    def segment(self, images: Image) -> Mask:
        """The masks of a batch, see `Segmenter`."""
        return np.asarray(self._run(contract.DEFAULT_SIGNATURE, images, None)[contract.CLASS_IDS])

    def submit(self, image: Image, *, timeout_s: float | None = None) -> Future[Answer]:
        """Starts on one image, see `Segmenter`."""
        return self._executor.submit(self._answer, image, timeout_s)

    def describe(self) -> Metadata:
        """What the version says of itself."""
        return self._metadata

    def close(self) -> None:
        """Finishes what is under way, drops what waits, and frees the model."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._engine.close()

    def _answer(self, image: Image, timeout_s: float | None) -> Answer:
        signature = "confidence" if self._confidence else contract.DEFAULT_SIGNATURE
        outputs = self._run(signature, image[np.newaxis], timeout_s)
        confidence = outputs[contract.CONFIDENCE][0] if self._confidence else None
        return Answer(outputs[contract.CLASS_IDS][0], confidence)

    def _run(self, signature: str, images: Image, timeout_s: float | None) -> dict[str, Mask]:
        from segkit.engines.base import StatusError

        resized = resize_batch(images, self._metadata.image_size)
        try:
            return self._engine.run(signature, {contract.IMAGE: resized}, timeout_s=timeout_s)
        except StatusError as err:
            raise server_error(
                err.code.name, err.message, server="this process", model="this version"
            ) from err

    def __enter__(self) -> LocalSegmenter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
