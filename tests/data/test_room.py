from __future__ import annotations

from pathlib import Path

import pytest
from tiny_sets import write

from segkit.data.room import free_disk, free_memory

MEMINFO = "MemTotal:       20000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\n"
FREE = 8000 * 1024
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


def test_free_memory_is_what_linux_calls_available(tmp_path: Path) -> None:
    assert free_memory(write(tmp_path, {"proc/meminfo": MEMINFO})) == FREE


@pytest.mark.parametrize(
    ("files", "left"),
    [
        # a container that is its own top, as Docker makes it
        (
            {
                "proc/self/cgroup": "0::/\n",
                f"{V2}/memory.max": "5000\n",
                f"{V2}/memory.current": "4500\n",
                f"{V2}/memory.stat": "anon 4000\nfile 450\ninactive_file 300\nactive_file 100\n",
            },
            5000 - 4500 + 400,
        ),
        # a job whose limit stands above its own group, as Slurm makes it
        (
            {
                "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
                f"{V2}/slurm/job_7/step_0/memory.max": "max\n",
                f"{V2}/slurm/job_7/memory.max": "3000\n",
                f"{V2}/slurm/job_7/memory.current": "1000\n",
                f"{V2}/slurm/job_7/memory.stat": "anon 1000\n",
            },
            2000,
        ),
        # the first version, seen from inside: the path is the one outside
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/ab\n3:memory:/docker/ab\n0::/\n",
                f"{V1}/memory.limit_in_bytes": "6000\n",
                f"{V1}/memory.usage_in_bytes": "2000\n",
                f"{V1}/memory.stat": "active_file 1\ntotal_inactive_file 70\ntotal_active_file 7\n",
            },
            4077,
        ),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, FREE),
        (
            {
                "proc/self/cgroup": "3:memory:/\n",
                f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
                f"{V1}/memory.usage_in_bytes": "2000\n",
                f"{V1}/memory.stat": "",
            },
            FREE,
        ),
    ],
)
def test_limits_of_control_groups_count(files: dict[str, str], left: int, tmp_path: Path) -> None:
    assert free_memory(write(tmp_path, {"proc/meminfo": MEMINFO} | files)) == left


def test_a_group_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/\n",
        f"{V2}/memory.max": "5000\n",
        f"{V2}/memory.current": "5001\n",
        f"{V2}/memory.stat": "",
    }
    assert free_memory(write(tmp_path, files)) == 0


def test_a_machine_that_does_not_say_has_no_free_memory(tmp_path: Path) -> None:
    assert free_memory(tmp_path) == 0


def test_disk_is_free_where_a_folder_would_be_made(tmp_path: Path) -> None:
    assert 0 < free_disk(tmp_path / "not" / "yet") == pytest.approx(free_disk(tmp_path), rel=0.1)
