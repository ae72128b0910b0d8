"""Configurations: what is served, how one replaces another, and how a request finds its version."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from patience import wait_for
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelConfigList

from segkit.engines import Code, StatusError
from segkit.serving.models import Models
from segkit.serving.servable import Servable
from segkit.serving.versions import State, VersionManager

PLATFORM = 'model_platform: "tensorflow"'


class Fake:
    """Stands in for a servable: these tests are of what is looked up, not of what is run."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.version = name, int(path.name)
        self.engine_name = "fake:float32"
        self.closed = False

    def close(self) -> None:
        self.closed = True


def load(name: str, path: Path) -> Any:
    if (path / "broken").exists():
        raise StatusError(Code.INVALID_ARGUMENT, "it is broken")
    return Fake(name, path)


def make_manager(name: str) -> VersionManager:
    return VersionManager(name, load, poll_seconds=0.02)


@pytest.fixture
def models() -> Iterator[Models]:
    models = Models(make_manager)
    yield models
    models.stop()


@pytest.fixture
def base_path(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        add_version(tmp_path / "seg", number)
    return tmp_path / "seg"


def add_version(base_path: Path, number: int, *, broken: bool = False) -> None:
    incoming = base_path / f".incoming-{number}"
    incoming.mkdir(parents=True)
    (incoming / "saved_model.pb").touch()
    if broken:
        (incoming / "broken").touch()
    incoming.rename(base_path / str(number))


def config(*models: str) -> Any:
    """Each model as text; its platform is TensorFlow unless it says something else."""
    texts = [
        f"config {{ {model} {PLATFORM if 'platform' not in model else ''} }}" for model in models
    ]
    return text_format.Parse("\n".join(texts), ModelConfigList())


def model(base_path: Path, *, name: str = "seg", more: str = "") -> str:
    return f'name: "{name}" base_path: "{base_path}" {more}'


def specific(*versions: int) -> str:
    return f"model_version_policy {{ specific {{ versions: {list(versions)} }} }}"


def label(**labels: int) -> str:
    return " ".join(f'version_labels {{ key: "{k}" value: {v} }}' for k, v in labels.items())


def spec(name: str = "seg", **choice: Any) -> ModelSpec:
    asked = ModelSpec(name=name)
    if "version" in choice:
        asked.version.value = choice["version"]
    if "label" in choice:
        asked.version_label = choice["label"]
    return asked


def found(models: Models, asked: ModelSpec) -> int:
    with models.hold(asked) as servable:
        return servable.version


def refusal(call: Callable[[], object]) -> tuple[Code, str]:
    with pytest.raises(StatusError) as caught:
        call()
    return caught.value.code, caught.value.message


def states(models: Models, name: str = "seg") -> dict[int, State]:
    return {status.number: status.state for status in models.statuses(name)}


# === Version policies ===


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", [3]),
        ("model_version_policy { latest { num_versions: 2 } }", [3, 2]),
        ("model_version_policy { latest { } }", [3]),
        ("model_version_policy { all { } }", [3, 2, 1]),
        (specific(1, 3), [3, 1]),
        (specific(2, 9), [2]),
    ],
)
def test_a_policy_says_which_versions_are_served(
    models: Models, base_path: Path, policy: str, served: list[int]
) -> None:
    models.reload(config(model(base_path, more=policy)))
    assert states(models) == dict.fromkeys(served, State.AVAILABLE)
    assert list(models.engines()["seg"]) == served
    assert found(models, spec()) == served[0]
    assert found(models, spec(version=served[-1])) == served[-1]


def test_a_missing_specific_version_is_warned_of(
    models: Models, base_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models.reload(config(model(base_path, more=specific(1, 9))))
    assert "Version 9 of servable seg, which was requested to be served as a 'specific'" in (
        caplog.text
    )


def test_a_new_policy_unloads_what_it_leaves_out_once_the_rest_serves(
    models: Models, base_path: Path
) -> None:
    models.reload(config(model(base_path, more=specific(1, 2))))
    models.reload(config(model(base_path, more=specific(2, 3))))
    wait_for(lambda: states(models) == {3: State.AVAILABLE, 2: State.AVAILABLE, 1: State.END})
    models.reload(config(model(base_path, more=specific(1))))
    wait_for(lambda: states(models) == {3: State.END, 2: State.END, 1: State.AVAILABLE})


def test_no_version_goes_before_one_of_the_new_policy_serves(
    models: Models, base_path: Path
) -> None:
    shutil.rmtree(base_path / "3")
    add_version(base_path, 3, broken=True)
    models.reload(config(model(base_path, more=specific(1))))
    models.reload(config(model(base_path, more=specific(3))))
    wait_for(lambda: states(models).get(3) is State.END)
    assert states(models)[1] is State.AVAILABLE
    assert found(models, spec()) == 1


# === Replacing a configuration ===


def test_reload_returns_when_the_new_models_are_available(models: Models, base_path: Path) -> None:
    models.reload(config(model(base_path)))
    models.reload(config(model(base_path), model(base_path, name="other")))
    assert models.names == ["other", "seg"]
    assert found(models, spec("other")) == 3


def test_a_model_that_is_left_out_is_unloaded_and_still_listed(
    models: Models, base_path: Path
) -> None:
    models.reload(config(model(base_path), model(base_path, name="other")))
    models.reload(config(model(base_path)))
    wait_for(lambda: states(models, "other") == {3: State.END})
    assert refusal(lambda: found(models, spec("other"))) == (
        Code.NOT_FOUND,
        "Servable not found for request: Latest(other)",
    )
    models.reload(config(model(base_path), model(base_path, name="other")))
    assert states(models, "other") == {3: State.AVAILABLE}  # it was waited for, as a new one


def test_a_model_can_move(models: Models, base_path: Path, tmp_path: Path) -> None:
    models.reload(config(model(base_path)))
    add_version(tmp_path / "elsewhere", 7)
    models.reload(config(model(tmp_path / "elsewhere")))
    wait_for(lambda: states(models) == {7: State.AVAILABLE, 3: State.END})


def test_a_new_model_that_fails_is_an_error_and_the_others_go_on(
    models: Models, base_path: Path, tmp_path: Path
) -> None:
    models.reload(config(model(base_path)))
    add_version(tmp_path / "bad", 4, broken=True)
    new = config(model(base_path), model(tmp_path / "bad", name="bad"))
    assert refusal(lambda: models.reload(new)) == (
        Code.UNKNOWN,
        "1 model(s) did not become available: "
        "{{{name: bad version: 4} due to error: INVALID_ARGUMENT: it is broken}, }",
    )
    assert found(models, spec()) == 3
    assert states(models, "bad") == {4: State.END}


def test_waiting_for_a_new_model_ends_at_the_deadline(models: Models, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    new = config(model(tmp_path / "empty", name="empty"))
    code, _ = refusal(lambda: models.reload(new, timeout_s=0.1))
    assert code is Code.DEADLINE_EXCEEDED
    add_version(tmp_path / "empty", 1)
    wait_for(lambda: states(models, "empty") == {1: State.AVAILABLE})


@pytest.mark.parametrize(
    ("entries", "code", "message"),
    [
        (
            ['name: "x" base_path: "/a"', 'name: "x" base_path: "/b"'],
            Code.INVALID_ARGUMENT,
            "Illegal to list model x multiple times in config list",
        ),
        (
            ['name: "x" base_path: "models/x"'],
            Code.INVALID_ARGUMENT,
            "Expected model x to have an absolute path or URI; got base_path()=models/x",
        ),
        (
            ['name: "x" base_path: "/a" model_platform: ""'],
            Code.INVALID_ARGUMENT,
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is x",
        ),
        (
            ['name: "x" base_path: "/a" model_platform: "other"'],
            Code.INVALID_ARGUMENT,
            "Model x requests unsupported platform other",
        ),
        (
            ['name: "x" base_path: "/a" version_labels { key: "stable" value: 9 }'],
            Code.FAILED_PRECONDITION,
            "Request to assign label to version 9 of model x, which is not currently available "
            "for inference",
        ),
    ],
)
def test_a_wrong_configuration_is_refused(
    models: Models, base_path: Path, entries: list[str], code: Code, message: str
) -> None:
    models.reload(config(model(base_path)))
    assert refusal(lambda: models.reload(config(*entries))) == (code, message)
    assert found(models, spec()) == 3


def test_the_old_way_to_say_tensorflow_is_understood(models: Models, base_path: Path) -> None:
    entry = f"{model(base_path)} model_type: TENSORFLOW"
    listed = text_format.Parse(f"config {{ {entry} }}", ModelConfigList())
    models.reload(listed)
    assert found(models, spec()) == 3
    both = text_format.Parse(
        f'config {{ {entry} model_platform: "tensorflow" }}', ModelConfigList()
    )
    code, message = refusal(lambda: models.reload(both))
    assert code is Code.INVALID_ARGUMENT
    assert message.startswith("Illegal setting both ModelServerConfig::model_type (deprecated)")


# === Labels ===


def test_a_label_finds_its_version(models: Models, base_path: Path) -> None:
    both = specific(2, 3)
    models.reload(config(model(base_path, more=both)))
    models.reload(config(model(base_path, more=both + label(stable=2, canary=3))))
    assert found(models, spec(label="stable")) == 2
    assert found(models, spec(label="canary")) == 3
    models.reload(config(model(base_path, more=both + label(stable=3))))
    assert found(models, spec(label="stable")) == 3
    assert refusal(lambda: found(models, spec(label="canary"))) == (
        Code.INVALID_ARGUMENT,
        "Unrecognized servable version label: canary",
    )


def test_before_the_first_configuration_labels_are_not_known(models: Models) -> None:
    assert refusal(lambda: found(models, spec(label="stable"))) == (
        Code.UNAVAILABLE,
        "Model labels does not init yet.stable",
    )


def test_a_label_of_a_version_that_went_finds_nothing(models: Models, base_path: Path) -> None:
    models.reload(config(model(base_path, more=specific(2, 3))))
    models.reload(config(model(base_path, more=specific(2, 3) + label(old=2))))
    shutil.rmtree(base_path / "2")
    wait_for(lambda: states(models)[2] is State.END)
    assert refusal(lambda: found(models, spec(label="old"))) == (
        Code.NOT_FOUND,
        "Servable not found for request: Specific(seg, 2)",
    )


def test_new_labels_may_come_before_their_versions_where_that_is_allowed(base_path: Path) -> None:
    models = Models(make_manager, labels_before_versions=True)
    try:
        models.reload(config(model(base_path, more=specific(2) + label(stable=2))))
        assert found(models, spec(label="stable")) == 2
        moved = config(model(base_path, more=specific(2) + label(stable=9)))
        code, message = refusal(lambda: models.reload(moved))
        assert code is Code.FAILED_PRECONDITION
        assert "version 9 of model seg" in message  # a label in use does not leave what serves
    finally:
        models.stop()


# === Looking up ===


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        (spec(""), Code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (spec("x"), Code.NOT_FOUND, "Servable not found for request: Latest(x)"),
        (spec(version=9), Code.NOT_FOUND, "Servable not found for request: Specific(seg, 9)"),
        (spec(version=-1), Code.NOT_FOUND, "Servable not found for request: Specific(seg, -1)"),
    ],
)
def test_what_is_not_served_is_refused(
    models: Models, base_path: Path, asked: ModelSpec, code: Code, message: str
) -> None:
    models.reload(config(model(base_path)))
    assert refusal(lambda: found(models, asked)) == (code, message)


def test_a_version_in_use_is_freed_after_its_last_request(models: Models, base_path: Path) -> None:
    models.reload(config(model(base_path, more=specific(1))))
    with models.hold(spec()) as servable:
        fake: Any = servable
        models.reload(config(model(base_path, more=specific(2))))
        wait_for(lambda: states(models) == {2: State.AVAILABLE, 1: State.UNLOADING})
        assert not fake.closed
    wait_for(lambda: states(models) == {2: State.AVAILABLE, 1: State.END})
    assert fake.closed


def test_a_failed_load_is_tried_again_as_often_as_asked(base_path: Path) -> None:
    tries = 0
    done = threading.Event()

    def load_at_the_third_try(name: str, path: Path) -> Servable:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StatusError(Code.UNAVAILABLE, "not yet")
        done.set()
        return load(name, path)

    manager = VersionManager("seg", load_at_the_third_try, retries=2, retry_seconds=0.01)
    manager.configure(base_path)
    manager.poll()
    assert done.is_set() and manager.is_available(3)
    manager.stop()
