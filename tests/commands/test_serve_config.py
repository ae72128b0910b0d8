"""`python -m segkit serve-config`: what it writes, what it refuses, and that it loses nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from fake_versions import write_fake_version
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from segkit.__main__ import main
from segkit.contract import Metadata
from segkit.serving.configs import read_message, read_platform
from segkit.serving.server_config_pb2 import BatchingParameters, SSLConfig

CONFIGS = ["models.config", "monitoring.config", "platform.config"]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def street(tmp_path: Path, tiny_metadata: Metadata) -> Path:
    """The usual folder, with versions 3 and 4 for batches of 1, 2 and 4."""
    base_path = tmp_path / "checkpoints/export_path"
    base_path.mkdir(parents=True)
    for number in (3, 4):
        write_fake_version(base_path, number, tiny_metadata, batch_sizes=(1, 2, 4))
    return base_path


def run(*flags: str) -> int:
    return main(["serve-config", *flags])


def files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path("serving").glob("*"))}


def refused(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """What it says; nothing may change."""
    before = files()
    assert run(*flags) == 1
    assert files() == before
    message = capsys.readouterr().err
    assert "expected:" in message
    return message


def model_config() -> model_server_config_pb2.ModelConfig:
    config = read_message(Path("serving/models.config"), model_server_config_pb2.ModelServerConfig)
    (model,) = config.model_config_list.config
    return model


@pytest.mark.usefixtures("street")
def test_the_usual_model_needs_no_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert list(files()) == CONFIGS
    model = model_config()
    assert (model.name, model.base_path) == ("segkit", "/models/segkit")
    assert model.model_version_policy.latest.num_versions == 1
    platform = read_platform(Path("serving/platform.config"))
    assert not platform.HasField("batching_parameters")  # one stream: nothing waits
    assert platform.session_config.gpu_options.allow_growth and platform.enable_model_warmup
    printed = capsys.readouterr().out
    assert "version 4: tiny, 64x96, batch sizes 1 2 4" in printed
    assert "GPU memory: about" in printed
    assert "start it: docker compose up --detach --wait serving" in printed


@pytest.mark.usefixtures("street")
def test_a_second_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run("--cameras", "4")
    times = {path: path.stat().st_mtime_ns for path in Path("serving").iterdir()}
    capsys.readouterr()
    assert run("--cameras", "4") == 0
    assert {path: path.stat().st_mtime_ns for path in Path("serving").iterdir()} == times
    assert "nothing to change in serving" in capsys.readouterr().out


@pytest.mark.usefixtures("street")
def test_several_cameras_share_runs() -> None:
    assert run("--cameras", "8", "--frame_rate", "25") == 0
    batching = read_message(Path("serving/batching.config"), BatchingParameters)
    assert list(batching.allowed_batch_sizes) == [1, 2, 4]
    assert batching.max_batch_size.value == 4
    assert batching.batch_timeout_micros.value == 10_000
    assert batching.num_batch_threads.value == 2
    assert read_platform(Path("serving/platform.config")).batching_parameters == batching
    assert run() == 0
    assert not Path("serving/batching.config").exists()


@pytest.mark.usefixtures("street")
def test_the_largest_batch_turns_batching_on_and_off() -> None:
    assert run("--max_batch_size", "4", "--batch_timeout_ms", "1") == 0
    batching = read_message(Path("serving/batching.config"), BatchingParameters)
    assert batching.batch_timeout_micros.value == 1000
    assert run("--cameras", "4", "--max_batch_size", "1") == 0
    assert not Path("serving/batching.config").exists()


@pytest.mark.usefixtures("street")
def test_labels_name_the_versions_that_are_served() -> None:
    assert run("--label", "stable=3", "canary=4") == 0
    model = model_config()
    assert list(model.model_version_policy.specific.versions) == [3, 4]
    assert dict(model.version_labels) == {"stable": 3, "canary": 4}


@pytest.mark.usefixtures("street")
@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("latest:2", "latest { num_versions: 2 }"),
        ("all", "all { }"),
        ("3", "specific {versions:3}"),
    ],
)
def test_version_policies(text: str, policy: str) -> None:
    assert run("--versions", text) == 0
    expected = model_server_config_pb2.ModelConfig()
    text_format.Parse(f"model_version_policy {{ {policy} }}", expected)
    assert model_config().model_version_policy == expected.model_version_policy


def test_another_model_in_another_place(
    tmp_path: Path, tiny_metadata: Metadata, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    write_fake_version(tmp_path / "mine", 1, tiny_metadata)
    assert run("--model_base_path", "street=mine") == 0
    assert (model_config().name, model_config().base_path) == ("street", "/models/street")
    variables = Path("serving/compose.env").read_text().splitlines()[1:]
    assert variables == ["SEGKIT_MODEL_NAME=street", f"MODEL_BASE_PATH={tmp_path / 'mine'}"]
    assert "docker compose --env-file serving/compose.env up" in capsys.readouterr().out


def test_several_models(street: Path, tmp_path: Path, tiny_metadata: Metadata) -> None:
    (tmp_path / "night").mkdir()
    write_fake_version(tmp_path / "night", 1, tiny_metadata, batch_sizes=(1, 2, 4))
    models = ["--model_base_path", "segkit=checkpoints/export_path", "night=night"]
    assert run(*models, "--cameras", "4") == 0
    config = read_message(Path("serving/models.config"), model_server_config_pb2.ModelServerConfig)
    assert [x.base_path for x in config.model_config_list.config] == [
        "/models/segkit",
        "/models/night",
    ]
    override = yaml.safe_load(Path("serving/models.compose.yml").read_text())
    for name in ("serving", "serving-cpu"):
        service = override["services"][name]
        (volume,) = service["volumes"]
        assert (volume["source"], volume["target"]) == (str(tmp_path / "night"), "/models/night")
        assert "for model in segkit night; do" in service["healthcheck"]["test"][-1]
    env = Path("serving/compose.env").read_text()
    assert "COMPOSE_FILE=docker-compose.yml:serving/models.compose.yml\n" in env
    assert run(*models, "--check") == 0
    assert run() == 0
    assert list(files()) == CONFIGS


# === What is refused ===


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--cameras", "0"], "--cameras is 0"),
        (["--frame_rate", "0"], "--frame_rate is 0"),
        (["--gpu_memory_gb", "-1"], "--gpu_memory_gb is -1"),
        (["--batch_timeout_ms", "-1"], "--batch_timeout_ms is -1"),
        (["--tls_days", "0"], "--tls_days is 0"),
        (["--check", "--tls", "gpu1"], "--check is given with --tls"),
        (["--model_base_path", "a/b=x"], "--model_base_path is 'a/b=x'"),
        (["--model_base_path", "a=x", "a=y"], "names 'a' twice"),
        (["--label", "stable"], "--label is 'stable'"),
        (["--label", "a=1", "a=2"], "--label is 'a=2'"),
        (["--model_base_path", "a=x", "b=y", "--label", "a=1"], "--label is given with 2 models"),
        (["--versions", "newest"], "--versions is 'newest'"),
        (["--versions", "7"], "has no version 7"),
        (["--label", "stable=7"], "has no version 7"),
        (["--label", "stable=3", "--versions", "latest:2"], "--label is given with --versions"),
        (["--label", "stable=3", "--versions", "4"], "gives the label 'stable' to version 3"),
        (["--max_batch_size", "8"], "--max_batch_size is 8"),
        (["--cameras", "4", "--batch_timeout_ms", "20"], "--batch_timeout_ms is 20"),
        (["--gpu_memory_gb", "0.5"], "--gpu_memory_gb is 0.5"),
        (["--tls", "gpu1:8500"], "--tls 'gpu1:8500' is no host"),
        (["--model_base_path", "missing"], "there is no version in 'missing'"),
    ],
)
@pytest.mark.usefixtures("street")
def test_what_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], flags: Sequence[str], words: str
) -> None:
    assert words in refused(capsys, *flags)
    assert not Path("serving").exists() and not Path("tls").exists()


def test_batches_that_were_not_published_are_refused(
    tmp_path: Path, tiny_metadata: Metadata, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").mkdir()
    write_fake_version(tmp_path / "one", 1, tiny_metadata)
    message = refused(capsys, "--model_base_path", "one", "--cameras", "4")
    assert "warmed up for batch size 1 alone" in message and "--batch_sizes 1 2 4" in message


def test_versions_for_different_batches_are_refused(
    street: Path, tiny_metadata: Metadata, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake_version(street, 5, tiny_metadata, batch_sizes=(1, 8))
    message = refused(capsys, "--versions", "latest:2", "--cameras", "8")
    assert "allowed_batch_sizes is 1, 8, but version 4 of 'segkit' is built" in message


@pytest.mark.usefixtures("street")
def test_what_was_edited_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    platform = Path("serving/platform.config")
    platform.write_text(edited := platform.read_text() + "# mine\n")
    message = refused(capsys, "--cameras", "4")
    assert "serving/platform.config" in message and "--overwrite" in message
    assert platform.read_text() == edited
    assert run("--cameras", "4", "--overwrite") == 0
    assert "# mine" not in platform.read_text()


# === --check ===


@pytest.mark.usefixtures("street")
def test_check_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert "models.config' cannot be read" in refused(capsys, "--check")
    run("--cameras", "4")
    before = files()
    assert run("--check") == 0
    assert files() == before
    assert "serving fits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("models.config", '"segkit"', '"street"', "models.config serves street"),
        ("models.config", '"/models/segkit"', '"models/segkit"', "has the base path"),
        ("models.config", '"tensorflow"', '"caffe"', "has the platform 'caffe'"),
        ("models.config", "model_config_list {", "model_config_list [", "Invalid protobuf file"),
        ("platform.config", "allow_growth: true", "", "lacks allow_growth"),
        ("platform.config", "enable_model_warmup: true", "", "lacks enable_model_warmup"),
        ("platform.config", '"serve"', '"train"', "lacks saved_model_tags"),
        ("platform.config", "value: 2", "value: 3", "differ about batching"),
        ("both", "allowed_batch_sizes: 2\n", "", "allowed_batch_sizes is 1, 4, but version 4"),
        ("both", "allowed_batch_sizes: 4\n", "", "allowed_batch_sizes is 1, 2, max_batch_size 4"),
        ("monitoring.config", "enable: true", "", "turns the metrics off"),
    ],
)
@pytest.mark.usefixtures("street")
def test_check_finds_what_does_not_fit(
    capsys: pytest.CaptureFixture[str], name: str, old: str, new: str, words: str
) -> None:
    run("--cameras", "4")
    for file in ("platform.config", "batching.config") if name == "both" else (name,):
        path = Path("serving", file)
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    assert words in refused(capsys, "--check")


def test_check_finds_a_version_for_other_batches(
    street: Path, tiny_metadata: Metadata, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--cameras", "4")
    write_fake_version(street, 5, tiny_metadata, batch_sizes=(1, 8))
    assert "version 5 of 'segkit' is built and warmed up for 1, 8" in refused(capsys, "--check")


@pytest.mark.usefixtures("street")
def test_check_finds_what_docker_compose_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Such as a server that would start without TLS, although ssl.config is there."""
    run("--tls", "gpu1")
    env = Path("serving/compose.env")
    env.write_text(env.read_text() + "SEGKIT_GPU=1\n")
    assert run("--check") == 0
    env.unlink()
    message = refused(capsys, "--check")
    assert "compose.env' does not say SEGKIT_SSL_CONFIG_FILE=/config/ssl.config" in message


# === TLS ===


@pytest.mark.usefixtures("street")
def test_tls_makes_keys_and_the_servers_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--tls", "gpu1.example.org", "10.0.0.5") == 0
    ssl = Path("serving/ssl.config")
    assert ssl.stat().st_mode & 0o777 == 0o600
    assert read_message(ssl, SSLConfig).client_verify
    variables = Path("serving/compose.env").read_text().splitlines()[1:]
    assert variables == [
        "SEGKIT_SSL_CONFIG_FILE=/config/ssl.config",
        f"SEGKIT_USER={os.getuid()}:{os.getgid()}",
    ]
    printed = capsys.readouterr().out
    assert "TLS for gpu1.example.org, 10.0.0.5, localhost, 127.0.0.1; certificates end:" in printed
    assert "--ca tls/ca.crt --cert tls/client.crt --key tls/client.key" in printed
    before = {**files(), **{p.name: p.read_bytes() for p in Path("tls").iterdir()}}
    assert run("--tls", "gpu1.example.org", "10.0.0.5") == 0
    assert {**files(), **{p.name: p.read_bytes() for p in Path("tls").iterdir()}} == before
    capsys.readouterr()
    assert run("--check") == 0
    assert "TLS for gpu1.example.org" in capsys.readouterr().out


@pytest.mark.usefixtures("street")
def test_tls_stays_on_when_the_rest_is_written_anew() -> None:
    run("--tls", "gpu1")
    assert run("--cameras", "4") == 0
    assert "SEGKIT_SSL_CONFIG_FILE" in Path("serving/compose.env").read_text()


@pytest.mark.usefixtures("street")
def test_tls_for_other_hosts_needs_overwrite(capsys: pytest.CaptureFixture[str]) -> None:
    run("--tls", "gpu1")
    assert "server.crt' is for gpu1" in refused(capsys, "--tls", "gpu2")
    assert run("--tls", "gpu2", "--overwrite") == 0


@pytest.mark.usefixtures("street")
def test_tls_without_its_package_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("certificates", "tls"):
        monkeypatch.delitem(sys.modules, f"segkit.serving.containers.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    message = refused(capsys, "--tls", "gpu1")
    assert "--tls needs a package" in message and ".[tls]" in message
