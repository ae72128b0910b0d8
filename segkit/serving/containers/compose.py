"""What docker compose is told where it is not the one usual model in its usual place.

compose.env          for `docker compose --env-file`: the variables of docker-compose.yml
models.compose.yml   the second model and further ones: mounts, and the health check for all
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from segkit import contract
from segkit.errors import ConfigError
from segkit.serving.containers.config import WRITE_AGAIN, path_in_container
from segkit.serving.containers.generated import GeneratedFile
from segkit.serving.containers.published import PublishedModel

__all__ = [
    "ENV_FILE",
    "OVERRIDE_FILE",
    "check_compose_files",
    "compose_command",
    "compose_files",
    "env_text",
    "override",
]

ENV_FILE, OVERRIDE_FILE = "compose.env", "models.compose.yml"
COMPOSE_FILE = "docker-compose.yml"
CONFIG_DIR = Path("serving")
SERVICES = ("serving", "serving-cpu")
USUAL_MODEL = (contract.DEFAULT_MODEL_NAME, Path("checkpoints/export_path"))

# Asks for each model in turn; $$ is what compose makes a $ of.
_HEALTH = (
    "for model in {}; do exec 3<>/dev/tcp/127.0.0.1/8501; "
    "printf 'GET /v1/models/%s HTTP/1.0\\r\\n\\r\\n' $$model >&3; "
    "grep -q '\"AVAILABLE\"' <&3 || exit 1; done"
)


def compose_files(
    models: Sequence[PublishedModel], folder: Path, *, ssl_config: Path | None
) -> list[GeneratedFile]:
    """Both files, see `env_text` and `override`."""
    return [
        GeneratedFile(path=folder / ENV_FILE, body=env_text(models, folder, ssl_config=ssl_config)),
        GeneratedFile(path=folder / OVERRIDE_FILE, body=override(models)),
    ]


def check_compose_files(files: Sequence[GeneratedFile]) -> None:
    """Says whether all that must be said is there; more may be.

    Raises:
        ConfigError: A line is missing.
    """
    for file in files:
        there = file.path.read_text(encoding="utf-8") if file.path.exists() else ""
        missing = set((file.body or "").splitlines()) - set(there.splitlines())
        if missing:
            raise ConfigError(
                f"'{file.path}' does not say {min(missing).strip()}",
                expected="what docker compose must be told of these models, and of TLS",
                next_step=WRITE_AGAIN,
            )


def env_text(
    models: Sequence[PublishedModel], folder: Path, *, ssl_config: Path | None
) -> str | None:
    """The variables that differ from their defaults, as lines; None where none does.

    Args:
        models: What is served, the first of them by docker-compose.yml itself.
        folder: Where the configuration is.
        ssl_config: The file for --ssl_config_file, in `folder`; only this user may read it.
    """
    first = models[0]
    variables: dict[str, str] = {}
    if (first.name, first.base_path) != USUAL_MODEL:
        variables |= {
            "SEGKIT_MODEL_NAME": first.name,
            "MODEL_BASE_PATH": str(first.base_path.absolute()),
        }
    if folder != CONFIG_DIR:
        variables["SEGKIT_CONFIG_DIR"] = str(folder.absolute())
    if len(models) > 1:
        variables["COMPOSE_FILE"] = f"{COMPOSE_FILE}:{folder / OVERRIDE_FILE}"
    if ssl_config is not None:
        variables |= {
            "SEGKIT_SSL_CONFIG_FILE": f"/config/{ssl_config.name}",
            "SEGKIT_USER": f"{os.getuid()}:{os.getgid()}",
        }
    return "".join(f"{name}={value}\n" for name, value in variables.items()) or None


def override(models: Sequence[PublishedModel]) -> str | None:
    """The second compose file; None where there is one model."""
    if len(models) == 1:
        return None
    names = " ".join(model.name for model in models)
    services = {service: _service(models, names) for service in SERVICES}
    return yaml.safe_dump({"services": services}, sort_keys=False)


def compose_command(folder: Path, *, has_env: bool) -> str:
    """How the container is started."""
    env = f"--env-file {folder / ENV_FILE} " if has_env else ""
    return f"docker compose {env}up --detach --wait serving"


def _service(models: Sequence[PublishedModel], names: str) -> dict[str, Any]:
    return {
        "volumes": [
            {
                "type": "bind",
                "source": str(model.base_path.absolute()),
                "target": path_in_container(model.name),
                "read_only": True,
                "bind": {"create_host_path": False},
            }
            for model in models[1:]
        ],
        "healthcheck": {"test": ["CMD", "bash", "-c", _HEALTH.format(names)]},
    }
