"""make_case(): malformed requests, drawn by kind.

Each kind is a function of a random generator, with the statuses that TensorFlow Serving gives it
(facts of its sources; docs/embedded-server.md lists where the embedded server differs). "OK" is
among them where chance may leave a request that is right, or where the protocol is that lenient.
"""

from __future__ import annotations

import malformed_grpc
import malformed_http
import numpy as np
from malformed_kinds import KINDS, Case

__all__ = ["KINDS", "Case", "make_case"]

assert malformed_grpc and malformed_http  # their kinds are added where they are imported


def make_case(number: int, seed: int) -> Case:
    """Request `number` of a seed: the kinds take turns, the rest is drawn."""
    names = list(KINDS)
    name = names[number % len(names)]
    return KINDS[name](np.random.default_rng((seed, number)), name)
