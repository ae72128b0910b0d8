"""LocalSegmenter: a model in this process, behind the same protocol as a server."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from segkit import contract
from segkit.client.failures import server_error
from segkit.client.segmenter import resize_batch
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

    Raises:
        ContractMismatch: The version does not describe itself as segkit's exports do.
    """

    def __init__(self, engine: Engine) -> None:
        if engine.metadata is None:
            raise ContractMismatch(
                f"the version has no {contract.METADATA_FILE}",
                expected="a version made by `python -m segkit export`",
            )
        self._engine = engine
        self._metadata = engine.metadata
        # One at a time: an engine uses all cores for a single image.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segment")

    @classmethod
    def open(cls, version_dir: Path, engine: str = "auto") -> LocalSegmenter:
        """Loads an exported version, such as `exports/1`.

        Raises:
            ConfigError: There is no such engine.
            ExportError: The folder holds no version that the engine can load.
            ContractMismatch: It is no version of segkit's.
        """
        from segkit.engines import open_engine

        return cls(open_engine(version_dir, engine))

    def segment(self, images: Image) -> Mask:
        """The masks of a batch, see `Segmenter`."""
        from segkit.engines.base import StatusError

        resized = resize_batch(images, self._metadata.image_size)
        try:
            outputs = self._engine.run(contract.DEFAULT_SIGNATURE, {contract.IMAGE: resized})
        except StatusError as err:
            raise server_error(
                err.code.name, err.message, server="this process", model="this version"
            ) from err
        return np.asarray(outputs[contract.CLASS_IDS])

    def submit(self, image: Image) -> Future[Mask]:
        """Starts on one image, see `Segmenter`."""
        return self._executor.submit(lambda: self.segment(image[None])[0])

    def describe(self) -> Metadata:
        """What the version says of itself."""
        return self._metadata

    def close(self) -> None:
        """Finishes what is under way, drops what waits, and frees the model."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._engine.close()

    def __enter__(self) -> LocalSegmenter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
