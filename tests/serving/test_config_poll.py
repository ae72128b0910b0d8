from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import text_format
from patience import wait_for
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from segkit.engines import Code, StatusError
from segkit.serving.config_poll import ConfigPoll

ONE = 'model_config_list { config { name: "one" base_path: "/one" } }'
TWO = 'model_config_list { config { name: "two" base_path: "/two" } }'


class Models:
    """Stands in for `segkit.serving.models.Models`: remembers what it is to serve."""

    def __init__(self) -> None:
        self.reloaded: list[str] = []

    def reload(self, config: object, *, timeout_s: float | None = None) -> None:
        text = text_format.MessageToString(config, as_one_line=True)
        self.reloaded.append(text)
        if "two" in text:
            raise StatusError(Code.INVALID_ARGUMENT, "no two")


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def file(tmp_path: Path, models: Models) -> Iterator[Path]:
    path = tmp_path / "models.config"
    path.write_text(ONE)
    poll = ConfigPoll(path, models, 0.01)  # type: ignore[arg-type]
    poll.start()
    yield path
    poll.stop()


def replace(path: Path, text: str) -> None:
    """As an editor does, and a careful one: never half of it."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


def as_served(text: str) -> str:
    config = text_format.Parse(text, ModelServerConfig()).model_config_list
    return text_format.MessageToString(config, as_one_line=True)


def test_a_change_is_served_and_once(file: Path, models: Models) -> None:
    time.sleep(0.05)
    assert models.reloaded == []  # what the server was started with
    changed = ONE.replace("/one", "/elsewhere")
    replace(file, changed)
    wait_for(lambda: models.reloaded != [])
    time.sleep(0.05)
    assert models.reloaded == [as_served(changed)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list { nonsense }", "Invalid protobuf file"),
        (TWO, "INVALID_ARGUMENT: no two"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_wrong_is_logged_and_the_next_change_served(
    file: Path, models: Models, text: str | None, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    if text is None:
        file.unlink()
    else:
        replace(file, text)
    wait_for(lambda: message in caplog.text)
    changed = ONE.replace("/one", "/elsewhere")
    replace(file, changed)
    wait_for(lambda: models.reloaded[-1:] == [as_served(changed)])
