"""Case, a malformed request, and kind(), by which each kind of them is added to KINDS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tensorflow_serving.apis import predict_pb2

from segkit.client.remote import PREDICT

__all__ = ["KINDS", "Case", "Generator", "kind", "long_name"]

Generator = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Case:
    """A malformed request.

    Args:
        kind: What is wrong with it.
        allowed: The statuses that answer it, see `Doors.send`.
        door: "grpc" and "rest" speak the protocol; "grpc port" and "rest port" send mere bytes.
        target: Method of gRPC, or method and path of HTTP.
        body: Bytes of the request.
        headers: What goes before it.
        gzip: Whether gRPC compresses it.
        timeout_s: Its deadline; None for a usual one.
    """

    kind: str
    allowed: frozenset[str]
    door: str = "grpc"
    target: str = PREDICT
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    gzip: bool = False
    timeout_s: float | None = None


def long_name(rng: Generator) -> str:
    words = ("x", "é", "\0", "\n", "%00", "{", '"', "../")
    length = int(rng.integers(1, 1 << int(rng.integers(1, 18))))
    return words[int(rng.integers(len(words)))] * length


Draw = Callable[[Generator], predict_pb2.PredictRequest | bytes | dict]
Make = Callable[[Generator, str], Case]
KINDS: dict[str, Make] = {}


def kind(*allowed: str, **fields: object) -> Callable[[Draw], Draw]:
    """Adds a kind: its function draws a message, bytes, or the fields of a Case."""

    def add(draw: Draw) -> Draw:
        def make(rng: Generator, name: str) -> Case:
            drawn = draw(rng)
            if isinstance(drawn, bytes):
                drawn = {"body": drawn}
            elif not isinstance(drawn, dict):
                drawn = {"body": drawn.SerializeToString()}
            return Case(kind=name, allowed=frozenset(allowed), **{**fields, **drawn})

        KINDS[draw.__name__.replace("_", " ")] = make
        return draw

    return add
