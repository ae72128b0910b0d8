"""docker-compose.yml and serving/ against the server's own messages and what export writes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from compose_file import COMPOSE_FILE, REPOSITORY, SERVICES, default, host_path
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from segkit import contract
from segkit.commands.export import DEFAULT_BASE_PATH
from segkit.commands.serve_config import SSL_CONFIG
from segkit.serving.configs import read_message, read_platform
from segkit.serving.containers.compose import env_text
from segkit.serving.containers.config import METRICS_PATH, ServerConfig
from segkit.serving.containers.generated import GeneratedFile
from segkit.serving.containers.published import PublishedModel
from segkit.serving.containers.settings import Settings
from segkit.serving.folder import list_versions
from segkit.serving.metrics import PROMETHEUS_PATH
from segkit.serving.server_config_pb2 import MonitoringConfig

# Flags of tensorflow_model_server 2.15.1 (model_servers/main.cc).
FLAGS = """
    port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms
    rest_api_enable_cors_support grpc_max_threads grpc_channel_arguments enable_batching
    batching_parameters_file enable_per_model_batching_parameters model_name model_base_path
    model_config_file model_config_file_poll_wait_seconds file_system_poll_wait_seconds
    max_num_load_retries load_retry_interval_micros num_load_threads num_unload_threads
    enable_model_warmup num_request_iterations_for_warmup
    allow_version_labels_for_unavailable_models per_process_gpu_memory_fraction
    tensorflow_session_config_file tensorflow_session_parallelism tensorflow_intra_op_parallelism
    tensorflow_inter_op_parallelism enforce_session_run_timeout monitoring_config_file
    ssl_config_file platform_config_file thread_pool_factory_config_file saved_model_tags
    enable_signature_method_name_check xla_cpu_compilation_enabled enable_profiler
    enable_grpc_healthcheck_service prefer_tflite_model mixed_precision
    remove_unused_fields_from_bundle_metagraph
"""


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    service: dict[str, Any] = SERVICES["serving"]
    return service


@pytest.fixture(scope="module")
def flags(service: dict[str, Any]) -> dict[str, str]:
    pairs = [re.fullmatch(r"--(\w+)=(.*)", default(flag)) for flag in service["command"]]
    assert all(pairs), "every flag is written --name=value"
    return {pair[1]: pair[2] for pair in pairs if pair}


@pytest.fixture(scope="module")
def model(service: dict[str, Any], flags: dict[str, str]) -> Any:
    config = text_format.Parse(
        host_path(service, flags["model_config_file"]).read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    (model,) = config.model_config_list.config
    return model


def test_the_image_is_the_one_with_the_pinned_tensorrt(service: dict[str, Any]) -> None:
    assert service["image"] == "tensorflow/serving:2.15.1-gpu"
    (pin,) = re.findall(r"^tensorflow==(.+)$", (REPOSITORY / "requirements.txt").read_text(), re.M)
    assert service["image"] == f"tensorflow/serving:{pin}-gpu"


def test_every_flag_is_one_of_the_server(flags: dict[str, str]) -> None:
    assert set(flags) <= set(FLAGS.split())


def test_the_profiler_is_off(flags: dict[str, str]) -> None:
    assert flags["enable_profiler"] == "false"


def test_the_model_is_the_one_that_clients_ask_for(model: Any) -> None:
    assert model.name == contract.DEFAULT_MODEL_NAME
    assert model.model_platform == "tensorflow"


def test_the_base_path_is_the_folder_that_export_writes(
    service: dict[str, Any], model: Any
) -> None:
    assert PurePosixPath(model.base_path).is_absolute()
    assert host_path(service, model.base_path) == REPOSITORY / DEFAULT_BASE_PATH


def test_what_export_writes_has_the_layout_of_a_base_path(tiny_export: Path) -> None:
    """Numbered folders and nothing else, each a SavedModel that any user may read."""
    assert [child.name for child in tiny_export.iterdir()] == ["1"]
    version = list_versions(tiny_export)[1]
    assert version.stat().st_mode & 0o555 == 0o555
    assert {"saved_model.pb", "variables", "assets.extra"} <= {x.name for x in version.iterdir()}


def test_the_warmup_records_are_for_the_model_that_is_served(tiny_export: Path, model: Any) -> None:
    import tensorflow as tf

    records = tf.data.TFRecordDataset(str(tiny_export / "1" / contract.WARMUP_FILE))
    for record in records.as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.predict_log.request.model_spec.name == model.name


def test_gpu_memory_grows(service: dict[str, Any], flags: dict[str, str]) -> None:
    platform = read_platform(host_path(service, flags["platform_config_file"]))
    assert platform.session_config.gpu_options.allow_growth


def test_the_flags_contradict_neither_each_other_nor_the_platform(flags: dict[str, str]) -> None:
    """A platform file replaces the flags for session, batching and warm-up, without a word."""
    replaced = {
        "batching_parameters_file",
        "enable_batching",
        "enable_model_warmup",
        "num_request_iterations_for_warmup",
        "per_process_gpu_memory_fraction",
        "saved_model_tags",
        "tensorflow_session_config_file",
    }
    assert not replaced & set(flags)
    assert flags["port"] != flags["rest_api_port"]


def test_a_label_may_be_given_before_its_version_has_loaded(flags: dict[str, str]) -> None:
    """Else a server with labels in its configuration never starts (server_core.cc)."""
    assert flags["allow_version_labels_for_unavailable_models"] == "true"


def test_the_checked_in_configuration_is_what_serve_config_writes(tmp_path: Path) -> None:
    models = [PublishedModel(name="segkit", base_path=DEFAULT_BASE_PATH, versions=())]
    for name, text in ServerConfig.build(models, Settings()).texts().items():
        path = REPOSITORY / "serving" / name
        assert path.exists() == (text is not None), name
        if text is not None:
            assert path.read_text() == GeneratedFile(path=path, body=text).text


def test_the_page_of_metrics_is_where_prometheus_looks(
    service: dict[str, Any], flags: dict[str, str]
) -> None:
    config = read_message(host_path(service, flags["monitoring_config_file"]), MonitoringConfig)
    assert config.prometheus_config.enable
    assert config.prometheus_config.path == METRICS_PATH == PROMETHEUS_PATH


def test_tls_is_off_until_it_is_turned_on(service: dict[str, Any], flags: dict[str, str]) -> None:
    assert flags["ssl_config_file"] == ""
    (flag,) = [flag for flag in service["command"] if "ssl" in flag]
    assert flag == "--ssl_config_file=${SEGKIT_SSL_CONFIG_FILE:-}"
    assert host_path(service, f"/config/{SSL_CONFIG}") == REPOSITORY / "serving" / SSL_CONFIG


def test_every_variable_that_serve_config_sets_is_read(tmp_path: Path) -> None:
    models = [
        PublishedModel(name=name, base_path=tmp_path / name, versions=()) for name in ("a", "b")
    ]
    text = env_text(models, tmp_path, ssl_config=tmp_path / SSL_CONFIG)
    variables = {line.split("=")[0] for line in (text or "").splitlines()}
    variables.remove("COMPOSE_FILE")  # docker compose's own
    compose = COMPOSE_FILE.read_text()
    assert variables == {name for name in variables if f"${{{name}:-" in compose}
    assert set(re.findall(r"\$\{(\w+)", compose)) == variables | {
        "SEGKIT_GRPC_ADDRESS",
        "SEGKIT_GPU",
        "CHECKPOINTS_DIR",
    }
    explained = re.findall(r"^#   (\w+)", compose, re.M)
    assert set(explained) == set(re.findall(r"\$\{(\w+)", compose))


def test_secrets_are_kept_out_of_git() -> None:
    for path in (
        "tls/ca.key",
        "serving/ssl.config",
        "serving/compose.env",
        "serving/models.compose.yml",
    ):
        command = ["git", "-C", str(REPOSITORY), "check-ignore", "--quiet", path]
        assert subprocess.run(command).returncode == 0, path


@pytest.mark.parametrize("name", ["serving", "serving-cpu", "prometheus", "grafana"])
def test_a_container_may_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert "privileged" not in service and "network_mode" not in service


def test_the_server_is_nobody_and_writes_to_memory_alone(service: dict[str, Any]) -> None:
    assert default(service["user"]) == "65534:65534"
    (tmpfs,) = service["tmpfs"]
    folder = tmpfs.split(":")[0]
    assert "mode=1777" in tmpfs
    for name in ("HOME", "CUDA_CACHE_PATH"):
        assert PurePosixPath(service["environment"][name]).is_relative_to(folder)


def test_the_cpus_server_is_the_same_but_for_the_gpu() -> None:
    gpu, cpu = dict(SERVICES["serving"]), dict(SERVICES["serving-cpu"])
    assert cpu.pop("profiles") == ["cpu"]
    assert gpu.pop("deploy")
    assert gpu.pop("image") == f"{cpu.pop('image')}-gpu"
    assert gpu == cpu


def test_every_configuration_file_is_mounted(
    service: dict[str, Any], flags: dict[str, str]
) -> None:
    for name, value in flags.items():
        if name.endswith("_file") and value:
            assert host_path(service, value).is_file()


def test_mounts_are_read_only_and_never_made_up(service: dict[str, Any]) -> None:
    for volume in service["volumes"]:
        assert volume["read_only"] is True
        assert volume["bind"]["create_host_path"] is False


def test_grpc_is_published_and_rest_is_for_this_machine_alone(
    service: dict[str, Any], flags: dict[str, str]
) -> None:
    assert (flags["port"], flags["rest_api_port"]) == ("8500", "8501")
    assert [default(port) for port in service["ports"]] == [
        "0.0.0.0:8500:8500",
        "127.0.0.1:8501:8501",
    ]


def test_a_gpu_is_reserved_and_the_server_comes_back(service: dict[str, Any]) -> None:
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert [default(id_) for id_ in device["device_ids"]] == ["0"]
    assert service["restart"] == "unless-stopped"
