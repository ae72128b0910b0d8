"""VersionChecks: whether a version may serve, by its manifest, its contract and its answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from segkit import contract
from segkit.client import Credentials, RemoteSegmenter
from segkit.contract import Metadata
from segkit.engines.base import read_metadata
from segkit.errors import ConfigError, ContractMismatch, ExportError
from segkit.evaluation.predictors import Image, Mask, Predictor, SegmenterPredictor, Size
from segkit.evaluation.proof import Contestant, Proof, Thresholds, prove
from segkit.evaluation.real_images import RealImages, read_images
from segkit.labels import IGNORE_ID, Label, LabelMap
from segkit.serving.rollout.control import ModelControl
from segkit.serving.rollout.engines import check_engines

__all__ = ["VersionChecks", "find_manifest"]


@dataclass(kw_only=True)
class VersionChecks:
    """What a version has to pass, see `segkit.serving.rollout.steps.Checks`.

    Args:
        control: The server.
        model: The model's name.
        version: The version.
        data: The images to compare on, see `read_images`; not needed where nothing serves.
        num_images: How many of them.
        thresholds: What the answers may differ.
        manifest: What the version says of itself on disk; None: it is not at hand.
        compute_capability: That of the server's GPU, as "8.6"; None: not known.
        trust_engines: Load it whatever engines it may hold.
        allow_new_classes: Its classes may be others, or in another order.
        allow_new_image_size: Its image size may be another.
        credentials: As of `control`.
        say: Told what was found.

    Attributes:
        proof: What the comparison found, once there was one.
    """

    control: ModelControl
    model: str
    version: int
    data: str | None = None
    num_images: int = 100
    thresholds: Thresholds = field(default_factory=Thresholds)
    manifest: Metadata | None = None
    compute_capability: str | None = None
    trust_engines: bool = False
    allow_new_classes: bool = False
    allow_new_image_size: bool = False
    credentials: Credentials | None = None
    say: Callable[[str], None] = lambda line: None
    proof: Proof | None = field(default=None, init=False)
    _read: dict[tuple[str, ...], RealImages] = field(default_factory=dict, init=False)

    def before_loading(self, serving: int | None) -> None:
        """Checks the manifest: an engine of another machine would end the server's process.

        Raises:
            ConfigError: What it holds is not known, or there are no images to compare on.
            ContractMismatch: Clients would not understand it.
            ExportError: It is built for another machine.
        """
        record = None if serving is None else self._describe(serving)
        if not self.trust_engines:
            check_engines(
                self.manifest,
                version=self.version,
                serving=record,
                compute_capability=self.compute_capability,
            )
        if record is not None:
            if self.manifest is not None:
                self._check_alike(self.manifest, record, serving)
            self._images(record.labels)  # a mistake in --data is said before anything is loaded

    def after_loading(self, serving: int | None) -> Proof | None:
        """Checks signatures and `describe`, and compares it with the version that serves.

        Raises:
            ContractMismatch: Clients would not understand it.
            ExportError: It answers otherwise than is allowed.
        """
        _check_signatures(self.control.signatures(self.model, self.version), self.version)
        described = self._describe(self.version)
        if self.manifest is not None and described != self.manifest:
            raise ExportError(
                f"version {self.version} of '{self.model}' does not describe itself as its folder "
                "does",
                expected="the folder of the version that the server has loaded",
                next_step="correct --export",
            )
        if serving is None:
            self.say("  there is no version to compare it with")
            return None
        self._check_alike(described, self._describe(serving), serving)
        self.proof = proof = self._prove(serving)
        self.say(proof.render())
        if proof.failures:
            raise ExportError(
                f"version {self.version} of '{self.model}' does not answer as version {serving} "
                "does: " + "; ".join(proof.failures),
                expected="answers within --min_agreement and --max_miou_drop",
                next_step="look at its masks; allow the difference by these flags if it is right",
            )
        return proof

    def _describe(self, version: int) -> Metadata:
        with self._segmenter(version) as segmenter:
            return segmenter.describe()

    def _segmenter(self, version: int) -> RemoteSegmenter:
        return RemoteSegmenter(
            self.control.server, self.model, version=version, credentials=self.credentials
        )

    def _images(self, labels: LabelMap) -> RealImages:
        if self.data is None:
            raise ConfigError(
                "there are no real images to compare on: --data is not given",
                expected="--data KIND:PATH of a labelled set, or images:PATH of a folder of images "
                "or a video",
                next_step="give some dozen images of the kind that the model is for",
            )
        if labels.names not in self._read:
            self._read[labels.names] = read_images(self.data, labels, limit=self.num_images)
        return self._read[labels.names]

    def _check_alike(self, new: Metadata, old: Metadata, serving: int | None) -> None:
        """Running clients asked once what the classes and the image size are."""
        if new.labels.names != old.labels.names and not self.allow_new_classes:
            raise ContractMismatch(
                f"version {self.version} has other classes than version {serving}: "
                f"{_difference(new.labels, old.labels)}",
                expected="the same classes in the same order, since clients that run keep theirs",
                next_step="start the clients again afterwards and add --allow_new_classes, or "
                "serve it under another name",
            )
        if new.image_size != old.image_size and not self.allow_new_image_size:
            sizes = [f"{height}x{width}" for height, width in (new.image_size, old.image_size)]
            raise ContractMismatch(
                f"version {self.version} takes images of {sizes[0]}, version {serving} of "
                f"{sizes[1]}",
                expected="the same image size, since clients that run keep theirs",
                next_step="start the clients again afterwards and add --allow_new_image_size, or "
                "serve it under another name",
            )

    def _prove(self, serving: int) -> Proof:
        with ExitStack() as stack:
            both = [
                SegmenterPredictor(stack.enter_context(self._segmenter(version)))
                for version in (serving, self.version)
            ]
            labels = _union(both[0].labels, both[1].labels)
            first, second = (
                Contestant(
                    name=f"version {version}",
                    predictor=_Renamed(predictor, labels),
                    device="the server, with the way there and back",
                )
                for version, predictor in zip((serving, self.version), both, strict=True)
            )
            return prove(first, second, self._images(labels), thresholds=self.thresholds)


class _Renamed:
    """A predictor whose class ids are those of a larger label map, see `Predictor`."""

    def __init__(self, predictor: Predictor, labels: LabelMap) -> None:
        self._predictor = predictor
        self.labels, self.image_size = labels, predictor.image_size
        self._ids = np.full(256, IGNORE_ID, np.uint8)
        self._ids[: predictor.labels.num_classes] = [
            labels.names.index(name) for name in predictor.labels.names
        ]

    def predict(self, image: Image, size: Size) -> Mask:
        """See `Predictor`."""
        return self._ids[self._predictor.predict(image, size)]


def find_manifest(export: Path | None, version: int, *, base_path: Path) -> Metadata | None:
    """What a version says of itself on disk.

    Args:
        export: Its folder, or that of the versions; None: where the server has it, if that is here.
        version: Its number.
        base_path: The folder of the versions, as the server sees it.

    Returns:
        The record; None where nothing is named and nothing is here.

    Raises:
        ConfigError: The folder named is that of another version, or holds no record.
    """
    folder = (base_path if export is None else export) / str(version)
    if export is not None and not folder.is_dir():
        folder = export
        if export.absolute().name.isdigit() and int(export.absolute().name) != version:
            raise ConfigError(
                f"--export '{export}' is not the folder of version {version}",
                expected=f"a folder '{version}', or the one that holds it",
            )
    manifest = read_metadata(folder)
    if manifest is None and export is not None:
        raise ConfigError(
            f"--export '{export}' holds no {contract.METADATA_FILE}",
            expected=f"the folder of version {version}, or the one that holds it, on this machine",
        )
    return manifest


def _check_signatures(signatures: Any, version: int) -> None:
    for name, wanted in contract.SIGNATURES.items():
        found = signatures.get(name)
        tensors = {} if found is None else {**found.inputs, **found.outputs}
        for tensor in (wanted.input, *wanted.outputs):
            dtype = tensors[tensor.name].dtype if tensor.name in tensors else 0
            if not dtype or tf.as_dtype(dtype).name != tensor.dtype:
                raise ContractMismatch(
                    f"signature '{name}' of version {version} has no '{tensor.name}' of "
                    f"{tensor.dtype}",
                    expected="the signatures of segkit's contract (docs/architecture.md)",
                    next_step="publish it by `python -m segkit export`",
                )


def _union(first: LabelMap, second: LabelMap) -> LabelMap:
    """The classes of the first, then those that the second alone has."""
    names = (*first.names, *(name for name in second.names if name not in first.names))
    return LabelMap(tuple(Label(name, (id_, 0, 0)) for id_, name in enumerate(names)))


def _difference(new: LabelMap, old: LabelMap) -> str:
    added = [name for name in new.names if name not in old.names]
    missing = [name for name in old.names if name not in new.names]
    if not added and not missing:
        return f"the order is {', '.join(new.names)}, not {', '.join(old.names)}"
    parts = [f"with {', '.join(added)}"] if added else []
    parts += [f"without {', '.join(missing)}"] if missing else []
    return " and ".join(parts)
