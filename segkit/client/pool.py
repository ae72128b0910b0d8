"""PooledSegmenter: one model behind several servers, as one segmenter."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from segkit.client.remote import RemoteSegmenter
from segkit.client.segmenter import Answer
from segkit.contract import Metadata
from segkit.errors import ContractMismatch, ServerError, ServerOverloaded, ServerUnavailable
from segkit.video.frame import Image, Mask

__all__ = ["PooledSegmenter"]

FIRST_REST_S, LONGEST_REST_S = 0.5, 10.0


@dataclass
class _Member:
    segmenter: RemoteSegmenter
    under_way: int = 0
    rests_until: float = 0.0  # time.monotonic(); it failed, and is left alone until then
    rest_s: float = FIRST_REST_S


class PooledSegmenter:
    """Asks whichever server has the fewest requests under way. A context manager.

    A server that cannot be reached is left alone for a while, longer each time, and its requests
    go to another; it comes back by itself.

    Args:
        segmenters: One for each server; closing the pool closes them.
    """

    def __init__(self, segmenters: Sequence[RemoteSegmenter]) -> None:
        self._members = [_Member(segmenter) for segmenter in segmenters]
        self._metadata: Metadata | None = None
        self._lock = threading.Lock()

    @property
    def servers(self) -> int:
        """How many servers share the requests."""
        return len(self._members)

    def segment(self, images: Image) -> Mask:
        """The masks of a batch, see `Segmenter`."""
        tried: set[int] = set()
        while True:
            member = self._take(tried)
            try:
                masks = member.segmenter.segment(images)
            except ServerUnavailable as err:
                self._give_back(member, err)
                if len(tried) == len(self._members):
                    raise
            except BaseException:
                self._give_back(member, None)
                raise
            else:
                self._give_back(member, None)
                return masks

    def submit(self, image: Image, *, timeout_s: float | None = None) -> Future[Answer]:
        """Starts on one image, see `Segmenter`."""
        future: Future[Answer] = Future()
        self._try(future, image, timeout_s, time.monotonic(), set())
        return future

    def describe(self) -> Metadata:
        """What the model says of itself, the same on every server that answers.

        Raises:
            ServerError: None of them can be asked.
            ContractMismatch: They serve models of different classes or sizes.
        """
        if self._metadata is None:
            found: list[Metadata] = []
            errors: list[ServerError] = []
            for member in self._members:
                try:
                    found.append(member.segmenter.describe())
                except ServerUnavailable as err:
                    errors.append(err)
            if not found:
                raise errors[0]
            for metadata in found[1:]:
                same = metadata.labels == found[0].labels
                if not same or metadata.image_size != found[0].image_size:
                    raise ContractMismatch(
                        "the servers of --server serve models of different classes or sizes",
                        expected="one model on all of them",
                        next_step="roll the same version out everywhere, or name fewer servers",
                    )
            self._metadata = found[0]
        return self._metadata

    def is_loading(self) -> bool:
        """Whether a server says that a version of the model is being loaded."""
        return any(member.segmenter.is_loading() for member in self._members)

    def close(self) -> None:
        """Closes the connections; requests under way fail."""
        for member in self._members:
            member.segmenter.close()

    def __enter__(self) -> PooledSegmenter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _try(
        self,
        future: Future[Answer],
        image: Image,
        timeout_s: float | None,
        begin: float,
        tried: set[int],
    ) -> None:
        """Asks a server that was not tried yet; hands its answer, or the last error, on."""
        left_s = None if timeout_s is None else timeout_s - (time.monotonic() - begin)
        member = self._take(tried)

        def finish(done: Future[Answer]) -> None:
            error = done.exception()
            self._give_back(member, error)
            in_time = left_s is None or time.monotonic() - begin < (timeout_s or 0.0)
            if isinstance(error, ServerUnavailable) and len(tried) < len(self._members) and in_time:
                try:
                    self._try(future, image, timeout_s, begin, tried)
                except BaseException as err:  # whoever waits for the answer raises it
                    future.set_exception(err)
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())

        try:
            submitted = member.segmenter.submit(image, timeout_s=left_s)
        except BaseException as err:  # the model could not even be asked what it takes
            submitted = Future()
            submitted.set_exception(err)
        submitted.add_done_callback(finish)

    def _take(self, tried: set[int]) -> _Member:
        """The server to ask next: not tried, not resting if possible, least to do."""
        with self._lock:
            now = time.monotonic()
            index = min(
                (index for index in range(len(self._members)) if index not in tried),
                key=lambda index: (
                    max(0.0, self._members[index].rests_until - now),
                    self._members[index].under_way,
                    random.random(),
                ),
            )
            tried.add(index)
            self._members[index].under_way += 1
            return self._members[index]

    def _give_back(self, member: _Member, error: BaseException | None) -> None:
        with self._lock:
            member.under_way -= 1
            if isinstance(error, ServerUnavailable) and not isinstance(error, ServerOverloaded):
                member.rests_until = time.monotonic() + random.uniform(0.5, 1) * member.rest_s
                member.rest_s = min(2 * member.rest_s, LONGEST_REST_S)
            elif error is None:
                member.rests_until, member.rest_s = 0.0, FIRST_REST_S
