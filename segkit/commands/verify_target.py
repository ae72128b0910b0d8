"""What `segkit verify` compares: TARGETs, read and opened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from segkit.client import Credentials, LocalSegmenter, RemoteSegmenter
from segkit.commands.eval_target import find_version
from segkit.contract import DEFAULT_MODEL_NAME
from segkit.engines import find_variant, open_engine
from segkit.engines.variants import SAVED_MODEL, VariantName
from segkit.errors import ConfigError
from segkit.evaluation.predictors import SegmenterPredictor
from segkit.evaluation.proof import Contestant
from segkit.export.checkpoint import keras_contestant
from segkit.export.proof import open_contestant
from segkit.models.checkpoints import load_checkpoint
from segkit.runs import is_checkpoint

__all__ = ["VerifyTarget", "open_targets", "parse_target"]

SERVER = re.compile(r"(?P<server>[^/@]+:\d{1,5})(/(?P<model>.+))?")


@dataclass(frozen=True, kw_only=True)
class VerifyTarget:
    """A TARGET, read; one of the first three is given.

    Args:
        checkpoint: A run folder, or the file.
        version: The folder of an exported version.
        server: host:port.
        engine: Of a version: what runs it.
        model_name: Of a server.
    """

    checkpoint: Path | None = None
    version: Path | None = None
    server: str | None = None
    engine: str = SAVED_MODEL
    model_name: str = DEFAULT_MODEL_NAME


def parse_target(text: str) -> VerifyTarget:
    """Reads a TARGET.

    Raises:
        ConfigError: It is none.
        ExportError: The folder holds no version.
    """
    path, _, engine = text.rpartition("@") if "@" in text else (text, "", "")
    place = Path(path).expanduser()
    if place.exists():
        if is_checkpoint(place):
            if engine:
                raise ConfigError(
                    f"'{text}' names an engine for a checkpoint, which Keras runs",
                    expected="@ENGINE with an exported version alone",
                )
            return VerifyTarget(checkpoint=place)
        if engine:
            VariantName.parse(engine, flag=f"'{text}'")
        return VerifyTarget(version=find_version(place), engine=engine or SAVED_MODEL)
    match = SERVER.fullmatch(text)
    if match:
        return VerifyTarget(server=match["server"], model_name=match["model"] or DEFAULT_MODEL_NAME)
    raise ConfigError(
        f"there is no '{path}', and it is no HOST:PORT either",
        expected="a run folder, a .h5, a version folder (perhaps with @ENGINE) or HOST:PORT",
    )


def open_targets(
    targets: Sequence[VerifyTarget],
    *,
    image_size: tuple[int, int] | None,
    credentials: Credentials | None = None,
    stack: ExitStack,
) -> tuple[Contestant, Contestant]:
    """Opens both; a checkpoint at the image size of the other, if it has one.

    Args:
        targets: Two.
        image_size: That of checkpoints; None: see above.
        credentials: For a server that speaks TLS.
        stack: Closes what was opened.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        ExportError: A version cannot be loaded here.
        ServerError: The server cannot be asked; the subclass says why.
    """
    opened: dict[int, Contestant] = {}
    for index, target in enumerate(targets):
        if target.checkpoint is None:
            opened[index] = _open_served(target, credentials, stack)
    others = [contestant.predictor.image_size for contestant in opened.values()]
    size = image_size or (others[0] if others else None)
    for index, target in enumerate(targets):
        if target.checkpoint is not None:
            model, record = load_checkpoint(target.checkpoint, image_size=size)
            opened[index] = keras_contestant(model, record.labels, target.checkpoint)
    return opened[0], opened[1]


def _open_served(
    target: VerifyTarget, credentials: Credentials | None, stack: ExitStack
) -> Contestant:
    if target.version is not None:
        variant = find_variant(target.version, target.engine)
        local = stack.enter_context(LocalSegmenter(open_engine(target.version, target.engine)))
        return open_contestant(local, variant)
    assert target.server is not None
    remote = stack.enter_context(
        RemoteSegmenter(target.server, target.model_name, credentials=credentials)
    )
    return Contestant(
        name=f"{target.server}, model {target.model_name}",
        predictor=SegmenterPredictor(remote),
        device="the server, with the way there and back",
    )
