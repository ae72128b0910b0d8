"""docker-compose.yml and serving/ against the server's own messages and what export writes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from fake_versions import write_fake_version
from google.protobuf import text_format
from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from segkit import contract
from segkit.__main__ import main
from segkit.commands.convert_container import CHECKPOINTS, SERVICE
from segkit.commands.convert_to_tensorrt import DEFAULT_OUTPUT
from segkit.commands.export import DEFAULT_BASE_PATH
from segkit.commands.serve_config import SSL_CONFIG
from segkit.contract import Metadata
from segkit.export.tensorrt_preflight import LIBRARIES
from segkit.serving.configs import read_message, read_platform
from segkit.serving.containers.compose import env_text, override
from segkit.serving.containers.config import METRICS_PATH, ServerConfig
from segkit.serving.containers.generated import GeneratedFile
from segkit.serving.containers.published import PublishedModel
from segkit.serving.containers.settings import Settings
from segkit.serving.folder import list_versions
from segkit.serving.metrics import PROMETHEUS_PATH
from segkit.serving.server_config_pb2 import MonitoringConfig

REPOSITORY = Path(__file__).resolve().parent.parent
COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
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
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    return services


@pytest.fixture(scope="module")
def service(services: dict[str, Any]) -> dict[str, Any]:
    service: dict[str, Any] = services["serving"]
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


def host_path(service: dict[str, Any], path: str) -> Path:
    """The file of the repository that a path in the container is."""
    inside = PurePosixPath(path)
    for volume in service["volumes"]:
        target = default(volume["target"])
        if inside.is_relative_to(target):
            source = REPOSITORY / Path(default(volume["source"]))
            return source / inside.relative_to(target)
    raise AssertionError(f"nothing is mounted at {path}")


def default(value: str) -> str:
    """What `${NAME:-default}` stands for where NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


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


def test_every_variable_that_serve_config_sets_is_read(
    tiny_metadata: Metadata, tmp_path: Path
) -> None:
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
def test_a_container_may_do_no_more_than_it_must(services: dict[str, Any], name: str) -> None:
    service = services[name]
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


def test_the_cpus_server_is_the_same_but_for_the_gpu(services: dict[str, Any]) -> None:
    gpu, cpu = dict(services["serving"]), dict(services["serving-cpu"])
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


class StatusPage:
    """Stands in for the REST port: answers the model's status page with a given body."""

    def __init__(self) -> None:
        page = self
        self.status, self.body = 200, ""
        self.paths: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page.paths.append(self.path)
                self.send_response(page.status)
                self.end_headers()
                self.wfile.write(page.body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port


@pytest.fixture
def status_page() -> Iterator[StatusPage]:
    page = StatusPage()
    thread = threading.Thread(target=page.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield page
    page.server.shutdown()
    thread.join()
    page.server.server_close()


def is_healthy(service: dict[str, Any], flags: dict[str, str], port: int) -> bool:
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    assert command[-1].count(flags["rest_api_port"]) == 1
    command[-1] = default(command[-1]).replace(flags["rest_api_port"], str(port))
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


@pytest.mark.skipif(not shutil.which("bash"), reason="the health check is a line of bash")
def test_the_health_check_reads_the_state_in_the_body(
    service: dict[str, Any], flags: dict[str, str], model: Any, status_page: StatusPage
) -> None:
    state = '{{ "model_version_status": [ {{ "version": "1", "state": "{}", "status": {{}} }} ] }}'
    status_page.body = state.format("AVAILABLE")
    assert is_healthy(service, flags, status_page.port)
    assert status_page.paths == [f"/v1/models/{model.name}"]
    for body in (state.format("LOADING"), state.format("END"), '{ "error_code": "UNAVAILABLE" }'):
        status_page.body = body
        assert not is_healthy(service, flags, status_page.port)


@pytest.mark.skipif(not shutil.which("bash"), reason="the health check is a line of bash")
def test_a_server_that_does_not_listen_is_not_healthy(
    service: dict[str, Any], flags: dict[str, str]
) -> None:
    closed = StatusPage()
    closed.server.server_close()
    assert not is_healthy(service, flags, closed.port)


# === The image that converts ===


@pytest.fixture(scope="module")
def convert() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())["services"][SERVICE]
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


def test_docker_compose_accepts_the_file(checkout: Path, services: dict[str, Any]) -> None:
    config = compose_config(checkout)
    assert set(config["services"]) == set(services)
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


@pytest.mark.skipif(not shutil.which("bash"), reason="the health check is a line of bash")
def test_the_health_check_of_several_models_asks_for_each(status_page: StatusPage) -> None:
    models = [PublishedModel(name=x, base_path=Path(x), versions=()) for x in ("street", "night")]
    service = yaml.safe_load(override(models) or "")["services"]["serving"]
    command = service["healthcheck"]["test"][-1].replace("$$", "$")
    command = command.replace("8501", str(status_page.port))
    status_page.body = '{ "state": "AVAILABLE" }'
    assert subprocess.run(["bash", "-c", command], capture_output=True).returncode == 0
    assert status_page.paths == ["/v1/models/street", "/v1/models/night"]
    status_page.body = '{ "state": "LOADING" }'
    assert subprocess.run(["bash", "-c", command], capture_output=True).returncode == 1
