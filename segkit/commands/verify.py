"""Says whether two forms of a model answer the same: checkpoint, export of any format, server.

A TARGET is a run folder or a .h5 of its checkpoints/; a version folder or a folder of versions,
with @ENGINE or @ENGINE:PRECISION for another form than its SavedModel; or HOST:PORT of a running
server, with /MODEL for another name than segkit. The exit status is 1 where the second differs
from the first by more than is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from segkit.commands.connection_options import ConnectionOptions
from segkit.commands.json_file import check_json, write_json
from segkit.commands.proof_options import ProofOptions, require_data
from segkit.config import POSITIONAL
from segkit.errors import ConfigError, ExportError

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(ProofOptions, ConnectionOptions):
    """Flags of the comparison."""

    reference: str = field(metadata=POSITIONAL)
    """what the other is held to, a TARGET"""
    candidate: str = field(metadata=POSITIONAL)
    """what is held to it, a TARGET"""
    image_size: tuple[int, int] | None = None
    """height and width that a checkpoint sees; those of the other target by default"""
    json: Path | None = None
    """write the result to this file as JSON too"""
    overwrite: bool = False
    """replace the file of --json if it exists"""

    def __post_init__(self) -> None:
        ProofOptions.__post_init__(self)
        ConnectionOptions.__post_init__(self)
        check_json(self.json, overwrite=self.overwrite)


def run(options: Options) -> None:
    """Compares, prints, and fails where they differ."""
    from contextlib import ExitStack

    from segkit.commands.verify_target import open_targets, parse_target

    targets = [parse_target(text) for text in (options.reference, options.candidate)]
    if options.ca is not None and not any(target.server for target in targets):
        raise ConfigError(
            "--ca is given, but no TARGET is a server", expected="HOST:PORT with it, or neither"
        )
    checkpoints = [target.checkpoint for target in targets if target.checkpoint is not None]
    data = require_data(options, checkpoints[0] if checkpoints else None)

    from segkit.evaluation.proof import prove
    from segkit.evaluation.real_images import read_images

    with ExitStack() as stack:
        reference, candidate = open_targets(
            targets,
            image_size=options.image_size,
            credentials=options.credentials,
            stack=stack,
        )
        images = read_images(data, reference.predictor.labels, limit=options.num_images)
        if images.unscored:
            print(
                f"pixels of {', '.join(images.unscored)} are not scored: the model has no such "
                "class"
            )
        proof = prove(reference, candidate, images, thresholds=options.thresholds)
    print(proof.render(), flush=True)
    if options.json is not None:
        write_json(options.json, proof.to_json())
        print(f"written to {options.json}")
    if proof.failures:
        raise ExportError(
            f"{options.candidate} does not answer as {options.reference} does: "
            + "; ".join(proof.failures),
            expected="answers within --min_agreement and --max_miou_drop",
            next_step="do not roll it out; or allow the difference by these flags",
        )
