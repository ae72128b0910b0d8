"""What the server shall do: which versions, under which labels, in which batches."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from segkit.errors import ConfigError

__all__ = ["BatchPlan", "Settings", "VersionPolicy"]

# 1 or 2 a GPU: while one batch runs, the next is copied (docs/serving.md).
BATCH_THREADS = 2
# Requests that one stream of segkit has under way, see segkit.client.
STREAM_WINDOW = 4
LONGEST_WAIT = 0.25  # of a frame period, in the hope of company


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk are served.

    Args:
        newest: So many of the highest numbers; None: see `numbers`.
        numbers: These; empty, with `newest` None: all of them.
    """

    newest: int | None = 1
    numbers: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> VersionPolicy:
        """Reads `latest:2`, `all` or `1,2`.

        Raises:
            ConfigError: It is none of them.
        """
        if text == "all":
            return cls(newest=None)
        if match := re.fullmatch(r"latest(?::([1-9]\d*))?", text):
            return cls(newest=int(match[1] or 1))
        if re.fullmatch(r"\d+(,\d+)*", text):
            return cls(newest=None, numbers=tuple(sorted({int(x) for x in text.split(",")})))
        raise ConfigError(
            f"--versions is '{text}'",
            expected="latest, latest:2 for the newest two, all, or numbers as in 3,4",
        )

    def select(self, there: Sequence[int], *, model: str) -> tuple[int, ...]:
        """Those of the versions on disk that are served.

        Raises:
            ConfigError: One is not there.
        """
        for number in self.numbers:
            if number not in there:
                raise ConfigError(
                    f"the model '{model}' has no version {number}",
                    expected=f"one of {', '.join(map(str, sorted(there)))}",
                    next_step="correct --versions or --label, or publish it",
                )
        if self.newest is not None:
            return tuple(sorted(there)[-self.newest :])
        return self.numbers or tuple(sorted(there))


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How requests share a run of the model.

    Args:
        sizes: Batch sizes that are built and warmed up, ascending.
        timeout_us: How long the first request of a batch waits for others, microseconds.
        max_enqueued: Batches that may wait; the next request is refused.
        threads: Batches that run at the same time.
    """

    sizes: tuple[int, ...]
    timeout_us: int
    max_enqueued: int
    threads: int = BATCH_THREADS

    @classmethod
    def for_cameras(
        cls,
        cameras: int,
        sizes: Sequence[int],
        *,
        frame_rate: float,
        timeout_ms: float | None = None,
    ) -> BatchPlan:
        """Batches across the requests of several streams.

        Args:
            cameras: Streams at the same time.
            sizes: Batch sizes that are built and warmed up.
            frame_rate: Frames a second of each.
            timeout_ms: Instead of the longest wait that is sensible.

        Raises:
            ConfigError: The wait is longer than a quarter of a frame period.
        """
        longest_ms = 1000 * LONGEST_WAIT / frame_rate
        if timeout_ms is not None and timeout_ms > longest_ms:
            raise ConfigError(
                f"--batch_timeout_ms is {timeout_ms:g}",
                expected=f"{longest_ms:.3g} at most, a quarter of a frame at {frame_rate:g} fps: "
                "every frame waits so long in vain where no other comes",
            )
        wait_ms = longest_ms if timeout_ms is None else timeout_ms
        ascending = tuple(sorted(sizes))
        return cls(
            sizes=ascending,
            timeout_us=int(1000 * wait_ms),
            max_enqueued=math.ceil(cameras * STREAM_WINDOW / ascending[-1]),
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the files shall say.

    Args:
        policy: Which versions are served.
        labels: Label -> version, of the one model.
        batches: How requests share runs; None: each request is a run of its own.
    """

    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)
    batches: BatchPlan | None = None

    def images_at_once(self, batch_sizes: Sequence[int]) -> int:
        """Images that one version computes at the same time, at most.

        Args:
            batch_sizes: What the version is built for.
        """
        if self.batches is not None:
            return self.batches.threads * self.batches.sizes[-1]
        return max(STREAM_WINDOW, *batch_sizes)  # requests of one image, or one of many
