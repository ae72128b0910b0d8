"""Variants: the forms in which one version can be run, and what each was proved to answer.

A version always holds a SavedModel, which every server loads. What other engines run lies beside
it, in a folder of the engine's name, and `assets.extra/variants.json` lists all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segkit.errors import ConfigError, ContractMismatch

__all__ = [
    "FLOAT32",
    "INT8",
    "PRECISIONS",
    "SAVED_MODEL",
    "VARIANTS_FILE",
    "Variant",
    "VariantName",
    "read_variants",
    "write_variants",
]

VARIANTS_FILE = "assets.extra/variants.json"
FLOAT32 = "float32"
INT8 = "int8"  # finds the ranges of its activations on real images
SAVED_MODEL = "tensorflow"  # the engine of what every version has

# Engine -> its precisions, the default first.
PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "tensorflow": (FLOAT32, "bfloat16"),
    "openvino": (FLOAT32, "bfloat16", INT8),
    "tflite": (FLOAT32, "float16", INT8),
    "onnx": (FLOAT32,),
}


@dataclass(frozen=True, order=True)
class VariantName:
    """ENGINE:PRECISION, as flags and tables write it.

    Args:
        engine: A key of PRECISIONS.
        precision: One of its precisions.
    """

    engine: str
    precision: str = FLOAT32

    def __str__(self) -> str:
        return f"{self.engine}:{self.precision}"

    @classmethod
    def parse(cls, text: str, *, flag: str) -> VariantName:
        """Reads ENGINE or ENGINE:PRECISION.

        Args:
            text: What was given.
            flag: Where, for the error message.

        Raises:
            ConfigError: There is no such engine, or it does not compute in that precision.
        """
        engine, _, precision = text.partition(":")
        if engine not in PRECISIONS:
            raise ConfigError(
                f"there is no engine '{engine}', which {flag} names",
                expected=f"ENGINE or ENGINE:PRECISION, ENGINE one of {', '.join(PRECISIONS)}",
            )
        precision = precision or PRECISIONS[engine][0]
        if precision not in PRECISIONS[engine]:
            raise ConfigError(
                f"{engine} has no precision '{precision}', which {flag} names",
                expected=" or ".join(f"{engine}:{known}" for known in PRECISIONS[engine]),
            )
        return cls(engine, precision)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One form of a version.

    Args:
        name: Engine and precision.
        path: Its file, relative to the version's folder; "" stands for the SavedModel.
        size_bytes: Of all its files.
        proof: What the comparison with the checkpoint found, as JSON types; empty if there was
            none.
    """

    name: VariantName
    path: str
    size_bytes: int
    proof: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: VariantName, version_dir: Path, path: str) -> Variant:
        """A variant whose files are there."""
        return cls(name=name, path=path, size_bytes=_size(version_dir, path))


def read_variants(version_dir: Path) -> tuple[Variant, ...]:
    """The variants of a version; its SavedModel alone where it does not list them.

    Raises:
        ContractMismatch: The list is there and cannot be read.
    """
    path = version_dir / VARIANTS_FILE
    if not path.is_file():
        return (Variant.of(VariantName(SAVED_MODEL), version_dir, ""),)
    try:
        return tuple(
            Variant(
                name=VariantName(entry["engine"], entry["precision"]),
                path=entry["path"],
                size_bytes=int(entry["size_bytes"]),
                proof=entry["proof"],
            )
            for entry in json.loads(path.read_bytes())
        )
    except (ValueError, KeyError, TypeError) as err:
        raise ContractMismatch(
            f"'{path}' is no list of variants ({err!r})",
            expected="what `python -m segkit export` writes",
            next_step="publish the model again",
        ) from err


def write_variants(version_dir: Path, variants: Sequence[Variant]) -> None:
    """Writes VARIANTS_FILE, which `read_variants` reads."""
    entries = []
    for variant in variants:
        record = asdict(variant)
        name = record.pop("name")
        entries.append({**name, **record})
    path = version_dir / VARIANTS_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def _size(version_dir: Path, path: str) -> int:
    """Bytes of a file and those of its name beside it (.xml and .bin); "": of the SavedModel."""
    if path:
        files = list((version_dir / path).parent.glob(f"{Path(path).stem}.*"))
    else:
        files = [version_dir / "saved_model.pb", *version_dir.glob("variables/*")]
    return sum(file.stat().st_size for file in files if file.is_file())
