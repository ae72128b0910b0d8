"""What a version has to pass before and after it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.contract import METADATA_FILE, Metadata
from segkit.errors import ConfigError, ContractMismatch, ExportError
from segkit.labels import LabelMap
from segkit.serving.rollout.checks import VersionChecks, _Renamed, _union, find_manifest
from segkit.serving.rollout.control import ModelControl
from segkit.serving.rollout.engines import check_engines

MACHINE = {"tensorrt": "8.6.1", "gpu": "NVIDIA L4", "compute_capability": "8.9", "engines": "1"}


@pytest.fixture
def with_engines(tiny_metadata: Metadata) -> Callable[..., Metadata]:
    return lambda **changes: replace(tiny_metadata, tensorrt={**MACHINE, **changes})


def check(manifest: Metadata | None, serving: Metadata | None = None, **known: Any) -> None:
    check_engines(manifest, version=2, serving=serving, **{"compute_capability": None, **known})


def test_a_version_without_engines_loads_anywhere(tiny_metadata: Metadata) -> None:
    check(tiny_metadata)


def test_engines_of_the_machine_that_serves_are_let_in(
    with_engines: Callable[..., Metadata],
) -> None:
    check(with_engines(), with_engines())
    check(with_engines(), compute_capability="8.9")


def test_what_is_not_known_is_not_loaded(
    with_engines: Callable[..., Metadata], tiny_metadata: Metadata
) -> None:
    with pytest.raises(ConfigError, match="not known whether version 2 holds TensorRT") as caught:
        check(None, tiny_metadata)
    assert "--export" in caught.value.next_step and "--trust_engines" in caught.value.next_step
    for manifest, known in ((with_engines(), {}), (with_engines(compute_capability="unknown"), {})):
        with pytest.raises(ConfigError, match="the server's GPU is not known") as caught:
            check(manifest, tiny_metadata, **known)
        assert "--gpu_compute_capability" in caught.value.expected


@pytest.mark.parametrize(
    ("built", "known", "words"),
    [
        ({}, {"compute_capability": "8.6"}, "compute capability 8.9 instead of 8.6"),
        (
            {"tensorrt": "8.5.3"},
            {"compute_capability": "8.9"},
            "TensorRT 8.5.3 instead of 8.6.1",
        ),
        ({"gpu": "NVIDIA L40"}, {"serving": True}, "the GPU NVIDIA L40 instead of NVIDIA L4"),
    ],
)
def test_engines_of_another_machine_are_refused(
    with_engines: Callable[..., Metadata], built: Any, known: Any, words: str
) -> None:
    serving = with_engines() if known.pop("serving", False) else None
    with pytest.raises(ExportError, match=words) as caught:
        check(with_engines(**built), serving, **known)
    assert "convert it again there" in caught.value.next_step


def test_the_manifest_is_found_in_the_versions_folder_or_above(
    tiny_export: Path, tiny_metadata: Metadata, tmp_path: Path
) -> None:
    for export, base_path in (
        (tiny_export, tmp_path),
        (tiny_export / "1", tmp_path),
        (None, tiny_export),
    ):
        assert find_manifest(export, 1, base_path=base_path) == tiny_metadata
    assert find_manifest(None, 1, base_path=Path("/models/segkit")) is None


def test_the_folder_of_another_version_is_refused(tiny_export: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not the folder of version 2"):
        find_manifest(tiny_export / "1", 2, base_path=tmp_path)
    with pytest.raises(ConfigError, match=f"holds no {METADATA_FILE}"):
        find_manifest(tiny_export, 2, base_path=tmp_path)


@pytest.fixture
def checks(running_server: str) -> Any:
    with ModelControl(running_server) as control:
        yield lambda **given: VersionChecks(
            control=control, model="segkit", version=1, **{"trust_engines": True, **given}
        )


def test_a_version_is_compared_with_itself(
    checks: Callable[..., VersionChecks], tmp_path: Path, clip: Path
) -> None:
    said: list[str] = []
    checking = checks(data=f"images:{clip}", num_images=3, say=said.append)
    checking.before_loading(1)
    proof = checking.after_loading(1)
    assert proof is not None and proof.agreement.share == 1.0
    assert "p50/p90/p99 ms" in said[0] and "version 1 held to version 1" in said[0]


def test_where_nothing_serves_no_images_are_needed(checks: Callable[..., VersionChecks]) -> None:
    checking = checks()
    checking.before_loading(None)
    assert checking.after_loading(None) is None


def test_without_images_nothing_is_compared(checks: Callable[..., VersionChecks]) -> None:
    with pytest.raises(ConfigError, match="no real images to compare on"):
        checks().before_loading(1)


def test_another_folder_than_what_is_loaded_is_noticed(
    checks: Callable[..., VersionChecks], tiny_metadata: Metadata
) -> None:
    with pytest.raises(ExportError, match="does not describe itself as its folder") as caught:
        checks(manifest=replace(tiny_metadata, source="other")).after_loading(None)
    assert "--export" in caught.value.next_step


@pytest.mark.parametrize(
    ("change", "words", "flag"),
    [
        (
            lambda record: replace(record, labels=LabelMap(record.labels.labels[::-1])),
            "the order is car, road, background, not background, road, car",
            "allow_new_classes",
        ),
        (
            lambda record: replace(record, labels=LabelMap(record.labels.labels[:2])),
            "other classes than version 1: without car",
            "allow_new_classes",
        ),
        (
            lambda record: replace(record, image_size=(32, 48)),
            "takes images of 32x48, version 1 of 64x96",
            "allow_new_image_size",
        ),
    ],
)
def test_what_running_clients_would_not_understand_is_refused(
    checks: Callable[..., VersionChecks],
    tiny_metadata: Metadata,
    clip: Path,
    change: Any,
    words: str,
    flag: str,
) -> None:
    manifest = change(tiny_metadata)
    with pytest.raises(ContractMismatch, match=words) as caught:
        checks(manifest=manifest, data=f"images:{clip}").before_loading(1)
    assert f"--{flag}" in caught.value.next_step
    checks(manifest=manifest, data=f"images:{clip}", **{flag: True}).before_loading(1)


def test_a_model_that_is_not_segkits_is_refused(
    checks: Callable[..., VersionChecks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelControl, "signatures", lambda *args: {})
    with pytest.raises(ContractMismatch, match="signature 'serving_default' of version 1 has no"):
        checks().after_loading(None)


def test_classes_of_two_models_are_compared_by_name(labels: LabelMap) -> None:
    class Constant:
        image_size = (2, 2)

        def __init__(self, labels: LabelMap) -> None:
            self.labels = labels

        def predict(self, image: Any, size: Any) -> Any:
            return np.full(size, 1, np.uint8)

    other = LabelMap((labels.labels[2], replace(labels.labels[1], name="tram")))
    union = _union(labels, other)
    assert union.names == ("background", "road", "car", "tram")
    image = np.zeros((2, 2, 3), np.uint8)
    assert (_Renamed(Constant(other), union).predict(image, (2, 2)) == 3).all()
    assert (_Renamed(Constant(labels), union).predict(image, (2, 2)) == 1).all()
