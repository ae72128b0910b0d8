"""Files that are replaced only while nobody edited them."""

from __future__ import annotations

from pathlib import Path

import pytest

from segkit.errors import ConfigError
from segkit.serving.containers.generated import GeneratedFile, write_files


def file(folder: Path, body: str | None, *, private: bool = False) -> GeneratedFile:
    return GeneratedFile(path=folder / "x" / "a.config", body=body, private=private)


def test_a_file_is_written_once(tmp_path: Path) -> None:
    new = file(tmp_path, "a: 1\n")
    assert write_files([new]) == [new.path]
    assert new.path.read_text().splitlines()[1:] == ["a: 1"]
    assert new.path.stat().st_mode & 0o777 == 0o644
    before = new.path.stat()
    assert write_files([new]) == []
    assert new.path.stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in new.path.parent.iterdir()] == ["a.config"]


def test_what_was_not_edited_is_replaced_and_removed(tmp_path: Path) -> None:
    write_files([file(tmp_path, "a: 1\n")])
    assert write_files([file(tmp_path, "a: 2\n")])
    assert "a: 2" in file(tmp_path, None).path.read_text()
    assert write_files([file(tmp_path, None)])
    assert not file(tmp_path, None).path.exists()
    assert write_files([file(tmp_path, None)]) == []


@pytest.mark.parametrize("body", ["a: 2\n", None])
def test_what_was_edited_is_kept_and_nothing_is_written(tmp_path: Path, body: str | None) -> None:
    write_files([file(tmp_path, "a: 1\n")])
    path = file(tmp_path, None).path
    path.write_text(edited := path.read_text().replace("1\n", "1  # mine\n"))
    other = GeneratedFile(path=tmp_path / "other", body="")
    with pytest.raises(ConfigError, match=r"edited, or not of this command: .*a\.config"):
        write_files([other, file(tmp_path, body)])
    assert path.read_text() == edited and not other.path.exists()
    write_files([other, file(tmp_path, body)], overwrite=True)
    assert other.path.exists() and path.exists() == (body is not None)


def test_a_file_of_somebody_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    file(tmp_path, None).path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="edited, or not of this command"):
        write_files([file(tmp_path, "a: 1\n")])


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    secret = file(tmp_path, "key\n", private=True)
    write_files([secret])
    assert secret.path.stat().st_mode & 0o777 == 0o600
    secret.path.chmod(0o644)
    assert write_files([secret]) == [secret.path]
    assert secret.path.stat().st_mode & 0o777 == 0o600


def test_all_or_nothing(tmp_path: Path) -> None:
    """The second cannot be staged, so the first is not in place either."""
    (tmp_path / "file").write_text("")
    first = GeneratedFile(path=tmp_path / "first", body="")
    with pytest.raises(ConfigError, match="cannot be written: Not a directory|File exists"):
        write_files([first, GeneratedFile(path=tmp_path / "file" / "second", body="")])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
