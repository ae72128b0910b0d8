from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from segkit import contract
from segkit.contract import Metadata
from segkit.engines import open_engine
from segkit.errors import ExportError
from segkit.export import publish, publishing
from segkit.export.publishing import new_version, prune_versions

REPOSITORY = Path(__file__).resolve().parent.parent.parent
EXPORTING = Path(__file__).with_name("exporting.py")


def export_light(base_path: Path, *, files: tuple[str, ...] = ("saved_model.pb",)) -> Path:
    with new_version(base_path) as new:
        for name in files:
            (new.path / name).write_bytes(b"whole")
    return new.version


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def run_exporting(
    folder: Path, *jobs: str, tiny: Path, before: tuple[str, ...] = ()
) -> dict[str, Any]:
    done = subprocess.run(
        [*before, sys.executable, str(EXPORTING), str(folder), *jobs],
        env={**os.environ, "SEGKIT_TINY": str(tiny), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    happened: dict[str, Any] = json.loads(done.stdout)
    return happened


@pytest.fixture(scope="module")
def tiny(tiny_model: Any, tiny_metadata: Metadata, tmp_path_factory: Any) -> Path:
    """What `publish_tiny_model` of exporting.py publishes."""
    folder: Path = tmp_path_factory.mktemp("tiny")
    tiny_model.save(folder / "tiny.keras")
    (folder / "segkit.json").write_text(tiny_metadata.to_json(), encoding="utf-8")
    return folder


class Exported(NamedTuple):
    """What exporting.py did: what it left, and the changes that it would not have left out."""

    folder: Path
    happened: dict[str, Any]

    def of(self, mode: str, action: str) -> tuple[Path, list[str]]:
        changes = self.happened[f"{mode}:{action}"]
        if changes is None:
            pytest.skip("needs seccomp's user notification (Linux 5.7; x86_64 or aarch64)")
        return self.folder / mode / action, changes


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: Any) -> Exported:
    folder: Path = tmp_path_factory.mktemp("exported")
    for _ in range(3):
        export_light(folder / "kill/prune_to_one/before", files=("saved_model.pb", "more"))
    jobs = (
        "kill:publish_two_files",
        "kill:publish_tiny_model",
        "kill:prune_to_one",
        "copy:publish_tiny_model",
        "race:publish_often",
    )
    return Exported(folder, run_exporting(folder, *jobs, tiny=tiny))


def check_that_the_next_export_clears_up(base_path: Path) -> None:
    published = [int(name) for name in names(base_path) if name.isdigit()]
    version = export_light(base_path)
    assert version.name == str(len(published) + 1)
    assert names(base_path) == sorted([*map(str, published), version.name])


# === Killed ===


def test_killed_at_any_moment_an_export_leaves_a_whole_version_or_none(exported: Exported) -> None:
    folder, changes = exported.of("kill", "publish_two_files")
    renames = [count for count, name in enumerate(changes, 1) if name.startswith("rename")]
    number_is_taken = renames[-1] + 1  # where the kernel's first way does not work, there are two
    for count in range(1, len(changes) + 2):  # the last one came to its end
        base_path = folder / str(count)
        published = [name for name in names(base_path) if name.isdigit()]
        assert published == (["1"] if count >= number_is_taken else [])
        if published:
            assert contents(base_path / "1") == {
                "variables/data": b"x" * 100_000,
                "saved_model.pb": b"whole",
            }
        check_that_the_next_export_clears_up(base_path)


def test_at_no_moment_is_there_half_a_saved_model(exported: Exported, tiny_model: Any) -> None:
    folder, changes = exported.of("copy", "publish_tiny_model")
    assert len(changes) > 50
    whole = contents(folder / "run" / "1")
    assert {"saved_model.pb", "variables/variables.index", contract.METADATA_FILE} < set(whole)
    check_answers_as(tiny_model, folder / "run" / "1")
    for count in range(1, len(changes) + 1):
        base_path = folder / str(count)
        for version in base_path.glob("[0-9]*"):
            assert contents(version) == whole
        check_that_the_next_export_clears_up(base_path)


def test_a_killed_saved_model_is_whole_or_absent(exported: Exported, tiny_model: Any) -> None:
    folder, changes = exported.of("kill", "publish_tiny_model")
    base_paths = list(folder.iterdir())
    assert len(base_paths) >= len(changes) // 19
    for base_path in base_paths:
        for version in base_path.glob("[0-9]*"):
            check_answers_as(tiny_model, version)
        check_that_the_next_export_clears_up(base_path)


def check_answers_as(model: Any, version: Path) -> None:
    image = np.random.default_rng(3).integers(0, 256, (1, 64, 96, 3), np.uint8)
    expected = np.argmax(model(image.astype(np.float32)), axis=-1)
    loaded = tf.saved_model.load(str(version)).signatures[contract.DEFAULT_SIGNATURE]
    np.testing.assert_array_equal(loaded(image=tf.constant(image))[contract.CLASS_IDS], expected)
    engine = open_engine(version)
    answer = engine.run(contract.DEFAULT_SIGNATURE, {contract.IMAGE: image})
    np.testing.assert_array_equal(answer[contract.CLASS_IDS], expected)
    engine.close()


def test_killed_at_any_moment_pruning_leaves_whole_versions(exported: Exported) -> None:
    folder, changes = exported.of("kill", "prune_to_one")
    assert len(changes) >= 8  # two folders: a rename, two files, the folder itself
    remaining = set()
    for count in range(1, len(changes) + 2):
        base_path = folder / str(count)
        versions = [path for path in base_path.iterdir() if path.name.isdigit()]
        assert all(set(contents(path)) == {"saved_model.pb", "more"} for path in versions)
        remaining.add(" ".join(sorted(path.name for path in versions)))
        assert export_light(base_path).name == "4"
        assert names(base_path) == sorted([*(path.name for path in versions), "4"])
    assert remaining == {"1 2 3", "2 3", "3"}


# === Interrupted, failed ===


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, ValueError("no"), ExportError("no")]
)
def test_what_is_raised_passes_and_leaves_nothing(tmp_path: Path, error: Any) -> None:
    expected = error if isinstance(error, type) else type(error)
    with pytest.raises(expected), new_version(tmp_path) as new:
        (new.path / "saved_model.pb").write_bytes(b"half")
        raise error
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/elsewhere/image.png"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
    ],
)
def test_what_the_folder_is_not_to_blame_for_is_not_blamed_on_it(
    tmp_path: Path, error: Exception
) -> None:
    with pytest.raises(type(error)), new_version(tmp_path):
        raise error


@pytest.mark.parametrize(
    ("code", "error"), [(errno.EROFS, OSError), (errno.EIO, tf.errors.UnknownError)]
)
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, code: int, error: Any) -> None:
    reason = os.strerror(code)
    with pytest.raises(ExportError) as raised, new_version(tmp_path) as new:
        file = str(new.path / "saved_model.pb")
        if error is OSError:
            raise OSError(code, reason, file)
        raise error(None, None, f"{{{{function_node}}}} {file}; {reason} [Op:WriteFile]")
    assert raised.value.problem == f"no version was published to '{tmp_path}': {reason}"
    assert "may write" in raised.value.expected
    assert "choose another" in raised.value.next_step


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "exports").write_text("")
    with (
        pytest.raises(ExportError, match="no version was published to .*/exports"),
        new_version(tmp_path / "exports"),
    ):
        pytest.fail("there is nothing to fill")


# === Full disks ===


@pytest.fixture
def small_files_only() -> Iterator[int]:
    """No file of this process may grow over so many bytes."""
    limit = 20_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check_full(error: Sequence[str], base_path: Path, reason: str) -> None:
    problem, expected, next_step = error
    assert f"no version was published to '{base_path}': {reason}" in problem
    assert "MB free there" in problem
    assert "room for one more version" in expected
    assert "removing old versions" in next_step


def test_a_limit_that_python_meets_is_an_error_and_leaves_nothing(
    tmp_path: Path, small_files_only: int
) -> None:
    with pytest.raises(ExportError) as raised, new_version(tmp_path) as new:
        (new.path / "saved_model.pb").write_bytes(bytes(small_files_only + 1))
    check_full(raised.value.args, tmp_path, "File too large")
    assert names(tmp_path) == []


def test_a_limit_that_tensorflow_meets_is_an_error_and_leaves_nothing(
    tmp_path: Path, tiny_model: Any, tiny_metadata: Metadata, small_files_only: int
) -> None:
    with pytest.raises(ExportError) as raised:
        publish(tiny_model, tiny_metadata, tmp_path)
    check_full(raised.value.args, tmp_path, "File too large")
    assert names(tmp_path) == []


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, tiny: Path) -> None:
    """With no room at all, with a little, ..., until the version fits."""
    mount = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    script = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    try:
        subprocess.run([*mount, script, tmp_path, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as err:
        pytest.skip(f"needs a small tmpfs in a namespace of this user: {err}")
    job = "fill:publish_tiny_model"
    before = (*mount, script, str(tmp_path))
    *full, fits = run_exporting(tmp_path, job, tiny=tiny, before=before)[job]
    assert len(full) >= 5
    for outcome in full:
        check_full(outcome["error"], tmp_path / "fill/publish_tiny_model/run", "No space left")
        assert outcome["left"] == []
    assert fits["error"] == [] and "1" in fits["left"]


# === Numbers ===


def test_two_exports_at_once_get_two_numbers(exported: Exported) -> None:
    base_path = exported.folder / "race" / "publish_often" / "run"
    versions = [contents(path) for path in base_path.iterdir()]
    assert names(base_path) == sorted(str(number) for number in range(1, 2 * 40 + 1))
    assert all(version["saved_model.pb"] == version["again"] for version in versions)
    assert len({version["again"] for version in versions}) == len(versions)


def test_an_export_leaves_one_that_is_still_running_alone(tmp_path: Path) -> None:
    with new_version(tmp_path) as first:
        (first.path / "saved_model.pb").write_bytes(b"first")
        assert export_light(tmp_path).name == "1"
        assert (first.path / "saved_model.pb").exists()
    assert first.version.name == "2"


def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    swept = []

    def too_late(file: int, operation: int) -> None:
        if not swept:
            swept.extend(tmp_path.glob(".incoming-*"))
            publishing._sweep(tmp_path)  # as another export does, between two lines of this one
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", too_late)
    assert export_light(tmp_path).name == "1"
    assert len(swept) == 1
    assert names(tmp_path) == ["1"]


def test_whatever_has_a_number_for_a_name_takes_it(tmp_path: Path) -> None:
    (tmp_path / "4").mkdir()
    (tmp_path / "5").write_text("a file")
    (tmp_path / ".incoming-abandoned").mkdir()
    (tmp_path / "9b").mkdir()
    (tmp_path / "²").mkdir()  # a digit, but no number
    (tmp_path / str(2**63)).mkdir()  # more than TensorFlow Serving counts to
    assert export_light(tmp_path).name == "6"


@pytest.mark.parametrize("errno_of_renameat2", [None, errno.ENOSYS, errno.EINVAL])
@pytest.mark.parametrize("kind", ["empty folder", "folder", "file"])
def test_a_number_taken_at_the_last_moment_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, errno_of_renameat2: int | None
) -> None:
    if errno_of_renameat2:  # as on NFS, or with an old C library
        monkeypatch.setattr(publishing, "_renameat2", lambda *_: errno_of_renameat2)
    look = publishing._numbered
    taken = tmp_path / "1"

    def look_too_early(base_path: Path) -> list[Path]:
        seen = look(base_path)
        if not taken.exists():
            if kind == "file":
                taken.write_text("mine")
            else:
                taken.mkdir()
            if kind == "folder":
                (taken / "mine").write_text("mine")
        return seen

    monkeypatch.setattr(publishing, "_numbered", look_too_early)
    assert export_light(tmp_path).name == "2"
    assert not (taken / "saved_model.pb").exists()


def test_every_user_may_read_what_was_published(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with new_version(tmp_path) as new:
            (new.path / "variables").mkdir()
            (new.path / "variables" / "data").write_bytes(b"")
            (new.path / "saved_model.pb").write_bytes(b"")
    finally:
        os.umask(before)
    for path in (new.version, *new.version.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_without_locks_on_the_file_system_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".incoming-somebody").mkdir()
    assert export_light(tmp_path).name == "1"
    assert ".incoming-somebody" in names(tmp_path)


# === Old versions ===


def test_pruning_goes_by_number_and_keeps_the_newest(tmp_path: Path) -> None:
    (tmp_path / "8").mkdir()
    (tmp_path / "8" / "saved_model.pb").write_bytes(b"")
    for _ in range(2):
        export_light(tmp_path)
    export_light(tmp_path)
    assert prune_versions(tmp_path, 2) == [tmp_path / "8", tmp_path / "9"]
    assert names(tmp_path) == ["10", "11"]


def test_pruning_to_more_than_there_are_removes_none(tmp_path: Path) -> None:
    export_light(tmp_path)
    assert prune_versions(tmp_path, 5) == []
    assert names(tmp_path) == ["1"]


def test_what_is_no_version_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    for _ in range(3):
        export_light(tmp_path)
    (tmp_path / "models.config").write_text("")
    (tmp_path / "1" / "notes.txt").write_text("of the version's own folder")
    (tmp_path / "7").mkdir()  # no model in it
    (tmp_path / "0").write_text("a file")
    assert prune_versions(tmp_path, 2) == [tmp_path / "1"]
    assert names(tmp_path) == ["0", "2", "3", "7", "models.config"]


def test_of_a_linked_version_the_link_is_removed(tmp_path: Path) -> None:
    elsewhere = export_light(tmp_path / "elsewhere")
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "1").symlink_to(elsewhere)
    export_light(tmp_path / "exports")
    assert prune_versions(tmp_path / "exports", 1) == [tmp_path / "exports" / "1"]
    assert names(tmp_path / "exports") == ["2"]
    assert names(elsewhere) == ["saved_model.pb"]


def test_pruning_removes_what_killed_exports_left(tmp_path: Path) -> None:
    export_light(tmp_path)
    (tmp_path / ".incoming-abandoned" / "version").mkdir(parents=True)
    (tmp_path / ".removed-abandoned" / "variables").mkdir(parents=True)
    assert prune_versions(tmp_path, 1) == []
    assert names(tmp_path) == ["1"]


def test_no_version_is_kept_only_by_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep is 0"):
        prune_versions(tmp_path, 0)


def test_pruning_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="old versions in .*nowhere.* cannot be removed"):
        prune_versions(tmp_path / "nowhere", 1)
