"""The configuration messages and files: the server's own, by name and number."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from segkit.errors import ConfigError
from segkit.serving.configs import read_message, single_model
from segkit.serving.server_config_pb2 import BatchingParameters, SSLConfig

REPOSITORY = Path(__file__).resolve().parents[2]


def test_generated_messages_are_those_of_the_proto(tmp_path: Path) -> None:
    name = "segkit/serving/server_config"
    folders = ["-I.", f"-I{tf.sysconfig.get_include()}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *folders, f"--python_out={tmp_path}"]
    subprocess.run([*command, f"{name}.proto"], cwd=REPOSITORY, check=True)
    generated = (tmp_path / f"{name}_pb2.py").read_text(encoding="utf-8")
    assert (REPOSITORY / f"{name}_pb2.py").read_text(encoding="utf-8") == generated


def test_a_field_is_on_the_wire_where_the_server_reads_it() -> None:
    """The numbers of its session_bundle_config.proto and ssl_config.proto, 2.15.1."""
    parameters = BatchingParameters(allowed_batch_sizes=[1, 8])
    parameters.max_batch_size.value = 8
    parameters.enable_large_batch_splitting.value = True
    assert parameters.SerializeToString() == b"\x0a\x02\x08\x08\x32\x02\x01\x08\x42\x02\x08\x01"
    ssl = SSLConfig(server_key="k", server_cert="c", custom_ca="a", client_verify=True)
    assert ssl.SerializeToString() == b"\x0a\x01k\x12\x01c\x1a\x01a\x20\x01"


def test_one_model_is_named_and_its_folder_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (model,) = single_model("seg", Path("models/seg")).model_config_list.config
    assert (model.name, model.base_path) == ("seg", "/models/seg")


def test_the_line_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text('model_config_list {\n  config { name: "a" base_pth: "/a" }\n}')
    with pytest.raises(ConfigError, match=re.escape(f"Invalid protobuf file: '{path}' (2:")) as err:
        read_message(path, ModelServerConfig)
    assert "base_pth" in err.value.problem
    assert err.value.expected == "a ModelServerConfig as protobuf text"


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="models.config' cannot be read: 'utf-8' codec"):
        read_message(path, ModelServerConfig)
