"""Who segments: the model server, or servers, of --server, or the model of --model."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.commands.connection_options import ConnectionOptions
from segkit.contract import DEFAULT_MODEL_NAME
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.client import RemoteSegmenter, WireFormat
    from segkit.client.pool import PooledSegmenter
    from segkit.contract import Metadata
    from segkit.video.frame import Image

__all__ = ["Model", "ModelOptions", "open_model"]

AUTO = "auto"
DEFAULT_SERVER = "127.0.0.1:8500"


@dataclass(frozen=True, kw_only=True)
class ModelOptions(ConnectionOptions):
    """Flags that say who segments."""

    server: str | None = None
    """host:port of the model server's gRPC port; several with commas share the frames"""
    model: Path | None = None
    """an export or a checkpoint to run in this process, in place of a server"""
    engine: str = AUTO
    """of an export by --model: what runs it, the fastest form by default"""
    model_name: str = DEFAULT_MODEL_NAME
    """name that the model is served under"""
    label: str | None = None
    """label of the version to ask, as stable; the newest version by default"""
    wire: str = "raw"
    """how images travel: raw, jpeg:QUALITY, or auto, which tries both for a second"""
    wait: float = 30.0
    """seconds to wait for a server that is not ready"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is not None:
            for name in ("server", "label", "ca"):
                if getattr(self, name) is not None:
                    raise ConfigError(
                        f"--model and --{name} are both given",
                        expected="--model for this process, or --server and what belongs to it",
                    )
        if self.wait < 0:
            raise ConfigError(f"--wait is {self.wait}", expected="0 or more seconds")
        if self.wire != AUTO:
            from segkit.client.wire_format import WireFormat

            WireFormat.parse(self.wire)

    @property
    def servers(self) -> list[str]:
        """The addresses of --server."""
        return (self.server or DEFAULT_SERVER).split(",")


@dataclass(frozen=True)
class Model:
    """An opened model.

    Args:
        segmenter: Segments.
        metadata: What the model says of itself.
        name: What to call it, with where it is.
        notes: What was found out on the way, for the user.
    """

    segmenter: Any
    metadata: Metadata
    name: str
    notes: list[str] = field(default_factory=list)


def open_model(
    options: ModelOptions, stack: ExitStack, *, first_image: Image, confidence: bool
) -> Model:
    """Opens the model, waiting for its server.

    Args:
        options: Which.
        stack: Closes it.
        first_image: A frame of the source, to try the wire with.
        confidence: Whether the confidence is wanted, too.

    Raises:
        ServerError: The server cannot be asked; the subclass says why.
        ExportError: The export cannot be loaded here.
        CheckpointError: There is no checkpoint, or it is damaged.
    """
    if options.model is not None:
        return _open_local(options, options.model, stack, confidence=confidence)
    from segkit.client import RemoteSegmenter, WireFormat
    from segkit.client.pool import PooledSegmenter
    from segkit.client.waiting import wait_for_server
    from segkit.client.wire_choice import choose_wire

    make = partial(
        RemoteSegmenter,
        model_name=options.model_name,
        label=options.label,
        credentials=options.credentials,
        confidence=confidence,
    )
    notes = []

    def open_all(wire: WireFormat) -> PooledSegmenter | RemoteSegmenter:
        members = [make(server, wire=wire) for server in options.servers]
        if len(members) == 1:
            return stack.enter_context(members[0])
        return stack.enter_context(PooledSegmenter(members))

    raw = WireFormat()
    segmenter = open_all(raw if options.wire == AUTO else WireFormat.parse(options.wire))
    metadata = wait_for_server(segmenter, options.wait, _say_waiting)
    if options.wire == AUTO and not confidence:
        wire, reason = choose_wire(
            lambda wire: segmenter if wire == raw else open_all(wire), first_image
        )
        notes.append(f"wire {reason}")
        segmenter = segmenter if wire == raw else open_all(wire)
    where = ", ".join(options.servers)
    return Model(segmenter, metadata, f"{options.model_name} at {where}", notes)


def _open_local(options: ModelOptions, path: Path, stack: ExitStack, *, confidence: bool) -> Model:
    from segkit.client import LocalSegmenter
    from segkit.runs import is_checkpoint

    print(f"loading {path}", flush=True)
    if is_checkpoint(path):
        from segkit.export.checkpoint_engine import CheckpointEngine

        local = LocalSegmenter(CheckpointEngine(path), confidence=confidence)
    else:
        from segkit.commands.eval_target import find_version

        version = find_version(path)
        local = LocalSegmenter.open(version, options.engine, confidence=confidence)
    segmenter = stack.enter_context(local)
    return Model(segmenter, segmenter.describe(), str(path))


def _say_waiting(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
