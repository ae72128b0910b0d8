"""One model behind several servers."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from segkit.client import RemoteSegmenter
from segkit.client.pool import PooledSegmenter
from segkit.contract import Metadata
from segkit.errors import ContractMismatch, ServerUnavailable

IMAGE = np.full((64, 96, 3), 2, np.uint8)


@pytest.fixture
def servers(fake_server_type: Any, tiny_metadata: Metadata) -> Iterator[list[Any]]:
    servers = [fake_server_type(tiny_metadata) for _ in range(3)]
    yield servers
    for server in servers:
        server.stop()


def pool(servers: list[Any]) -> PooledSegmenter:
    return PooledSegmenter([RemoteSegmenter(server.address) for server in servers])


def test_requests_go_to_whoever_has_the_least_to_do(servers: list[Any]) -> None:
    go = threading.Event()

    def hold(context: Any, batch: np.ndarray) -> np.ndarray:
        go.wait(20)
        return batch[..., 0]

    for server in servers:
        server.answer = hold
    with pool(servers) as segmenter:
        assert segmenter.servers == 3
        segmenter.describe()
        futures = [segmenter.submit(IMAGE) for _ in range(9)]
        for server in servers:
            while server.under_way < 3:
                threading.Event().wait(0.005)
        go.set()
        assert all((future.result(20).mask == 2).all() for future in futures)


def test_a_server_that_is_gone_costs_no_request_and_is_left_alone(servers: list[Any]) -> None:
    with pool(servers) as segmenter:
        segmenter.describe()
        servers[0].stop()
        for _ in range(12):
            assert (segmenter.submit(IMAGE).result(30).mask == 2).all()
        assert (segmenter.segment(IMAGE[None]) == 2).all()
        assert servers[1].requests + servers[2].requests == 13
        assert segmenter._members[0].rests_until > 0 or servers[0].requests == 0


def test_a_server_that_comes_back_is_asked_again(
    servers: list[Any], fake_server_type: Any, tiny_metadata: Metadata
) -> None:
    port = servers[0].port
    with pool(servers) as segmenter:
        segmenter.describe()
        servers[0].stop()
        for _ in range(6):
            segmenter.submit(IMAGE).result(30)
        servers[0] = fake_server_type(tiny_metadata, port)
        segmenter._members[0].rests_until = 0.0
        for _ in range(60):
            segmenter.submit(IMAGE).result(30)
            if servers[0].requests:
                break
        assert servers[0].requests


def test_without_any_server_the_error_is_that_of_one(unused_port: int) -> None:
    addresses = [f"127.0.0.1:{unused_port}", f"localhost:{unused_port}"]
    with PooledSegmenter([RemoteSegmenter(address) for address in addresses]) as segmenter:
        with pytest.raises(ServerUnavailable, match="cannot be reached"):
            segmenter.describe()
        with pytest.raises(ServerUnavailable):
            segmenter.submit(IMAGE).result(30)
        with pytest.raises(ServerUnavailable):
            segmenter.segment(IMAGE[None])


def test_an_error_of_the_model_is_not_tried_elsewhere(servers: list[Any]) -> None:
    for server in servers:
        server.answer = lambda context, batch: np.zeros((1, 8, 8), np.uint8)
    with pool(servers) as segmenter, pytest.raises(ContractMismatch):
        segmenter.submit(IMAGE).result(20)
    assert sum(server.requests for server in servers) == 1


def test_servers_of_different_models_are_refused(
    servers: list[Any], tiny_metadata: Metadata
) -> None:
    other = dataclasses.replace(tiny_metadata, image_size=(32, 32))
    servers[1].metadata_json = other.to_json().encode()
    with pool(servers) as segmenter, pytest.raises(ContractMismatch, match="different classes"):
        segmenter.describe()
