"""What is published, read without loading it, and what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_versions import write_fake_version

from segkit import contract
from segkit.contract import Metadata
from segkit.errors import ExportError
from segkit.serving.containers.published import PublishedModel, find_versions, read_model


@pytest.fixture
def base_path(tmp_path: Path) -> Path:
    folder = tmp_path / "segkit"
    folder.mkdir()
    return folder


def read(base_path: Path) -> PublishedModel:
    return read_model("segkit", base_path, sorted(find_versions(base_path)))


def refused(base_path: Path) -> str:
    with pytest.raises(ExportError) as caught:
        read(base_path)
    assert caught.value.expected and caught.value.next_step
    return str(caught.value)


def test_a_real_export_is_read(tiny_export: Path) -> None:
    model = read(tiny_export)
    (version,) = model.versions
    assert (version.number, version.batch_sizes) == (1, (1,))
    weights = (tiny_export / "1/variables").iterdir()
    assert version.weight_bytes == sum(file.stat().st_size for file in weights)


def test_versions_come_in_order_with_their_batch_sizes(
    base_path: Path, tiny_metadata: Metadata
) -> None:
    for number in (10, 9):
        write_fake_version(base_path, number, tiny_metadata, batch_sizes=(4, 1, 2))
    assert [x.number for x in read(base_path).versions] == [9, 10]
    assert {x.batch_sizes for x in read(base_path).versions} == {(1, 2, 4)}


def test_a_folder_without_versions_is_refused(base_path: Path) -> None:
    assert "there is no version in" in refused(base_path)
    assert "there is no version in" in refused(base_path / "missing")


def test_a_number_without_a_model_is_refused(base_path: Path, tiny_metadata: Metadata) -> None:
    write_fake_version(base_path, 1, tiny_metadata)
    (base_path / ".incoming-x").mkdir()
    assert read(base_path).versions
    (base_path / "2").mkdir()
    assert "'" + str(base_path / "2") + "' has the name of a version" in refused(base_path)


@pytest.mark.parametrize("name", [contract.METADATA_FILE, contract.WARMUP_FILE])
def test_what_is_missing_is_named(base_path: Path, tiny_metadata: Metadata, name: str) -> None:
    (write_fake_version(base_path, 1, tiny_metadata) / name).unlink()
    assert f"has no {name}" in refused(base_path)


def test_warmup_records_of_other_sizes_are_refused(
    base_path: Path, tiny_metadata: Metadata
) -> None:
    write_fake_version(base_path, 1, tiny_metadata, batch_sizes=(1, 2, 4), warmup_sizes=(1, 4))
    message = refused(base_path)
    assert "have batch sizes 1 4 for the signature serving_default" in message
    assert "says 1 2 4" in message and "--batch_sizes 1 2 4" in message


def test_warmup_records_that_are_none_are_refused(base_path: Path, tiny_metadata: Metadata) -> None:
    version = write_fake_version(base_path, 1, tiny_metadata)
    (version / contract.WARMUP_FILE).write_bytes(b"no TFRecord, but long enough for a header")
    assert "cannot be read" in refused(base_path)


def test_engines_of_other_sizes_are_refused(base_path: Path, tiny_metadata: Metadata) -> None:
    profiles = "Range+Optimal: batch 1, 4; 1 to 4; at 64x96"
    metadata = replace(tiny_metadata, tensorrt={"profiles": profiles})
    write_fake_version(base_path, 1, metadata, batch_sizes=(1, 4))
    assert read(base_path).versions
    write_fake_version(base_path, 2, metadata, batch_sizes=(1, 2, 4))
    assert "are built for batch sizes 1 4" in refused(base_path)


def test_the_profiles_of_the_conversion_are_understood(
    base_path: Path, tiny_metadata: Metadata
) -> None:
    from segkit.export.tensorrt import EngineSettings

    profiles = EngineSettings(batch_sizes=(1, 2, 8)).profiles(tiny_metadata.image_size)
    metadata = replace(tiny_metadata, tensorrt={"profiles": profiles})
    write_fake_version(base_path, 1, metadata, batch_sizes=(1, 2, 8))
    assert read(base_path).versions[0].batch_sizes == (1, 2, 8)


def test_what_the_servers_user_cannot_read_is_refused(
    base_path: Path, tiny_metadata: Metadata
) -> None:
    version = write_fake_version(base_path, 1, tiny_metadata)
    (version / "variables").chmod(0o700)
    assert f"'{version / 'variables'}' cannot be read by the server's user" in refused(base_path)
