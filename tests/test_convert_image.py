"""serving/convert.Dockerfile: the image that converts, against the pins and that which serves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from typing import Any

import pytest
from compose_file import COMPOSE_FILE, REPOSITORY, SERVICES, default
from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils

from segkit.commands.convert_container import CHECKPOINTS, SERVICE
from segkit.commands.convert_to_tensorrt import DEFAULT_OUTPUT
from segkit.commands.export import DEFAULT_BASE_PATH
from segkit.export.tensorrt_preflight import LIBRARIES


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    service: dict[str, Any] = SERVICES["serving"]
    return service


@pytest.fixture(scope="module")
def convert() -> dict[str, Any]:
    service: dict[str, Any] = SERVICES[SERVICE]
    return service


@pytest.fixture(scope="module")
def steps(convert: dict[str, Any]) -> list[tuple[str, str]]:
    """The instructions of its Dockerfile: (name, arguments)."""
    text = (REPOSITORY / convert["build"]["dockerfile"]).read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in lines]


def test_engines_are_built_by_the_image_that_runs_them(
    service: dict[str, Any], steps: list[tuple[str, str]]
) -> None:
    assert steps[0] == ("FROM", service["image"])
    checks = " ".join(rest for name, rest in steps if name == "RUN")
    version = ".".join(map(str, _pywrap_py_utils.get_linked_tensorrt_version()))
    for library in LIBRARIES:  # under the names that the pinned TensorFlow opens
        assert f"test -e /usr/lib/x86_64-linux-gnu/{library}.{version}" in checks


def test_it_installs_the_pins_for_the_python_that_they_are_for(
    steps: list[tuple[str, str]],
) -> None:
    commands = [rest for name, rest in steps if name == "RUN"]
    (python,) = re.findall(r"uv python install ([\d.]+)", " ".join(commands))
    assert python == "3.11" and sys.version_info[:2] == (3, 11)
    assert any("-r requirements.txt -c constraints.txt" in command for command in commands)
    assert not any("index-url" in command for command in commands)


def test_it_runs_the_script_with_all_that_it_imports(
    convert: dict[str, Any], steps: list[tuple[str, str]]
) -> None:
    (entry,) = [json.loads(rest) for name, rest in steps if name == "ENTRYPOINT"]
    copied = [
        rest.split()[:-1]
        for name, rest in steps
        if name == "COPY" and not rest.startswith("--from")
    ]
    sources = {source for group in copied for source in group}
    assert entry == ["/opt/segkit/bin/python", "convert_to_tensorRT.py"]
    assert {entry[1], "segkit", "requirements.txt", "constraints.txt"} == sources
    assert all((REPOSITORY / source).exists() for source in sources)
    ignored = (REPOSITORY / f"{convert['build']['dockerfile']}.dockerignore").read_text()
    kept = {line[1:] for line in ignored.splitlines() if line.startswith("!")}
    assert kept == sources, "what is not copied is not sent to Docker, and all that is copied is"


def test_its_glibc_is_new_enough_for_every_pinned_wheel() -> None:
    """That of Ubuntu 20.04: the packages must have wheels for it, as they have for this machine."""
    pins = (REPOSITORY / "requirements.txt").read_text()
    for name in re.findall(r"^([\w.-]+)==", pins, re.M):
        wheel = metadata.distribution(name).read_text("WHEEL") or ""
        versions = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)_", wheel)]
        assert min(versions, default=0) <= 31, name


def test_it_sees_the_versions_where_the_flags_expect_them(
    convert: dict[str, Any], steps: list[tuple[str, str]]
) -> None:
    (volume,) = convert["volumes"]
    (home,) = [rest for name, rest in steps if name == "WORKDIR"]
    assert volume["target"] == f"{home}/{CHECKPOINTS}"
    assert not volume.get("read_only") and volume["bind"]["create_host_path"] is False
    assert default(volume["source"]) == f"./{CHECKPOINTS}"
    for path in (DEFAULT_BASE_PATH, DEFAULT_OUTPUT):
        assert path.is_relative_to(CHECKPOINTS)


def test_it_has_a_gpu_and_is_not_started_with_the_server(
    service: dict[str, Any], convert: dict[str, Any]
) -> None:
    assert convert["deploy"] == service["deploy"]
    assert convert["profiles"] == [SERVICE]
    assert "profiles" not in service and "restart" not in convert


@pytest.mark.docker
def test_the_image_is_built_and_starts() -> None:
    """Not more: converting needs a GPU, see tests/export/test_tensorrt_gpu.py."""
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "info"], capture_output=True).returncode:
        pytest.skip("needs a Docker engine")
    compose = [docker, "compose", "--file", str(COMPOSE_FILE)]
    subprocess.run([*compose, "build", SERVICE], check=True)
    reply = subprocess.run(
        [docker, "run", "--rm", "segkit/convert:2.15.1-gpu", "--help"],
        capture_output=True,
        text=True,
    )
    assert reply.returncode == 0, reply.stderr
    assert "--floating_mode" in reply.stdout


PROFILES = ("cpu", "convert", "monitoring")
