"""Version policies, batches, and the memory that they take."""

from __future__ import annotations

from pathlib import Path

import pytest

from segkit.contract import Metadata
from segkit.errors import ConfigError
from segkit.serving.containers.memory import (
    BASE_BYTES,
    PIXEL_BYTES,
    WEIGHTS,
    estimate_memory,
)
from segkit.serving.containers.published import PublishedModel, PublishedVersion
from segkit.serving.containers.settings import BatchPlan, Settings, VersionPolicy


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("latest", (5,)),
        ("latest:2", (3, 5)),
        ("latest:9", (2, 3, 5)),
        ("all", (2, 3, 5)),
        ("5,2", (2, 5)),
    ],
)
def test_a_policy_selects(text: str, selected: tuple[int, ...]) -> None:
    assert VersionPolicy.parse(text).select([5, 2, 3], model="segkit") == selected


@pytest.mark.parametrize("text", ["", "latest:0", "1,,2", "newest", "-1"])
def test_another_policy_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--versions is"):
        VersionPolicy.parse(text)


def test_a_version_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="'segkit' has no version 4"):
        VersionPolicy.parse("3,4").select([2, 3], model="segkit")


def test_batches_wait_a_quarter_of_a_frame_at_most() -> None:
    plan = BatchPlan.for_cameras(8, (4, 1, 2), frame_rate=25)
    assert plan.sizes == (1, 2, 4)
    assert plan.timeout_us == 10_000
    assert plan.max_enqueued == 8  # 8 streams with 4 requests each, 4 in a batch
    assert BatchPlan.for_cameras(8, (1, 4), frame_rate=25, timeout_ms=2).timeout_us == 2000
    with pytest.raises(ConfigError, match="--batch_timeout_ms is 11"):
        BatchPlan.for_cameras(8, (1, 4), frame_rate=25, timeout_ms=11)


def test_the_window_of_a_stream_is_the_clients() -> None:
    from segkit.client.window import RECORDED
    from segkit.serving.containers.settings import STREAM_WINDOW

    assert STREAM_WINDOW == RECORDED


def published(metadata: Metadata, *weights: int) -> PublishedModel:
    versions = tuple(
        PublishedVersion(number=n, path=Path(str(n)), metadata=metadata, weight_bytes=weight)
        for n, weight in enumerate(weights, start=1)
    )
    return PublishedModel(name="segkit", base_path=Path("x"), versions=versions)


def test_memory_is_that_of_one_version_more_than_is_served(tiny_metadata: Metadata) -> None:
    height, width = tiny_metadata.image_size
    activations = 4 * height * width * PIXEL_BYTES  # the requests of a stream
    one = estimate_memory([published(tiny_metadata, 1000)], Settings())
    assert one.total_bytes == BASE_BYTES + 2 * (WEIGHTS * 1000 + activations)
    two = estimate_memory([published(tiny_metadata, 1000, 3000)], Settings())
    assert two.total_bytes == BASE_BYTES + WEIGHTS * 7000 + 3 * activations


def test_images_that_are_computed_at_once() -> None:
    assert Settings().images_at_once((1,)) == 4  # requests of one stream
    assert Settings().images_at_once((1, 8)) == 8  # or one request of eight
    plan = BatchPlan.for_cameras(8, (1, 8), frame_rate=25)
    assert Settings(batches=plan).images_at_once((1, 8)) == 16  # two threads of eight


def test_memory_is_held_to_the_gpu(tiny_metadata: Metadata) -> None:
    estimate = estimate_memory([published(tiny_metadata, 10**9)], Settings())
    estimate.check(8)
    with pytest.raises(ConfigError, match=r"about 4\.8 GB .*--gpu_memory_gb is 4"):
        estimate.check(4)
