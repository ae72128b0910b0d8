"""Writes what the containers of docker-compose.yml read, from what was published, and checks it.

Batch sizes that are allowed, built and warmed up are the same in the end, or nothing is written.
Files that somebody edited are kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.commands.export import DEFAULT_BASE_PATH
from segkit.contract import DEFAULT_MODEL_NAME
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.serving.containers.generated import GeneratedFile
    from segkit.serving.containers.published import PublishedModel
    from segkit.serving.containers.settings import Settings
    from segkit.serving.containers.tls import TlsFiles

__all__ = ["Options", "run"]

DEFAULT_OUTPUT = Path("serving")
SSL_CONFIG = "ssl.config"
MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # a folder, and a part of an URL, too
LABEL = re.compile(r"([A-Za-z0-9_.-]+)=(\d+)")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the configuration."""

    model_base_path: list[str] = field(default_factory=lambda: [str(DEFAULT_BASE_PATH)])
    """the folder of numbered versions; of several models, or of another name than segkit,
    NAME=FOLDER for each"""
    versions: str | None = None
    """which versions are served: latest (the default), latest:2, all, or numbers as in 3,4; with
    --label those that have one"""
    label: list[str] = field(default_factory=list)
    """names for versions, as in stable=3 canary=4"""
    cameras: int = 1
    """streams at the same time; with more than one, requests share runs of the model"""
    frame_rate: float = 30.0
    """frames a second of each stream"""
    max_batch_size: int | None = None
    """the largest batch; must be the largest that was published, 1 turns batching off"""
    batch_timeout_ms: float | None = None
    """how long a request waits for others; a quarter of a frame by default, and at most"""
    gpu_memory_gb: float | None = None
    """refuse what takes more, by estimate, while a version is swapped"""
    tls: list[str] = field(default_factory=list)
    """mutual TLS on gRPC: names and addresses by which clients reach the server"""
    tls_dir: Path = Path("tls")
    """folder of keys and certificates; an authority that is there is used again"""
    tls_days: int = 825
    """that the certificates of server and clients last; a new authority lasts 3650"""
    output: Path = DEFAULT_OUTPUT
    """the folder that the container sees as /config"""
    check: bool = False
    """write nothing: say whether what is in --output fits what is published"""
    overwrite: bool = False
    """replace files that were edited, and certificates that do not fit or end soon"""

    def __post_init__(self) -> None:
        for flag, least in (("cameras", 1), ("tls_days", 1), ("max_batch_size", 1)):
            value = getattr(self, flag)
            if value is not None and value < least:
                raise ConfigError(f"--{flag} is {value}", expected=f"{least} or more")
        for flag in ("frame_rate", "gpu_memory_gb"):
            value = getattr(self, flag)
            if value is not None and value <= 0:
                raise ConfigError(f"--{flag} is {value:g}", expected="a number above 0")
        if self.batch_timeout_ms is not None and self.batch_timeout_ms < 0:
            raise ConfigError(
                f"--batch_timeout_ms is {self.batch_timeout_ms:g}", expected="0 or more"
            )
        if self.check and self.tls:
            raise ConfigError("--check is given with --tls", expected="one of them")
        models = self.models
        if self.labels and len(models) > 1:
            raise ConfigError(
                f"--label is given with {len(models)} models",
                expected="one model: the versions of several have nothing in common",
            )

    @property
    def models(self) -> dict[str, Path]:
        """Name -> folder, in the order given.

        Raises:
            ConfigError: One is neither NAME=FOLDER nor a folder, or a name is given twice.
        """
        models: dict[str, Path] = {}
        for text in self.model_base_path:
            name, path = text.split("=", 1) if "=" in text else (DEFAULT_MODEL_NAME, text)
            if not MODEL_NAME.fullmatch(name) or not path:
                raise ConfigError(
                    f"--model_base_path is '{text}'",
                    expected="a folder, or NAME=FOLDER as in street=exports/street",
                )
            if name in models:
                raise ConfigError(
                    f"--model_base_path names '{name}' twice", expected="each model once"
                )
            models[name] = Path(path)
        return models

    @property
    def labels(self) -> dict[str, int]:
        """Label -> version.

        Raises:
            ConfigError: One is not LABEL=VERSION, or a label is given twice.
        """
        labels: dict[str, int] = {}
        for text in self.label:
            match = LABEL.fullmatch(text)
            if not match or match[1] in labels:
                raise ConfigError(
                    f"--label is '{text}'", expected="LABEL=VERSION, each label once, as stable=3"
                )
            labels[match[1]] = int(match[2])
        return labels


def run(options: Options) -> None:
    """Checks what is published, writes what fits it, and says how it is started."""
    from segkit.serving.containers.compose import check_compose_files, compose_files
    from segkit.serving.containers.config import ServerConfig
    from segkit.serving.containers.generated import GeneratedFile, write_files
    from segkit.serving.containers.memory import estimate_memory

    models, settings = _plan(options)
    memory = estimate_memory(models, settings)
    if options.gpu_memory_gb is not None:
        memory.check(options.gpu_memory_gb)
    for model in models:
        print(_describe(model), flush=True)
    print(memory.render())
    if options.check:
        ServerConfig.read(options.output).check(models)
        check_compose_files(compose_files(models, options.output, ssl_config=_ssl(options)))
        _check_ssl(options.output)
        print(f"{options.output} fits")
        return
    config = ServerConfig.build(models, settings)
    config.check(models)
    tls = _make_tls(options) if options.tls else None
    files = [
        GeneratedFile(path=options.output / name, body=text)
        for name, text in config.texts().items()
    ]
    if tls is not None:
        ssl = options.output / SSL_CONFIG
        files.append(GeneratedFile(path=ssl, body=tls.ssl_config, private=True))
    files += compose_files(models, options.output, ssl_config=_ssl(options))
    changed = write_files(files, overwrite=options.overwrite)
    for path in (*(tls.written if tls else ()), *changed):
        print(f"{'wrote' if path.exists() else 'removed'} {path}")
    if not changed:
        print(f"nothing to change in {options.output}")
    print(_next_steps(options, files, tls))


def _plan(options: Options) -> tuple[list[PublishedModel], Settings]:
    """What is published, and what is to be made of it."""
    from segkit.serving.containers.published import find_versions, read_model
    from segkit.serving.containers.settings import BatchPlan, Settings, VersionPolicy

    labels = options.labels
    usual = ",".join(map(str, labels.values())) or "latest"
    policy = VersionPolicy.parse(options.versions or usual)
    if labels and policy.newest is not None:
        raise ConfigError(
            f"--label is given with --versions {options.versions}",
            expected="--versions that name the labelled ones: of the latest, each will be gone "
            "one day, and its label would answer NOT_FOUND",
            next_step="leave out --versions, or give numbers",
        )
    models = [
        read_model(name, path, policy.select(sorted(find_versions(path)), model=name))
        for name, path in options.models.items()
    ]
    sizes = models[0].versions[-1].batch_sizes
    _check_batch_flags(options, sizes)
    batches = None
    if options.max_batch_size != 1 and (options.max_batch_size or options.cameras > 1):
        batches = BatchPlan.for_cameras(
            max(options.cameras, options.max_batch_size or 1),
            sizes,
            frame_rate=options.frame_rate,
            timeout_ms=options.batch_timeout_ms,
        )
    return models, Settings(policy=policy, labels=labels, batches=batches)


def _check_batch_flags(options: Options, sizes: Sequence[int]) -> None:
    """Holds --max_batch_size and --cameras to the batch sizes that are published."""
    built = " ".join(map(str, sizes))
    wanted = options.max_batch_size
    if wanted not in (None, 1, sizes[-1]):
        raise ConfigError(
            f"--max_batch_size is {wanted}, but the model is built and warmed up for batch sizes "
            f"{built}",
            expected=f"{sizes[-1]}, the largest of them, or 1 for no batching",
            next_step="give that, or publish it again with other --batch_sizes",
        )
    if wanted is None and options.cameras > 1 and sizes[-1] == 1:
        raise ConfigError(
            f"--cameras is {options.cameras}, but the model is built and warmed up for batch size "
            "1 alone",
            expected="larger ones, for requests to share a run of the model",
            next_step="publish it again with --batch_sizes 1 2 4, or add --max_batch_size 1 to "
            "run them one by one",
        )


def _make_tls(options: Options) -> TlsFiles:
    try:
        from segkit.serving.containers.tls import make_tls_files
    except ModuleNotFoundError as err:
        raise ConfigError(
            f"--tls needs a package that is not installed ({err.name})",
            expected="the extra `tls` of segkit",
            next_step='pip install -c constraints.txt -e ".[tls]"',
        ) from err
    return make_tls_files(
        options.tls_dir, options.tls, days=options.tls_days, overwrite=options.overwrite
    )


def _check_ssl(folder: Path) -> None:
    if (folder / SSL_CONFIG).exists():
        from segkit.serving.containers.tls import check_ssl_config

        server = check_ssl_config(folder / SSL_CONFIG)
        print(f"TLS for {', '.join(server.names)}, until {server.expires:%Y-%m-%d}")


def _ssl(options: Options) -> Path | None:
    """The file for --ssl_config_file: that which is made now, or which is there."""
    path = options.output / SSL_CONFIG
    return path if options.tls or path.exists() else None


def _describe(model: PublishedModel) -> str:
    lines = [f"{model.name} from {model.base_path}:"]
    for version in model.versions:
        height, width = version.metadata.image_size
        engines = ", TensorRT (GPU only)" if version.metadata.tensorrt else ""
        sizes = " ".join(map(str, version.batch_sizes))
        lines.append(
            f"  version {version.number}: {version.metadata.architecture}, {height}x{width}, "
            f"batch sizes {sizes}{engines}"
        )
    return "\n".join(lines)


def _next_steps(options: Options, files: Sequence[GeneratedFile], tls: TlsFiles | None) -> str:
    from segkit.serving.containers.compose import ENV_FILE, compose_command

    has_env = any(file.path.name == ENV_FILE and file.body is not None for file in files)
    lines = [f"start it: {compose_command(options.output, has_env=has_env)}"]
    if tls is not None:
        folder = options.tls_dir
        lines = [
            f"TLS for {', '.join(tls.server.names)}; certificates end: "
            f"server {tls.server.expires:%Y-%m-%d}, clients {tls.client.expires:%Y-%m-%d}, "
            f"authority {tls.ca.expires:%Y-%m-%d}",
            *lines,
            f"clients: --ca {folder}/ca.crt --cert {folder}/client.crt --key {folder}/client.key",
        ]
    return "\n".join(lines)
