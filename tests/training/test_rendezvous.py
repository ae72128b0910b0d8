"""Workers meet over real sockets; whoever is missing or different is named to all."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from segkit.errors import ConfigError
from segkit.training.cluster import Cluster
from segkit.training.rendezvous import meet


def free_addresses(count: int) -> tuple[str, ...]:
    """Of this machine; all are held until all are known, so that they differ."""
    listeners = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = tuple(f"localhost:{listener.getsockname()[1]}" for listener in listeners)
    for listener in listeners:
        listener.close()
    return addresses


def connected(address: str) -> socket.socket:
    """To a chief that may not yet listen."""
    host, port = address.split(":")
    for _ in range(1000):
        try:
            return socket.create_connection((host, int(port)), timeout=10)
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise AssertionError(f"nobody listens at {address}")


def outcome(cluster: Cluster, facts: dict[str, Any], timeout_s: float = 30.0) -> str:
    try:
        meet(cluster, facts, timeout_s=timeout_s)
    except ConfigError as err:
        return err.problem
    return "met"


def outcomes(workers: list[tuple[Cluster, dict[str, Any]]]) -> list[str]:
    with ThreadPoolExecutor(len(workers)) as pool:
        return list(pool.map(lambda worker: outcome(*worker), workers))


def test_workers_that_agree_meet() -> None:
    addresses = free_addresses(3)
    workers = [(Cluster(addresses, index, "TF_CONFIG"), {"GPUs": 4}) for index in (2, 0, 1)]
    assert outcomes(workers) == ["met"] * 3


def test_all_are_told_of_mixed_numbers_of_gpus() -> None:
    addresses = free_addresses(2)
    workers = [
        (Cluster(addresses, i, "TF_CONFIG"), {"GPUs": gpus}) for i, gpus in enumerate((4, 2))
    ]
    assert outcomes(workers) == ["TF_CONFIG: GPUs: 4 on the chief, 2 on worker 1"] * 2


def test_all_are_told_of_another_list_of_workers() -> None:
    # Not two in another order: both processes would try the same port, at the same time.
    *addresses, another = free_addresses(4)
    lists = (tuple(addresses), (*addresses[:2], another), tuple(addresses))
    problems = outcomes([(Cluster(each, i, "TF_CONFIG"), {}) for i, each in enumerate(lists)])
    for problem in problems:
        assert problem.startswith("TF_CONFIG: list of workers: ")


def test_two_processes_that_take_themselves_for_the_same_worker_are_told() -> None:
    addresses = free_addresses(3)
    cluster = Cluster(addresses, 0, "TF_CONFIG")
    with ThreadPoolExecutor(1) as pool:
        chief = pool.submit(outcome, cluster, {})
        hello = json.dumps([1, {"list of workers": list(addresses)}]).encode() + b"\n"
        with ExitStack() as stack:
            for _ in range(2):
                connection = stack.enter_context(connected(addresses[0]))
                connection.sendall(hello)
            assert "two processes are worker 1" in connection.makefile().readline()
        assert chief.result() == "TF_CONFIG: two processes are worker 1"


def test_a_worker_that_does_not_come_is_named() -> None:
    addresses = free_addresses(2)
    problem = outcome(Cluster(addresses, 0, "SLURM"), {}, timeout_s=0.6)
    assert problem == f"SLURM: did not come: worker 1 at {addresses[1]}"


def test_a_chief_that_does_not_answer_is_named() -> None:
    addresses = free_addresses(2)
    problem = outcome(Cluster(addresses, 1, "SLURM"), {}, timeout_s=0.6)
    assert f"did not answer: the chief at {addresses[0]} (" in problem


def test_a_host_that_no_one_knows_is_named() -> None:
    cluster = Cluster(("no-such-host.invalid:4000", *free_addresses(1)), 1, "TF_CONFIG")
    assert "the chief at no-such-host.invalid:4000" in outcome(cluster, {}, timeout_s=0.1)


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("", 0)) as other:
        addresses = (*free_addresses(1), f"localhost:{other.getsockname()[1]}")
        with pytest.raises(ConfigError, match="cannot be used") as refused:
            meet(Cluster(addresses, 1, "TF_CONFIG"), {}, timeout_s=5.0)
        assert "no other program" in refused.value.expected


def test_someone_who_tries_ports_does_no_harm() -> None:
    addresses = free_addresses(2)
    chief, worker = (Cluster(addresses, index, "TF_CONFIG") for index in (0, 1))
    with ThreadPoolExecutor(2) as pool:
        met = pool.submit(outcome, chief, {})
        with connected(addresses[0]) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n")
        assert outcome(worker, {}) == "met"
        assert met.result() == "met"
