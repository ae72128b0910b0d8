"""Which processes train together, as TF_CONFIG or SLURM say. No TensorFlow."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from segkit.errors import ConfigError

__all__ = ["Cluster", "ClusterChoice", "expand_counts", "expand_nodes", "find_cluster"]

ClusterChoice = Literal["auto", "tf_config", "slurm", "none"]

logger = logging.getLogger(__name__)

# Below the ports that Linux gives to clients.
_FIRST_PORT, _PORTS = 12000, 20000


@dataclass(frozen=True)
class Cluster:
    """The processes of one training, its workers, and which of them this is.

    Args:
        addresses: host:port of each worker; the first is the chief, who writes the run folder.
        index: Number of this worker, from 0.
        source: Where that is written, for messages.
    """

    addresses: tuple[str, ...]
    index: int
    source: str

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the run folder and speaks to the user."""
        return self.index == 0


def find_cluster(
    choice: ClusterChoice = "auto", environ: Mapping[str, str] | None = None
) -> Cluster | None:
    """The cluster of this process, or None if it trains alone.

    Args:
        choice: Where to look; "auto": TF_CONFIG, then SLURM, and neither is required.
        environ: The environment; that of this process by default.

    Raises:
        ConfigError: What is written there cannot be, or the chosen place says nothing.
    """
    environ = os.environ if environ is None else environ
    if choice == "none":
        return None
    if choice == "tf_config" or (choice == "auto" and environ.get("TF_CONFIG")):
        cluster = _from_tf_config(environ.get("TF_CONFIG", ""))
        expected = 'TF_CONFIG with {"cluster": {"worker": [two addresses or more]}, "task": ...}'
    else:
        cluster = _from_slurm(environ)
        expected = "`srun --ntasks 2` or more before the command, inside an allocation"
    if choice != "auto" and cluster is None:
        raise ConfigError(
            f"--cluster {choice}, but there are no other workers",
            expected=expected,
            next_step="leave --cluster out to train alone",
        )
    return cluster


# === TF_CONFIG ===


def _from_tf_config(text: str) -> Cluster | None:
    try:
        config = json.loads(text or "{}")
        jobs, task = config.get("cluster") or {}, config.get("task")
        unknown = sorted(set(jobs) - {"chief", "worker"})
        addresses = [*jobs.get("chief", []), *jobs.get("worker", [])]
    except (AttributeError, TypeError, ValueError) as err:
        raise _bad_tf_config(f"cannot be read ({err}): {text}") from err
    if unknown:
        raise _bad_tf_config(f"has the tasks {', '.join(unknown)}, which segkit does not have")
    if len(jobs.get("chief", [])) > 1:
        raise _bad_tf_config("has more than one chief")
    _check_addresses(addresses)
    if len(addresses) < 2:
        return None
    index = _index_of(task, jobs)
    return Cluster(tuple(addresses), index, "TF_CONFIG")


def _index_of(task: Any, jobs: Mapping[str, list[str]]) -> int:
    """Number of a task among all workers, the chief being the first."""
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise _bad_tf_config("does not say which task this process is")
    kind, index = task["type"], task["index"]
    if kind not in jobs:
        raise _bad_tf_config(f"makes this process a {kind!r}, but its cluster has none")
    if not re.fullmatch(r"\d+", str(index)) or int(index) >= len(jobs[kind]):
        raise _bad_tf_config(
            f"makes this process {kind} {index!r}, but there are 0 to {len(jobs[kind]) - 1}"
        )
    return int(index) + (len(jobs.get("chief", [])) if kind == "worker" else 0)


def _check_addresses(addresses: list[Any]) -> None:
    for address in addresses:
        _, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not re.fullmatch(r".+:\d+", str(address)) or not 0 < int(port) < 65536:
            raise _bad_tf_config(f"has the address {address!r}, which is not host:port")
    if len(set(addresses)) < len(addresses):
        raise _bad_tf_config("has an address twice")


def _bad_tf_config(problem: str) -> ConfigError:
    return ConfigError(
        f"the environment variable TF_CONFIG {problem}",
        expected='{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
        '"task": {"type": "worker", "index": 0}}, with another index on each machine',
        next_step="docs/scale.md has an example; to train alone: --cluster none",
    )


# === SLURM ===


def _from_slurm(environ: Mapping[str, str]) -> Cluster | None:
    """The tasks of the step that this process is one of.

    An allocation alone (salloc, the script of sbatch) sets SLURM_NTASKS too, and SLURM_PROCID to 0:
    only SLURM_STEP_NUM_TASKS says that srun started the others.
    """
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks == "1":
        if environ.get("SLURM_NTASKS", "1") != "1":
            logger.warning(
                "SLURM has %s tasks for this job, but srun did not start this process: it trains "
                "alone. `srun python train.py ...` starts them all",
                environ["SLURM_NTASKS"],
            )
        return None
    try:
        nodes = expand_nodes(environ["SLURM_STEP_NODELIST"])
        counts = expand_counts(environ["SLURM_STEP_TASKS_PER_NODE"])
        index, node = int(environ["SLURM_PROCID"]), int(environ["SLURM_NODEID"])
        port = _FIRST_PORT + int(environ["SLURM_JOB_ID"]) % _PORTS
        places = [
            (place, f"{name}:{port + local}")
            for place, (name, count) in enumerate(zip(nodes, counts, strict=True))
            for local in range(count)
        ]
        if len(places) != int(tasks):
            raise ValueError(f"{tasks} tasks, but {len(places)} on the nodes")
        expected_node, _ = places[index]
    except (KeyError, IndexError, ValueError) as err:
        raise ConfigError(
            f"the SLURM_* variables of this step do not fit together: {err}",
            expected="those of `srun python train.py ...` (docs/scale.md has a script)",
            next_step="to train alone: --cluster none",
        ) from err
    if expected_node != node:
        raise ConfigError(
            f"SLURM put task {index} on node {node}, not on {expected_node}",
            expected="tasks that fill one node after the other",
            next_step="srun --distribution=block, or one task per node: --ntasks-per-node 1",
        )
    return Cluster(tuple(address for _, address in places), index, "SLURM")


def expand_nodes(text: str) -> list[str]:
    """The names in a node list of SLURM, in its order: "a[1-2,07],b" is a1, a2, a07, b.

    Raises:
        ValueError: It is no such list.
    """
    names: list[str] = []
    for part in _split(text):
        pieces = re.split(r"\[([^\[\]]*)\]", part)
        if not part or any(character in "[]" for piece in pieces for character in piece):
            raise ValueError(f"'{text}' is not a list of nodes")
        # Literal texts, and between them what stood in brackets.
        choices = [
            _expand_range(piece, text) if number % 2 else [piece]
            for number, piece in enumerate(pieces)
        ]
        names += ["".join(name) for name in product(*choices)]
    return names


def expand_counts(text: str) -> list[int]:
    """What SLURM says of each node in turn: "2(x3),1" is 2, 2, 2, 1.

    Raises:
        ValueError: It is no such list.
    """
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(f"'{text}' is not a list of tasks per node")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def _split(text: str) -> Iterator[str]:
    """At the commas outside of brackets."""
    yield from re.split(r",(?![^\[]*\])", text)


def _expand_range(inside: str, text: str) -> list[str]:
    numbers: list[str] = []
    for part in inside.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None:
            raise ValueError(f"'{text}' is not a list of nodes")
        first, last = match[1], match[2] or match[1]
        numbers += [f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)]
    return numbers
