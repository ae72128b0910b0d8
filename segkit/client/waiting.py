"""wait_for_server(): patience with a server that is not ready yet, and the reason why it is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, cast

from segkit.contract import Metadata
from segkit.errors import ModelNotFound, PredictionTimeout, ServerError, ServerUnavailable

__all__ = ["wait_for_server"]

PAUSE_S = 0.5


class _Askable(Protocol):
    def describe(self) -> Metadata: ...

    def is_loading(self) -> bool: ...


def wait_for_server(
    segmenter: _Askable, seconds: float, say: Callable[[str], None] = lambda text: None
) -> Metadata:
    """What the served model says of itself, once it can be asked.

    A server that is not there yet, or still loads the model, is waited for; anything else is an
    error at once.

    Args:
        segmenter: Asks the server.
        seconds: How long; 0 asks once.
        say: Told every second what is waited for, and how much longer.

    Raises:
        ServerError: It was not ready in time, or will never be.
        ContractMismatch: The model is not segkit's.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return segmenter.describe()
        except (ServerUnavailable, PredictionTimeout) as err:
            reason, error = err.problem, cast("ServerError", err)
        except ModelNotFound as err:
            if not segmenter.is_loading():
                raise
            reason, error = "the model is being loaded", err
        left_s = end - time.monotonic()
        if left_s <= 0:
            raise error
        say(f"{reason}; waiting {left_s:.0f} s more")
        time.sleep(min(PAUSE_S, left_s))
