"""slurm/train.sbatch: its syntax, and that what srun sets is what segkit reads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from segkit.training.cluster import Cluster, find_cluster

SCRIPT = Path(__file__).resolve().parent.parent.parent / "slurm" / "train.sbatch"

# As sbatch and srun do: the script in an allocation, and in it each task with the variables of its
# step; a second node has a name of its own.
SRUN = """#!/bin/bash
for task in 0 1; do
    SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST='gpu[7-8]' \\
    SLURM_STEP_TASKS_PER_NODE='1(x2)' SLURM_PROCID=$task SLURM_NODEID=$task SLURM_LOCALID=0 \\
    "${@:3}"
done
"""
PYTHON = """#!/bin/bash
echo "$@"
env > task$SLURM_PROCID.env
"""


@pytest.fixture
def bash() -> str:
    found = shutil.which("bash")
    if found is None:
        pytest.skip("needs bash, which is not here")
    return found


def test_the_script_is_bash(bash: str) -> None:
    subprocess.run([bash, "-n", str(SCRIPT)], check=True)


def test_each_task_of_the_script_finds_the_others(bash: str, tmp_path: Path) -> None:
    for name, text in (("bin/srun", SRUN), (".venv/bin/python", PYTHON)):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    environ = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_CPUS_PER_TASK": "32",
        "SLURM_JOB_ID": "20007",
        "SLURM_NTASKS": "2",
        "http_proxy": "proxy:3128",
    }
    reply = subprocess.run(
        [bash, str(SCRIPT), "--config_path", "a b.yaml"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert reply.stdout.splitlines() == ["train.py --cluster slurm --config_path a b.yaml"] * 2
    for task in range(2):
        lines = (tmp_path / f"task{task}.env").read_text().splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        assert find_cluster("slurm", found) == Cluster(("gpu7:12007", "gpu8:12007"), task, "SLURM")
        assert "http_proxy" not in found


def test_the_script_asks_for_one_task_a_node_and_a_signal_before_the_end() -> None:
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", SCRIPT.read_text(), re.MULTILINE))
    assert asked["ntasks-per-node"] == "1"
    assert asked["signal"].startswith("TERM@")
