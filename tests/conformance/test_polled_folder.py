"""The folder that the server polls: versions that come, go, and are none."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from reloading import AVAILABLE, END, LOADING, Server, Watch, model_config, wait_until


@pytest.fixture
def polled(server: Server) -> Iterator[Path]:
    """An empty folder where the server looks for versions of a model of the folder's name."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="polled_", dir=server.root))
    except OSError as err:
        pytest.skip(f"the server's folder of models is not one that can be written here: {err}")
    folder.chmod(0o755)
    yield folder
    server.reload(server.config(1, 2), server.bare)
    shutil.rmtree(folder)


def test_a_folder_is_followed(server: Server, polled: Path) -> None:
    name = polled.name

    def publish(number: int) -> None:
        shutil.copytree(server.root / server.model / str(number), polled / ".incoming")
        (polled / ".incoming").rename(polled / str(number))

    publish(1)
    server.reload(server.config(1, 2), server.bare, model_config(name, polled))
    with Watch(lambda: server.answer(name)) as latest:
        publish(2)
        server.wait({1: END, 2: AVAILABLE}, name)
        wait_until(lambda: latest.answers[-1:] == [2], "version 2 answers")
        shutil.rmtree(polled / "2")
        server.wait({1: AVAILABLE, 2: END}, name)
        wait_until(lambda: latest.answers[-1:] == [1], "version 1 answers again")
    assert latest.answers == [1, 2, 1]
    assert list(server.states(name)) == [2, 1]
    shutil.rmtree(polled / "1")
    server.wait({1: END, 2: END}, name)


def test_what_is_no_number_is_no_version(server: Server, polled: Path) -> None:
    name = polled.name
    for folder in ("1", "2x", "x2", ".2"):
        shutil.copytree(server.root / server.model / "1", polled / folder)
    server.reload(server.config(1, 2), server.bare, model_config(name, polled))
    assert server.answer(name) == 1
    assert server.states(name) == {1: AVAILABLE}


def test_a_version_that_fails_to_load_takes_nothing_down(server: Server, polled: Path) -> None:
    name = polled.name
    shutil.copytree(server.root / server.model / "1", polled / "1")
    server.reload(server.config(1, 2), server.bare, model_config(name, polled))
    broken = polled / ".incoming"
    shutil.copytree(server.root / server.model / "2", broken)
    (broken / "saved_model.pb").write_bytes(b"no SavedModel")
    with Watch(lambda: server.answer(name)) as latest:
        broken.rename(polled / "2")
        wait_until(lambda: 2 in server.states(name), "version 2 is seen")
        # tensorflow/serving tries again for minutes: LOADING there, END where it has given up.
        wait_until(lambda: server.states(name)[2] in (LOADING, END), "version 2 is tried")
    assert latest.answers == [1]
    assert server.states(name)[1] == AVAILABLE
