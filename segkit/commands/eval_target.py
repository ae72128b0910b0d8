"""What `segkit eval` measures: a checkpoint, an exported version or a server, opened."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segkit.client import LocalSegmenter
from segkit.commands.eval import Options
from segkit.contract import METADATA_FILE, Metadata
from segkit.engines import AUTO, find_variant, open_variant
from segkit.errors import ConfigError, ExportError, ModelError
from segkit.evaluation.latency import tensorflow_device
from segkit.evaluation.predictors import Passes, Predictor, SegmenterPredictor, open_checkpoint
from segkit.evaluation.profile import Profile, profile_model
from segkit.evaluation.wire import EncodingSegmenter
from segkit.export.proof import open_contestant
from segkit.labels import LabelMap
from segkit.models import build_model
from segkit.serving.folder import SAVED_MODEL_FILE, list_versions

__all__ = ["Target", "find_version", "open_target"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is measured.

    Args:
        predictor: Predicts.
        subject: What it is, in words.
        how: What it looks at, in words.
        device: What it runs on, in words.
        profile: Parameters and MACs, or None where the network is not known.
        remote: The server, if it is one.
    """

    predictor: Predictor
    subject: str
    how: str
    device: str
    profile: Profile | None = None
    remote: EncodingSegmenter | None = None


@contextmanager
def open_target(options: Options, labels: LabelMap) -> Iterator[Target]:
    """Opens what the options name, and closes it.

    Args:
        options: Of `segkit eval`.
        labels: The data set's.

    Raises:
        ConfigError: Its classes are not the data set's, the address has no port, or the
            credentials cannot be used.
        CheckpointError: There is no checkpoint, or it is damaged.
        ExportError: There is no version, or it cannot be loaded here.
        ServerError: The server cannot be asked; the subclass says why.
    """
    if options.checkpoint is not None:
        target = _open_checkpoint(options.checkpoint, options)
        _check_classes(target, labels)
        yield target
    elif options.export is not None:
        version = find_version(options.export)
        variant = find_variant(version, options.engine or AUTO)
        with LocalSegmenter(open_variant(version, variant)) as local:
            contestant = open_contestant(local, variant)
            target = Target(
                predictor=contestant.predictor,
                subject=f"export {version}, {contestant.name}",
                how=_served_size(local.describe()),
                device=contestant.device,
                profile=_profile(local.describe()),
            )
            _check_classes(target, labels)
            yield target
    else:
        assert options.server is not None
        name = options.model_name or "segkit"
        with EncodingSegmenter(options.server, name, credentials=options.credentials) as remote:
            target = Target(
                predictor=SegmenterPredictor(remote),
                subject=f"model '{name}' at {options.server}",
                how=_served_size(remote.describe()),
                device=f"the server {options.server}, with the way there and back",
                profile=_profile(remote.describe()),
                remote=remote,
            )
            _check_classes(target, labels)
            yield target


def find_version(path: Path) -> Path:
    """The version folder that a path means: itself, or the latest of the versions in it.

    Raises:
        ExportError: It is neither.
    """
    if not path.is_dir():
        raise ExportError(
            f"there is no folder '{path}'",
            expected="an exported version, such as exports/segkit/1, or the folder of versions",
            next_step="publish a checkpoint by `python -m segkit export`",
        )
    if any((path / name).is_file() for name in (SAVED_MODEL_FILE, METADATA_FILE)):
        return path
    versions = list_versions(path)
    if not versions:
        raise ExportError(
            f"'{path}' holds no exported version",
            expected=f"a {SAVED_MODEL_FILE} in it, or numbered folders that have one",
            next_step="publish a checkpoint by `python -m segkit export`",
        )
    return versions[max(versions)]


def _open_checkpoint(path: Path, options: Options) -> Target:
    window = options.sliding_window
    passes = Passes(
        scales=tuple(options.multi_scale) or (1.0,),
        flip=options.flip,
        window=window,
        stride=options.stride
        or (window and (max(1, 2 * window[0] // 3), max(1, 2 * window[1] // 3))),
    )
    predictor, model = open_checkpoint(path, image_size=options.image_size, passes=passes)
    return Target(
        predictor=predictor,
        subject=f"checkpoint {path}",
        how=_in_words(passes, predictor.image_size),
        device=tensorflow_device(),
        profile=profile_model(model),
    )


def _check_classes(target: Target, labels: LabelMap) -> None:
    theirs = target.predictor.labels.names
    if theirs != labels.names:
        raise ConfigError(
            f"the classes of the {target.subject} are {', '.join(theirs)}",
            expected=f"those of the data set, in its order: {', '.join(labels.names)}",
            next_step="give the --dataset_dir and --dataset_name that it was trained on",
        )


def _profile(metadata: Metadata) -> Profile | None:
    """Counted on the network that a version says it is, built anew."""
    try:
        num_classes = metadata.labels.num_classes
        model = build_model(metadata.architecture, metadata.image_size, num_classes)
    except ModelError:
        logger.info("'%s' is no network of segkit: nothing is counted", metadata.architecture)
        return None
    return profile_model(model)


def _served_size(metadata: Metadata) -> str:
    height, width = metadata.image_size
    return f"resized to {height}x{width}, class ids resized to the label by nearest"


def _in_words(passes: Passes, image_size: tuple[int, int] | None) -> str:
    if passes.window is not None and passes.stride is not None:
        seen = "windows of {}x{} every {}x{}".format(*passes.window, *passes.stride)
    else:
        assert image_size is not None
        seen = f"resized to {image_size[0]}x{image_size[1]}"
    if passes.scales != (1.0,):
        seen += f", scales {' '.join(f'{scale:g}' for scale in passes.scales)}"
    return seen + (", flipped too" if passes.flip else "")
