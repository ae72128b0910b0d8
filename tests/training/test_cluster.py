"""Who trains with whom, read from TF_CONFIG and from what SLURM leaves in the environment."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from segkit.errors import ConfigError
from segkit.training.cluster import Cluster, expand_counts, expand_nodes, find_cluster

HOSTS = ["node1:2222", "node2:2222"]


def tf_config(cluster: Any, task: Any) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def slurm(**changed: str) -> dict[str, str]:
    """What srun sets for the third task of four on two nodes."""
    variables = {
        "SLURM_JOB_ID": "45001",
        "SLURM_NTASKS": "4",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "gpu[09-10]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
        "SLURM_PROCID": "2",
        "SLURM_NODEID": "1",
    }
    return variables | changed


# === TF_CONFIG ===


def test_tf_config_names_the_workers_and_this_one() -> None:
    found = find_cluster(environ=tf_config({"worker": HOSTS}, {"type": "worker", "index": 1}))
    assert found == Cluster(tuple(HOSTS), 1, "TF_CONFIG")
    assert not found.is_chief


@pytest.mark.parametrize(
    ("task", "index"),
    [({"type": "chief", "index": 0}, 0), ({"type": "worker", "index": "0"}, 1)],
)
def test_a_chief_is_the_first_of_the_workers(task: Any, index: int) -> None:
    jobs = {"worker": HOSTS[1:], "chief": HOSTS[:1]}
    assert find_cluster(environ=tf_config(jobs, task)) == Cluster(tuple(HOSTS), index, "TF_CONFIG")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": "{}"},
        tf_config({"worker": HOSTS[:1]}, {"type": "worker", "index": 0}),
    ],
)
def test_without_other_workers_it_trains_alone(environ: dict[str, str]) -> None:
    assert find_cluster(environ=environ) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{'cluster'", "cannot be read"),
        ("[1]", "cannot be read"),
        ('{"cluster": {"worker": 3}}', "cannot be read"),
        (tf_config({"worker": HOSTS}, None)["TF_CONFIG"], "which task this process is"),
        (tf_config({"worker": HOSTS}, {"type": "worker"})["TF_CONFIG"], "which task this process"),
        (
            tf_config({"worker": HOSTS}, {"type": "worker", "index": 2})["TF_CONFIG"],
            "worker 2, but there are 0 to 1",
        ),
        (
            tf_config({"worker": HOSTS}, {"type": "worker", "index": -1})["TF_CONFIG"],
            "worker -1, but there are 0 to 1",
        ),
        (
            tf_config({"worker": HOSTS}, {"type": "chief", "index": 0})["TF_CONFIG"],
            "'chief', but its cluster has none",
        ),
        (
            tf_config({"worker": HOSTS, "ps": ["a:1"]}, {"type": "ps", "index": 0})["TF_CONFIG"],
            "tasks ps, which segkit does not have",
        ),
        (
            tf_config({"worker": HOSTS, "evaluator": ["a:1"]}, {})["TF_CONFIG"],
            "tasks evaluator, which segkit does not have",
        ),
        (tf_config({"chief": HOSTS}, {"type": "chief", "index": 0})["TF_CONFIG"], "one chief"),
        (tf_config({"worker": ["a", "b:1"]}, {})["TF_CONFIG"], "'a', which is not host:port"),
        (tf_config({"worker": ["a:0", "b:1"]}, {})["TF_CONFIG"], "'a:0', which is not host:port"),
        (tf_config({"worker": ["a:70000", "b:1"]}, {})["TF_CONFIG"], "which is not host:port"),
        (tf_config({"worker": [7, "b:1"]}, {})["TF_CONFIG"], "7, which is not host:port"),
        (tf_config({"worker": ["a:1", "a:1"]}, {})["TF_CONFIG"], "an address twice"),
    ],
)
def test_a_bad_tf_config_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        find_cluster(environ={"TF_CONFIG": text})
    assert words in refused.value.problem
    assert '"task": {"type": "worker"' in refused.value.expected
    assert "docs/scale.md" in refused.value.next_step


# === SLURM ===


def test_a_task_of_srun_knows_the_others() -> None:
    found = find_cluster(environ=slurm())
    addresses = ("gpu09:17001", "gpu09:17002", "gpu10:17001", "gpu10:17002")
    assert found == Cluster(addresses, 2, "SLURM")


def test_in_an_allocation_without_srun_it_trains_alone_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    allocation = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "45001"}
    with caplog.at_level(logging.WARNING):
        assert find_cluster(environ=allocation) is None
    assert "4 tasks" in caplog.text
    assert "srun python train.py" in caplog.text
    # The shell that salloc opens may itself be a step, of one task.
    assert find_cluster(environ=allocation | {"SLURM_STEP_NUM_TASKS": "1"}) is None


def test_one_task_alone_is_no_cluster_and_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert find_cluster(environ={"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert not caplog.text


def test_tasks_dealt_out_in_turn_are_refused() -> None:
    with pytest.raises(ConfigError, match="task 2 on node 0, not on 1") as refused:
        find_cluster(environ=slurm(SLURM_NODEID="0"))
    assert "--distribution=block" in refused.value.next_step


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"SLURM_PROCID": "4"}, "do not fit together"),
        ({"SLURM_PROCID": "x"}, "do not fit together"),
        ({"SLURM_STEP_NODELIST": "gpu[09"}, "not a list of nodes"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(y2)"}, "not a list of tasks per node"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2,1"}, "4 tasks, but 3 on the nodes"),
        ({"SLURM_STEP_TASKS_PER_NODE": "4"}, "do not fit together"),
    ],
)
def test_slurm_variables_that_do_not_fit_are_refused(changed: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        find_cluster(environ=slurm(**changed))
    assert words in refused.value.problem


def test_a_missing_slurm_variable_is_named() -> None:
    environ = slurm()
    del environ["SLURM_STEP_NODELIST"]
    with pytest.raises(ConfigError, match="SLURM_STEP_NODELIST"):
        find_cluster(environ=environ)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("one", ["one"]),
        ("b,a", ["b", "a"]),
        ("n[1-2],m5,o[3-4,06,7-8]", ["n1", "n2", "m5", "o3", "o4", "o06", "o7", "o8"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("r[1-2]n[3,5]-ib", ["r1n3-ib", "r1n5-ib", "r2n3-ib", "r2n5-ib"]),
    ],
)
def test_node_lists(text: str, names: list[str]) -> None:
    assert expand_nodes(text) == names


@pytest.mark.parametrize("text", ["", "a,", "a[1-2", "a1-2]", "a[x]", "a[1-2-3]", "a[[1]]", "a[]"])
def test_what_is_no_node_list(text: str) -> None:
    with pytest.raises(ValueError, match="not a list of nodes"):
        expand_nodes(text)


def test_tasks_per_node() -> None:
    assert expand_counts("3(x2),2,1") == [3, 3, 2, 1]


# === Choice ===


def test_the_choice_overrides_the_environment() -> None:
    environ = slurm() | tf_config({"worker": HOSTS}, {"type": "worker", "index": 0})
    sources = {
        choice: cluster and cluster.source
        for choice in ("auto", "tf_config", "slurm", "none")
        for cluster in [find_cluster(choice, environ)]
    }
    assert sources == {
        "auto": "TF_CONFIG",
        "tf_config": "TF_CONFIG",
        "slurm": "SLURM",
        "none": None,
    }


@pytest.mark.parametrize(("choice", "words"), [("tf_config", "TF_CONFIG"), ("slurm", "srun")])
def test_a_chosen_cluster_that_is_not_there_is_refused(choice: Any, words: str) -> None:
    with pytest.raises(ConfigError, match="no other workers") as refused:
        find_cluster(choice, {})
    assert words in refused.value.expected
