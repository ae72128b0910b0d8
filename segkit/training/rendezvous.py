"""Workers meet before TensorFlow connects them: whoever is absent or different is named.

TensorFlow itself waits without a word, deaf to Ctrl-C, and hangs where workers differ.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from contextlib import ExitStack
from typing import Any

from segkit.errors import ConfigError
from segkit.training.cluster import Cluster

__all__ = ["meet"]

logger = logging.getLogger(__name__)

_RETRY_S = 0.5
_REMIND_S = 15.0
_GRACE_S = 3.0
_MAX_BYTES = 1 << 20


def meet(cluster: Cluster, facts: dict[str, Any], *, timeout_s: float = 600.0) -> None:
    """Returns on all workers once all are there and agree on the facts.

    Every worker tells the chief; the chief answers them all when it knows.

    Args:
        cluster: The workers, and which of them this is.
        facts: What must be the same on each, by name for people; JSON values.
        timeout_s: Seconds to wait for the others.

    Raises:
        ConfigError: A worker does not come or differs, or an address cannot be used.
    """
    _check_own_port(cluster)
    facts = {"list of workers": list(cluster.addresses), **facts}
    deadline = time.monotonic() + timeout_s
    problem = (_receive if cluster.is_chief else _report)(cluster, facts, deadline)
    if problem:
        raise ConfigError(
            f"{cluster.source}: {problem}",
            expected="the same command on each of the machines: "
            + ", ".join(cluster.addresses)
            + ", whose ports the others reach",
            next_step="docs/scale.md; to train alone: --cluster none",
        )


# === The chief ===


def _receive(cluster: Cluster, facts: dict[str, Any], deadline: float) -> str:
    """Hears all workers, answers them; says what is wrong, or nothing."""
    missing = set(range(1, len(cluster.addresses)))
    problem, reminder = "", time.monotonic() + _REMIND_S
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("", _address(cluster, 0)[1])))
        listener.settimeout(_RETRY_S)
        answers = []
        while missing:
            if time.monotonic() > deadline:
                problem = problem or f"did not come: {_names(cluster, missing)}"
                break
            if time.monotonic() > reminder:
                logger.warning("waiting for %s", _names(cluster, missing))
                reminder += _REMIND_S
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            stream = stack.enter_context(connection).makefile("rwb")
            connection.settimeout(10.0)
            try:
                index, other = json.loads(stream.readline(_MAX_BYTES))
            except (OSError, TypeError, ValueError):
                continue  # not one of ours: someone who tries ports
            answers.append(stream)
            if index not in missing:
                problem = problem or f"two processes are worker {index}"
            elif other != facts:
                problem = problem or _difference(index, facts, other)
            missing.discard(index)
            if problem:  # the others are told too, if they come soon
                deadline = min(deadline, time.monotonic() + _GRACE_S)
        for stream in answers:
            try:
                stream.write(json.dumps(problem).encode() + b"\n")
                stream.flush()
            except OSError:
                problem = problem or "a worker went away"
    return problem


def _difference(index: int, facts: dict[str, Any], other: dict[str, Any]) -> str:
    name = next(name for name in {**facts, **other} if facts.get(name) != other.get(name))
    return f"{name}: {facts.get(name)} on the chief, {other.get(name)} on worker {index}"


# === The others ===


def _report(cluster: Cluster, facts: dict[str, Any], deadline: float) -> str:
    """Tells the chief, and gives its answer."""
    chief, reminder = _names(cluster, {0}), time.monotonic() + _REMIND_S
    while True:
        try:
            with socket.create_connection(_address(cluster, 0), timeout=5.0) as connection:
                connection.settimeout(max(1.0, deadline - time.monotonic() + 5.0))
                stream = connection.makefile("rwb")
                stream.write(json.dumps([cluster.index, facts]).encode() + b"\n")
                stream.flush()
                return str(json.loads(stream.readline(_MAX_BYTES)))
        except (OSError, ValueError) as err:
            reason = err
        if time.monotonic() > deadline:
            return f"did not answer: {chief} ({reason})"
        if time.monotonic() > reminder:
            logger.warning("waiting for %s: %s", chief, reason)
            reminder += _REMIND_S
        time.sleep(_RETRY_S)


# === Addresses ===


def _address(cluster: Cluster, index: int) -> tuple[str, int]:
    host, _, port = cluster.addresses[index].rpartition(":")
    return host.strip("[]"), int(port)


def _names(cluster: Cluster, indices: set[int]) -> str:
    return ", ".join(
        f"{f'worker {index}' if index else 'the chief'} at {cluster.addresses[index]}"
        for index in sorted(indices)
    )


def _check_own_port(cluster: Cluster) -> None:
    """Whether it is free: TensorFlow would share it with another process, unasked."""
    try:
        socket.create_server(("", _address(cluster, cluster.index)[1])).close()
    except OSError as err:
        raise ConfigError(
            f"{cluster.source}: the port of {cluster.addresses[cluster.index]}, which is this "
            f"process, cannot be used: {err.strerror}",
            expected="a port that no other program of this machine has",
            next_step="take another port, or end the process that has it",
        ) from err
