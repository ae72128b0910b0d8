from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rollout_desk import Desk
from tiny_versions import Site, served, write_stand_ins

LATEST = "model_version_policy { latest { num_versions: 1 } }"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stand_ins(tmp_path_factory.mktemp("versions"))


@pytest.fixture
def site(versions: Path, tmp_path: Path) -> Iterator[Site]:
    with served(versions, tmp_path, stand_ins=True) as site:
        yield site


@pytest.fixture
def desk(site: Site) -> Desk:
    site.put("same", 2)
    return Desk(site)


@pytest.fixture
def latest(versions: Path, tmp_path: Path) -> Iterator[Desk]:
    with served(versions, tmp_path, LATEST, stand_ins=True) as site:
        yield Desk(site)
