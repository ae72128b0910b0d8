"""docker-compose.yml and what serve-config writes for it, as docker compose itself reads them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_file import COMPOSE_FILE, REPOSITORY, SERVICES
from fake_versions import write_fake_version

from segkit.__main__ import main
from segkit.contract import Metadata

PROFILES = ("cpu", "convert", "monitoring")


def compose_config(folder: Path, *flags: str) -> dict[str, Any]:
    """What docker compose makes of the files, without an engine."""
    docker, old = shutil.which("docker"), shutil.which("docker-compose")
    if (
        docker
        and not subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        command = [docker, "compose"]
    elif old:  # version 1 has all that is used here but one key
        command = [old]
        for path in (folder / "docker-compose.yml", folder / "serving/models.compose.yml"):
            if path.exists():
                text = re.sub(r"\n +bind:\n +create_host_path: false.*", "", path.read_text())
                path.write_text(text)
    else:
        pytest.skip("neither docker compose nor docker-compose is installed")
    profiles = [word for profile in PROFILES for word in ("--profile", profile)]
    reply = subprocess.run(
        [*command, *flags, *profiles, "config"], cwd=folder, capture_output=True, text=True
    )
    assert reply.returncode == 0, reply.stderr
    config: dict[str, Any] = yaml.safe_load(reply.stdout)
    return config


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what docker compose reads."""
    shutil.copy(COMPOSE_FILE, tmp_path)
    shutil.copytree(REPOSITORY / "serving", tmp_path / "serving")
    return tmp_path


def test_docker_compose_accepts_the_file(checkout: Path) -> None:
    config = compose_config(checkout)
    assert set(config["services"]) == set(SERVICES)
    assert "--ssl_config_file=" in config["services"]["serving"]["command"]


def test_docker_compose_reads_what_serve_config_writes(
    checkout: Path, tiny_metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("street", "night"):
        (checkout / name).mkdir()
        write_fake_version(checkout / name, 1, tiny_metadata)
    monkeypatch.chdir(checkout)
    assert not main(
        ["serve-config", "--model_base_path", "street=street", "night=night", "--tls", "gpu1"]
    )
    config = compose_config(checkout, "--env-file", "serving/compose.env")
    for name in ("serving", "serving-cpu"):
        service = config["services"][name]
        mounts = {volume["target"]: volume["source"] for volume in service["volumes"]}
        assert mounts == {
            "/models/street": str(checkout / "street"),
            "/models/night": str(checkout / "night"),
            "/config": str(checkout / "serving"),
        }
        assert "--ssl_config_file=/config/ssl.config" in service["command"]
        assert service["user"] == f"{os.getuid()}:{os.getgid()}"
        assert "for model in street night" in service["healthcheck"]["test"][-1]
