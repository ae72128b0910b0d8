"""The configuration of tensorflow/serving as its own messages: built, written, read, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow_serving.config import model_server_config_pb2

from segkit.errors import ConfigError
from segkit.serving.configs import TENSORFLOW, read_message, read_platform
from segkit.serving.containers.published import PublishedModel
from segkit.serving.containers.settings import BatchPlan, Settings
from segkit.serving.server_config_pb2 import (
    BatchingParameters,
    MonitoringConfig,
    PlatformConfigMap,
    SavedModelBundleSourceAdapterConfig,
    SessionBundleConfig,
)

__all__ = [
    "BATCHING",
    "METRICS_PATH",
    "MODELS",
    "MONITORING",
    "PLATFORM",
    "WRITE_AGAIN",
    "ServerConfig",
    "path_in_container",
]

MODELS, PLATFORM = "models.config", "platform.config"
BATCHING, MONITORING = "batching.config", "monitoring.config"
METRICS_PATH = "/monitoring/prometheus/metrics"  # the server's own default
WRITE_AGAIN = "python -m segkit serve-config, with the same flags and without --check"

_COMMENTS = {
    MODELS: "tensorflow.serving.ModelServerConfig (--model_config_file): what is served.",
    PLATFORM: "tensorflow.serving.PlatformConfigMap (--platform_config_file): how it is loaded\n"
    "# and run. Without allow_growth TensorFlow takes the whole GPU at start, and the TensorRT of\n"
    "# a second version finds nothing left.",
    BATCHING: "tensorflow.serving.BatchingParameters (--batching_parameters_file), for servers\n"
    "# that are started by flags; the containers read the same from platform.config.",
    MONITORING: "tensorflow.serving.MonitoringConfig (--monitoring_config_file): the page that\n"
    "# Prometheus reads, on the REST port.",
}


def path_in_container(name: str) -> str:
    """The base path of a model as the server in the container sees it."""
    return f"/models/{name}"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The messages of all files.

    Args:
        models: A ModelServerConfig.
        platform: The SessionBundleConfig of the platform "tensorflow".
        batching: BatchingParameters of a file of their own, or None.
        monitoring: A MonitoringConfig.
    """

    models: Any
    platform: Any
    batching: Any
    monitoring: Any

    @classmethod
    def build(cls, models: Sequence[PublishedModel], settings: Settings) -> ServerConfig:
        """What the settings ask for."""
        batching = _batching(settings.batches) if settings.batches else None
        platform = SessionBundleConfig(
            batching_parameters=batching,
            saved_model_tags=["serve"],
            enable_model_warmup=True,
            remove_unused_fields_from_bundle_metagraph=True,
        )
        platform.session_config.gpu_options.allow_growth = True
        monitoring = MonitoringConfig()
        monitoring.prometheus_config.enable = True
        monitoring.prometheus_config.path = METRICS_PATH
        return cls(
            models=_models(models, settings),
            platform=platform,
            batching=batching,
            monitoring=monitoring,
        )

    @classmethod
    def read(cls, folder: Path) -> ServerConfig:
        """Reads the files of a folder.

        Raises:
            ConfigError: One is missing, or is no such message.
        """
        batching = folder / BATCHING
        return cls(
            models=read_message(folder / MODELS, model_server_config_pb2.ModelServerConfig),
            platform=read_platform(folder / PLATFORM),
            batching=read_message(batching, BatchingParameters) if batching.exists() else None,
            monitoring=read_message(folder / MONITORING, MonitoringConfig),
        )

    def texts(self) -> dict[str, str | None]:
        """File name -> its text; None where there shall be no such file."""
        adapter = SavedModelBundleSourceAdapterConfig(legacy_config=self.platform)
        platforms = PlatformConfigMap()
        platforms.platform_configs[TENSORFLOW].source_adapter_config.Pack(adapter)
        messages: dict[str, Message | None] = {
            MODELS: self.models,
            PLATFORM: platforms,
            BATCHING: self.batching,
            MONITORING: self.monitoring,
        }
        return {
            name: None if message is None else f"# {_COMMENTS[name]}\n{_text(message)}"
            for name, message in messages.items()
        }

    def check(self, published: Sequence[PublishedModel]) -> None:
        """Holds it to what is published, and its parts to each other.

        Raises:
            ConfigError: Something does not fit.
        """
        configs = {config.name: config for config in self.models.model_config_list.config}
        if set(configs) != {model.name for model in published}:
            raise ConfigError(
                f"{MODELS} serves {_names(configs)}",
                expected=f"the models given: {_names(model.name for model in published)}",
                next_step=f"give --model_base_path NAME=PATH for each; or {WRITE_AGAIN}",
            )
        for model in published:
            _check_model(configs[model.name], model)
        _check_platform(self.platform)
        own = self.platform.batching_parameters
        has_own = self.platform.HasField("batching_parameters")
        if has_own != (self.batching is not None) or (has_own and own != self.batching):
            raise ConfigError(
                f"{BATCHING} and {PLATFORM} differ about batching",
                expected="the same in both, or in none",
                next_step=WRITE_AGAIN,
            )
        if has_own:
            _check_batching(own, published)
        if not self.monitoring.prometheus_config.enable:
            raise ConfigError(
                f"{MONITORING} turns the metrics off",
                expected="prometheus_config { enable: true }",
                next_step=WRITE_AGAIN,
            )


def _models(models: Sequence[PublishedModel], settings: Settings) -> Any:
    config = model_server_config_pb2.ModelServerConfig()
    policy = settings.policy
    for model in models:
        entry = config.model_config_list.config.add(
            name=model.name,
            base_path=path_in_container(model.name),
            model_platform=TENSORFLOW,
            version_labels=settings.labels,
        )
        if policy.newest is not None:
            entry.model_version_policy.latest.num_versions = policy.newest
        elif policy.numbers:
            entry.model_version_policy.specific.versions.extend(policy.numbers)
        else:
            entry.model_version_policy.all.SetInParent()
    return config


def _batching(plan: BatchPlan) -> Any:
    parameters = BatchingParameters(allowed_batch_sizes=plan.sizes)
    parameters.max_batch_size.value = plan.sizes[-1]
    parameters.batch_timeout_micros.value = plan.timeout_us
    parameters.max_enqueued_batches.value = plan.max_enqueued
    parameters.num_batch_threads.value = plan.threads
    parameters.thread_pool_name.value = "segkit"
    return parameters


def _check_model(config: Any, model: PublishedModel) -> None:
    if config.base_path != path_in_container(model.name):
        raise ConfigError(
            f"{MODELS} has the base path '{config.base_path}' for '{model.name}'",
            expected=f"'{path_in_container(model.name)}', where the container has it",
            next_step=WRITE_AGAIN,
        )
    if config.model_platform != TENSORFLOW:
        raise ConfigError(
            f"{MODELS} has the platform '{config.model_platform}' for '{model.name}'",
            expected=f"'{TENSORFLOW}', which {PLATFORM} describes",
            next_step=WRITE_AGAIN,
        )
    served = {version.number for version in model.versions}
    for label, number in sorted(config.version_labels.items()):
        if number not in served:
            raise ConfigError(
                f"{MODELS} gives the label '{label}' to version {number} of '{model.name}'",
                expected=f"one that is served: {_names(sorted(served))}",
                next_step="correct --label, or name the version in --versions",
            )


def _check_platform(platform: Any) -> None:
    for holds, what in (
        (platform.session_config.gpu_options.allow_growth, "allow_growth: true"),
        (list(platform.saved_model_tags) == ["serve"], 'saved_model_tags: "serve"'),
        (platform.enable_model_warmup, "enable_model_warmup: true"),
    ):
        if not holds:
            raise ConfigError(
                f"{PLATFORM} lacks {what}",
                expected="GPU memory that grows, the tags of segkit's exports, and warm-up",
                next_step=WRITE_AGAIN,
            )


def _check_batching(parameters: Any, published: Sequence[PublishedModel]) -> None:
    allowed = tuple(parameters.allowed_batch_sizes)
    largest = parameters.max_batch_size.value
    if not allowed or list(allowed) != sorted(set(allowed)) or allowed[-1] != largest:
        raise ConfigError(
            f"allowed_batch_sizes is {_names(allowed)}, max_batch_size {largest}",
            expected="increasing sizes, the last of them max_batch_size: the server does not "
            "start otherwise",
            next_step=WRITE_AGAIN,
        )
    for model in published:
        for version in model.versions:
            if version.batch_sizes != allowed:
                raise ConfigError(
                    f"allowed_batch_sizes is {_names(allowed)}, but version {version.number} of "
                    f"'{model.name}' is built and warmed up for {_names(version.batch_sizes)}",
                    expected="the same sizes for every model and version that is served",
                    next_step="publish it with --batch_sizes "
                    f"{' '.join(map(str, allowed))}, or serve it by a server of its own",
                )


def _text(message: Message) -> str:
    return text_format.MessageToString(message)


def _names(items: Any) -> str:
    return ", ".join(map(str, items)) or "none"
