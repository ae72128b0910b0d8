"""The serving contract: what every exported version takes, gives and says of itself.

No TensorFlow: server, client and exporter share these names, and the client must start at once.
Every tensor has a batch dimension, because TensorFlow Serving's batcher refuses anything else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from segkit.errors import ContractMismatch
from segkit.labels import IGNORE_ID, Label, LabelMap

__all__ = [
    "CLASS_IDS",
    "CONFIDENCE",
    "CONTRACT_VERSION",
    "DEFAULT_MODEL_NAME",
    "DEFAULT_SIGNATURE",
    "ENCODED_IMAGE",
    "ENCODED_MASK",
    "IMAGE",
    "METADATA",
    "METADATA_FILE",
    "QUERY",
    "SERVED_MODELS_KEY",
    "SIGNATURES",
    "WARMUP_FILE",
    "Metadata",
    "Signature",
    "Tensor",
]

CONTRACT_VERSION = 1
DEFAULT_MODEL_NAME = "segkit"
METADATA_FILE = "assets.extra/segkit.json"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

# Trailing metadata of the embedded server's NOT_FOUND: the names it serves, comma-separated.
# TensorFlow Serving's API has no way to ask, and its codes and messages stay as they are.
SERVED_MODELS_KEY = "segkit-models"

IMAGE = "image"
CLASS_IDS = "class_ids"
CONFIDENCE = "confidence"
ENCODED_IMAGE = "encoded_image"
ENCODED_MASK = "encoded_mask"
QUERY = "query"
METADATA = "metadata"


@dataclass(frozen=True)
class Tensor:
    """A tensor of a signature.

    `shape` leaves out the batch dimension; "H" and "W" stand for the exported image size.
    """

    name: str
    dtype: str
    shape: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Signature:
    """The input and the outputs of one signature."""

    name: str
    input: Tensor
    outputs: tuple[Tensor, ...]


DEFAULT_SIGNATURE = "serving_default"
_IMAGE = Tensor(IMAGE, "uint8", ("H", "W", 3))
_CLASS_IDS = Tensor(CLASS_IDS, "uint8", ("H", "W"))

SIGNATURES: Mapping[str, Signature] = {
    signature.name: signature
    for signature in (
        Signature(DEFAULT_SIGNATURE, _IMAGE, (_CLASS_IDS,)),
        # Probability of the class that won, times 255.
        Signature("confidence", _IMAGE, (_CLASS_IDS, Tensor(CONFIDENCE, "uint8", ("H", "W")))),
        # JPEG or PNG of any size in; 8-bit PNG of that image's size out.
        Signature("encoded", Tensor(ENCODED_IMAGE, "string"), (Tensor(ENCODED_MASK, "string"),)),
        # Any query, such as "", gives the JSON of Metadata.
        Signature("describe", Tensor(QUERY, "string"), (Tensor(METADATA, "string"),)),
    )
}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a version says of itself: in `describe` and in assets.extra/segkit.json.

    Args:
        labels: The classes that its class ids mean.
        image_size: Height and width of `image`, pixels.
        architecture: Name that build_model() knows, such as "ddrnet23_slim".
        normalization: How the graph normalises RGB 0..255, in words. For people.
        precision: "float32", "bfloat16", ... of the weights and activations as exported.
        val_mean_iou: Validation score of the checkpoint, 0..1, or None where it was never measured.
        created: UTC time of the export, ISO 8601.
        versions: Name -> version of the libraries that made it.
        source: Digest of the checkpoint it was exported from.
        tensorrt: TensorRT version, GPU and compute capability for a TF-TRT version, else empty.
        aspp_rates: Dilation rates of ASPP, if it has one: the architecture is rebuilt with them.
        batch_sizes: Batch sizes that it is warmed up for, and that its engines were built for.
        contract_version: CONTRACT_VERSION of the exporter.
    """

    labels: LabelMap
    image_size: tuple[int, int]
    architecture: str
    normalization: str
    precision: str = "float32"
    val_mean_iou: float | None = None
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    tensorrt: Mapping[str, str] = field(default_factory=dict)
    aspp_rates: tuple[int, ...] = ()
    batch_sizes: tuple[int, ...] = (1,)
    contract_version: int = CONTRACT_VERSION

    def to_json(self) -> str:
        """The record as JSON text; `from_json` reads it back."""
        record = asdict(self)
        record["labels"] = [
            {"id": id_, "name": label.name, "color": list(label.color)}
            for id_, label in enumerate(self.labels.labels)
        ]
        record["ignore_id"] = IGNORE_ID
        for name in ("image_size", "aspp_rates", "batch_sizes"):
            record[name] = list(record[name])
        return json.dumps(record, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str) -> Metadata:
        """Reads a record.

        Args:
            text: What `to_json` wrote.
            source: Where it came from, for the error message.

        Raises:
            ContractMismatch: It is no such record, or of a later contract.
        """
        try:
            record: dict[str, Any] = json.loads(text)
            version = int(record["contract_version"])
            if version > CONTRACT_VERSION:
                raise ContractMismatch(
                    f"{source} speaks version {version} of the serving contract",
                    expected=f"version {CONTRACT_VERSION} or earlier",
                    next_step="upgrade segkit on this machine",
                )
            height, width = record["image_size"]
            labels = LabelMap(
                tuple(
                    Label(entry["name"], (entry["color"][0], entry["color"][1], entry["color"][2]))
                    for entry in record["labels"]
                )
            )
            return cls(
                labels=labels,
                image_size=(int(height), int(width)),
                architecture=record["architecture"],
                normalization=record["normalization"],
                precision=record["precision"],
                val_mean_iou=record["val_mean_iou"],
                created=record["created"],
                versions=record["versions"],
                source=record["source"],
                tensorrt=record["tensorrt"],
                # Records of earlier exports have neither.
                aspp_rates=tuple(record.get("aspp_rates", ())),
                batch_sizes=tuple(record.get("batch_sizes", (1,))),
                contract_version=version,
            )
        except (ValueError, KeyError, TypeError, IndexError) as err:
            raise ContractMismatch(
                f"{source} does not describe itself as segkit's exports do ({err!r})",
                expected="the JSON record that `segkit export` writes",
                next_step="serve a version made by `python -m segkit export`",
            ) from err
