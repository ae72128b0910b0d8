"""What every engine offers, and the status that a failed run carries."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from segkit import contract
from segkit.contract import Metadata

__all__ = ["Code", "Engine", "SignatureSpec", "StatusError", "TensorSpec", "read_metadata"]

Array = npt.NDArray[Any]


class Code(enum.IntEnum):
    """The status codes that TensorFlow and gRPC share."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StatusError(Exception):
    """A request that failed, as TensorFlow Serving reports it: a code and a message."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


@dataclass(frozen=True)
class TensorSpec:
    """An input or an output of a signature.

    Args:
        dtype: TensorFlow's name of it: "uint8", "float32", "string", ...
        shape: Dimensions with the batch; None stands for any size, and for any rank as a whole.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class SignatureSpec:
    """The inputs and outputs of a signature, by name."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


class Engine(Protocol):
    """One loaded version. Threads may run it at the same time.

    Attributes:
        signatures: Signature name -> its inputs and outputs.
        metadata: What the version says of itself, or None for a model that is not segkit's.
    """

    signatures: Mapping[str, SignatureSpec]
    metadata: Metadata | None

    def run(
        self,
        signature: str,
        inputs: Mapping[str, Array],
        *,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Runs a signature.

        Args:
            signature: A key of `signatures`.
            inputs: One array for every input; strings are object arrays of bytes.
            outputs: Names of the outputs to compute; all of them if None.
            timeout_s: Seconds after which the run is given up; None waits for ever.

        Raises:
            StatusError: The run failed: inputs of a wrong dtype or shape, undecodable images, time.
        """

    def close(self) -> None:
        """Frees what the version holds. No run may be in flight or follow."""


def read_metadata(version_dir: Path) -> Metadata | None:
    """Reads assets.extra/segkit.json; None where there is none.

    Raises:
        ContractMismatch: The file is there and is no such record.
    """
    path = version_dir / contract.METADATA_FILE
    if not path.is_file():
        return None
    return Metadata.from_json(path.read_bytes(), source=f"'{path}'")
