"""The flags of `segkit serve` and their files; it starts and stops in tests/serving/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segkit.commands import serve
from segkit.commands.serve import Options
from segkit.errors import ConfigError
from segkit.serving.batching import Batching
from segkit.serving.metrics import PROMETHEUS_PATH
from segkit.serving.settings import ServerSettings

BATCHING = "max_batch_size { value: 4 } allowed_batch_sizes: 1 allowed_batch_sizes: 4"


def settings(**flags: Any) -> ServerSettings:
    return serve._settings(Options(model_base_path=Path("/models"), **flags))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.config"
    path.write_text(text)
    return path


def test_without_flags_it_is_a_server_for_this_machine_alone() -> None:
    assert settings() == ServerSettings(port=8500)


def test_flags_reach_the_server() -> None:
    given = settings(
        host="0.0.0.0",
        port=0,
        rest_api_port=8501,
        rest_api_num_threads=3,
        rest_api_timeout_in_ms=1500,
        rest_api_enable_cors_support=True,
        grpc_socket_path="/run/grpc.sock",
        grpc_max_threads=2,
        grpc_channel_arguments="grpc.max_connection_age_ms=2000",
        enable_grpc_healthcheck_service=True,
        enforce_session_run_timeout=False,
        engine="openvino",
        enable_model_warmup=False,
        num_request_iterations_for_warmup=5,
        enable_signature_method_name_check=True,
        file_system_poll_wait_seconds=7.0,
        max_num_load_retries=5,
        load_retry_interval_micros=1_000_000,
        allow_version_labels_for_unavailable_models=True,
    )
    assert given == ServerSettings(
        host="0.0.0.0",
        port=0,
        rest_port=8501,
        rest_threads=3,
        rest_timeout_s=1.5,
        rest_cors=True,
        socket_path="/run/grpc.sock",
        max_threads=2,
        channel_arguments=(("grpc.max_connection_age_ms", 2000),),
        health_service=True,
        obey_deadlines=False,
        engine="openvino",
        warmup=False,
        warmup_iterations=5,
        check_method_name=True,
        poll_seconds=7.0,
        load_retries=5,
        load_retry_seconds=1.0,
        labels_before_versions=True,
    )


def test_batching_is_what_the_file_says(tmp_path: Path) -> None:
    path = write(tmp_path, BATCHING)
    given = settings(enable_batching=True, batching_parameters_file=path)
    assert given.batching == Batching(max_batch_size=4, allowed_sizes=(1, 4))
    assert settings(enable_batching=True).batching == Batching(
        thread_pool_name="model_server_batch_threads"
    )


def test_threads_of_tensorflow_go_over_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, "gpu_options { allow_growth: true } intra_op_parallelism_threads: 7")
    config = settings(tensorflow_session_config_file=path).session_config
    assert config.gpu_options.allow_growth and config.intra_op_parallelism_threads == 7
    config = settings(
        tensorflow_session_config_file=path, tensorflow_session_parallelism=1
    ).session_config
    assert config.gpu_options.allow_growth
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (1, 1)
    config = settings(tensorflow_inter_op_parallelism=3).session_config
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (0, 3)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", PROMETHEUS_PATH),
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
        ('prometheus_config { path: "/metrics" }', None),
        ("", None),
    ],
)
def test_the_monitoring_file_says_where_metrics_are(
    tmp_path: Path, text: str, path: str | None
) -> None:
    given = settings(rest_api_port=8501, monitoring_config_file=write(tmp_path, text))
    assert given.metrics_path == path


def test_a_platform_file_goes_before_the_flags_that_it_replaces(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """platform_configs { key: "tensorflow" value { source_adapter_config {
        [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
        legacy_config {
          batching_parameters { max_batch_size { value: 2 } }
          session_config { gpu_options { allow_growth: true } }
          enable_model_warmup: true
          model_warmup_options { num_request_iterations { value: 3 } }
        } } } } }""",
    )
    given = settings(platform_config_file=path, enable_batching=True)
    assert given.batching == Batching(max_batch_size=2)
    assert given.session_config.gpu_options.allow_growth
    assert (given.warmup, given.warmup_iterations) == (True, 3)


def test_a_platform_file_without_tensorflow_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, 'platform_configs { key: "other" value { } }')
    with pytest.raises(ConfigError, match="does not say how the platform 'tensorflow' loads"):
        settings(platform_config_file=path)


@pytest.mark.parametrize(
    "flag",
    [
        "batching_parameters_file",
        "monitoring_config_file",
        "platform_config_file",
        "ssl_config_file",
        "tensorflow_session_config_file",
    ],
)
def test_a_file_that_is_no_such_message_is_named(tmp_path: Path, flag: str) -> None:
    path = write(tmp_path, "model_config_list { nonsense }")
    with pytest.raises(ConfigError, match=f"Invalid protobuf file: '{path}'"):
        settings(enable_batching=True, **{flag: path})
    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory"):
        settings(enable_batching=True, **{flag: tmp_path / "typo"})


def test_an_empty_name_of_a_file_is_none() -> None:
    """As docker-compose.yml gives it where no TLS is wanted."""
    given = Options(model_base_path=Path("/models"), ssl_config_file=Path(""))
    assert given.ssl_config_file is None
    assert serve._settings(given).ssl_config is None


def test_a_model_config_file_says_what_is_served(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" } }',
    )
    config = serve._models(Options(model_config_file=path))
    assert [model.name for model in config.model_config_list.config] == ["a"]


def test_one_model_needs_its_folder_alone(tmp_path: Path) -> None:
    config = serve._models(Options(model_base_path=tmp_path, model_name="streets"))
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        "streets",
        str(tmp_path),
        "tensorflow",
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model_base_path": None}, "neither --model_base_path nor --model_config_file is given"),
        ({"port": 70000}, "--port is 70000"),
        ({"rest_api_port": -1}, "--rest_api_port is -1"),
        ({"port": 8501, "rest_api_port": 8501}, "--port and --rest_api_port are both 8501"),
        ({"model_name": ""}, "--model_name is empty"),
        ({"grpc_max_threads": 0}, "--grpc_max_threads is 0"),
        ({"file_system_poll_wait_seconds": -1}, "--file_system_poll_wait_seconds is -1"),
        ({"max_num_load_retries": -1}, "--max_num_load_retries is -1"),
        ({"batching_parameters_file": Path("x")}, "without setting --enable_batching"),
        ({"saved_model_tags": "serve,gpu"}, "--saved_model_tags is 'serve,gpu'"),
        (
            {"tensorflow_session_parallelism": 2, "tensorflow_intra_op_parallelism": 2},
            "--tensorflow_session_parallelism is given beside",
        ),
    ],
)
def test_flags_that_cannot_be_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(**{"model_base_path": Path("/models"), **flags})
