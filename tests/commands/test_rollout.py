"""rollout and rollback from flags to files, against the embedded server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from google.protobuf import text_format
from tiny_streets import write_streets
from tiny_versions import Site, served, write_versions

from segkit.__main__ import main
from segkit.contract import Metadata
from segkit.serving.containers.tls import make_tls_files
from segkit.serving.rollout.checks import VersionChecks
from segkit.serving.rollout.history import one_at_a_time
from segkit.serving.server import ModelServer
from segkit.serving.server_config_pb2 import SSLConfig


@pytest.fixture(scope="module")
def versions(
    tiny_export: Path,
    tiny_model: Any,
    tiny_metadata: Metadata,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("versions")
    return write_versions(tiny_export, tiny_model, tiny_metadata, folder)


@pytest.fixture
def site(versions: Path, tmp_path: Path) -> Iterator[Site]:
    with served(versions, tmp_path) as site:
        yield site


@pytest.fixture
def segkit(site: Site, tmp_path: Path) -> Callable[..., int]:
    data = write_streets(tmp_path / "streets")

    def run(command: str, *words: object) -> int:
        where = ["--server", site.server.address, "--model_config_file", str(site.config_file)]
        more = ["--data", data] if command == "rollout" else []
        return main([command, *where, *more, *map(str, words)])

    return run


def test_a_roll_out_and_back(
    segkit: Callable[..., int], site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put("same", 2)
    assert segkit("rollout", "--version", 2, "--json", tmp_path / "report.json") == 0
    text = capsys.readouterr().out
    for words in (
        "version 2: AVAILABLE",
        "version 2 held to version 1: 4 images of folder:",
        "same class         100.000% of the pixels",
        "mean_iou",
        "p50/p90/p99 ms",
        "served now: version 1, version 2 (stable)",
        "undo it by: python -m segkit rollback --server",
    ):
        assert words in text
    record = json.loads((tmp_path / "report.json").read_text())
    assert record["done"] and record["labels"] == {"stable": 2} and record["stable_before"] == 1
    assert record["proof"]["agreement"] == 1.0
    history = json.loads((site.config_file.parent / "models.config.rollouts.json").read_text())
    assert history["models"]["segkit"][0]["agreement"] == 1.0
    undo = text.splitlines()[-1].removeprefix("undo it by: python -m segkit ").split()
    assert main(undo) == 0
    assert "served now: version 1 (stable)" in capsys.readouterr().out


def test_what_answers_otherwise_is_taken_out_again(
    segkit: Callable[..., int], site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put("swapped", 2)
    report = tmp_path / "report.json"
    assert segkit("rollout", "--version", 2, "--json", report) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "does not answer as version 1 does: the same class on" in captured.err
    assert "undone, so that now serves what did before: version 1 (stable)" in captured.err
    record = json.loads(report.read_text())
    assert not record["done"] and record["proof"]["agreement"] < 0.8
    assert site.labels == {"stable": 1} and site.states == {2: "END", 1: "AVAILABLE"}
    allowed = ("--min_agreement", 0, "--max_miou_drop", 1)
    assert segkit("rollout", "--version", 2, *allowed, "--canary") == 0
    assert site.labels == {"stable": 1, "canary": 2}


def test_other_classes_are_let_in_by_a_flag_alone(
    segkit: Callable[..., int], site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put("bus", 2)
    assert segkit("rollout", "--version", 2) == 1
    assert "with bus and without car" in capsys.readouterr().err
    assert site.states == {1: "AVAILABLE"}
    assert segkit("rollout", "--version", 2, "--allow_new_classes", "--min_agreement", 0,
                  "--max_miou_drop", 1) == 0  # fmt: skip
    assert "version 2 held to version 1" in capsys.readouterr().out


def test_another_image_size_is_let_in_by_a_flag_alone(
    segkit: Callable[..., int], site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put("small", 2)
    # Without its folder at hand it is found out after loading, and undone.
    where = ("--trust_engines", "--export", site.versions / "same")
    assert segkit("rollout", "--version", 2, "--trust_engines") == 1
    assert "takes images of 32x48" in capsys.readouterr().err
    assert segkit("rollout", "--version", 2, *where) == 1
    assert "does not describe itself as its folder does; undone" in capsys.readouterr().err
    assert segkit("rollout", "--version", 2, "--allow_new_image_size") == 0


def test_a_server_of_one_model_without_a_file(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put("same", 2)
    where = ("--server", site.server.address, "--model_base_path", str(site.base_path))
    data = write_streets(tmp_path / "streets")
    assert main(["rollout", *where, "--version", "2", "--data", data]) == 0
    undo = capsys.readouterr().out.splitlines()[-1]
    assert undo.endswith("--to 1")
    assert main(undo.removeprefix("undo it by: python -m segkit ").split()) == 0
    assert site.labels == {"stable": 1}


def test_a_server_that_speaks_tls(
    tiny_export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ssl = text_format.Parse(make_tls_files(tmp_path / "tls", [], days=825).ssl_config, SSLConfig())
    with ModelServer.of("segkit", tiny_export, ssl_config=ssl) as server:
        port = server.address.rpartition(":")[2]
        where = ["--server", f"localhost:{port}", "--model_base_path", str(tiny_export)]
        rollout = ["rollout", "--version", "1", *where]
        assert main(rollout) == 1
        assert "speaks TLS alone" in capsys.readouterr().err
        flags = [("--ca", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key")]
        proofs = [word for flag, name in flags for word in (flag, str(tmp_path / "tls" / name))]
        assert main([*rollout, *proofs]) == 0
    text = capsys.readouterr().out
    assert "there is no version to compare it with" in text
    assert "served now: version 1 (stable)" in text
    assert f"--ca {tmp_path / 'tls' / 'ca.crt'}" in text


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_undoes_what_was_begun(
    segkit: Callable[..., int],
    site: Site,
    number: signal.Signals,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site.put("same", 2)
    monkeypatch.setattr(
        VersionChecks, "after_loading", lambda *args: os.kill(os.getpid(), number) or sleep(9)
    )
    handler = signal.getsignal(signal.SIGTERM)
    if number == signal.SIGTERM:
        with pytest.raises(SystemExit, match=str(status)):
            segkit("rollout", "--version", 2)
    else:
        assert segkit("rollout", "--version", 2) == status
    assert "undone, so that now serves what did before" in capsys.readouterr().out
    assert site.states == {2: "END", 1: "AVAILABLE"}
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_running_roll_out_keeps_others_out(
    segkit: Callable[..., int], site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with one_at_a_time(site.config_file):
        assert segkit("rollout", "--version", 2) == 1
        assert segkit("rollback") == 1
    assert capsys.readouterr().err.count("another roll-out by") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "neither --model_config_file nor --model_base_path is given"),
        (
            ("--model_config_file", "a", "--model_base_path", "/b"),
            "--model_config_file and --model_base_path are both given",
        ),
        (("--model_base_path", "b"), "--model_base_path is 'b'"),
        (("--model_base_path", "/b", "--version", "-1"), "--version is -1"),
        (("--model_base_path", "/b", "--load_timeout", "0"), "--load_timeout is 0"),
        (("--model_base_path", "/b", "--server", "nowhere"), "the server address is 'nowhere'"),
        (("--model_base_path", "/b", "--server", "127.0.0.1:1"), "127.0.0.1:1 cannot be reached"),
        (("--model_base_path", "/b", "--min_agreement", "2"), "--min_agreement is 2"),
        (("--model_base_path", "/b", "--cert", "c"), "--cert is given without --ca"),
        (("--model_base_path", "/b", "--json", "/nowhere/x"), "'/nowhere/x' cannot be written"),
        (("--model_base_path", "/b", "--json", __file__), "exists"),
        (("--model_config_file", "/nowhere"), "'/nowhere' is no file"),
        (
            ("--model_base_path", "/b", "--gpu_compute_capability", "sm_86"),
            "--gpu_compute_capability is 'sm_86'",
        ),
    ],
)
def test_wrong_flags_are_named(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    version = () if "--version" in words else ("--version", "2")
    assert main(["rollout", *version, *words]) == 1
    assert message in capsys.readouterr().err


def test_rollback_to_no_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--model_base_path", "/b", "--to", "-1"]) == 1
    assert "--to is -1" in capsys.readouterr().err
