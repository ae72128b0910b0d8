"""Turns the authors' PyTorch weights into a checkpoint, tensor by tensor by name and shape.

The file is read without running code in it. What fits nowhere, on either side, is reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.errors import CheckpointError, ConfigError, LabelMapError
from segkit.labels import LabelMap

if TYPE_CHECKING:
    import tensorflow as tf

    from segkit.models.torch_weights import Match

__all__ = ["Options", "run"]

_POSITIONAL = {"positional": True, "custom_args": {"metavar": "CHECKPOINT"}}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the import."""

    checkpoint: Path = field(metadata=_POSITIONAL)
    """the .pth file: a state_dict, or a training checkpoint with one"""
    output: Path
    """the .h5 file to write"""
    model: str = "ddrnet23_slim"
    """the network that the weights belong to"""
    labelmap: Path | None = None
    """names and colours of the classes, a labelmap.txt in class id order; class_0, class_1 and so
    on by default"""
    image_size: tuple[int, int] = (1024, 2048)
    """height and width that an export has unless it is told another"""
    allow_partial: bool = False
    """write what fits though the head lacks weights, to start a training from (ImageNet files)"""
    verbose: bool = False
    """list every tensor that does not fit, instead of one of each module"""
    overwrite: bool = False
    """replace the output if it exists"""

    def __post_init__(self) -> None:
        if self.output.suffix != ".h5":
            raise ConfigError(
                f"--output is '{self.output}'", expected="a file whose name ends in .h5"
            )


def run(options: Options) -> None:
    """Reads, matches, reports and writes."""
    _check_output(options)
    labels = None if options.labelmap is None else _read_labels(options.labelmap)

    from segkit.models import build_model, canonical_name, get_network, torch_weights

    network = canonical_name(options.model)
    if network not in torch_weights.TORCH_NETWORKS:
        raise CheckpointError(
            f"there are no PyTorch weights to import for {network}: its backbone's come from "
            "tf.keras.applications, and PyTorch's of the same name would answer differently, for "
            'they were trained with another padding than Keras\'s "same"',
            expected=f"--model {' or '.join(torch_weights.TORCH_NETWORKS)}",
            next_step="train.py --weights imagenet starts it from Keras's",
        )
    print(f"reading {options.checkpoint}", flush=True)
    tensors = torch_weights.strip_prefixes(torch_weights.load_torch_file(options.checkpoint))
    num_classes, auxiliary = torch_weights.read_head(tensors)
    model = build_model(network, options.image_size, num_classes, auxiliary=auxiliary)
    found = torch_weights.match(model, tensors)
    print(_report(found, every=options.verbose), flush=True)
    torch_weights.check_usable(found, get_network(network), allow_partial=options.allow_partial)
    labels = labels or LabelMap.from_names(f"class_{index}" for index in range(num_classes))
    try:
        if found.complete:
            _check_labels(labels, num_classes, options)
            torch_weights.set_weights(model, found)
            _write_checkpoint(model, options, labels, auxiliary=auxiliary)
        else:
            _write_layers(found, options)
    except OSError as err:
        raise CheckpointError(f"'{options.output}' cannot be written: {err}") from err


def _check_output(options: Options) -> None:
    if options.output.is_dir():
        raise ConfigError(f"--output '{options.output}' is a folder", expected="a file to write")
    if options.output.exists() and not options.overwrite:
        raise CheckpointError(
            f"'{options.output}' exists", next_step="choose another --output, or add --overwrite"
        )


def _check_labels(labels: LabelMap, num_classes: int, options: Options) -> None:
    if labels.num_classes != num_classes:
        raise ConfigError(
            f"--labelmap '{options.labelmap}' has {_count(labels.num_classes)}, the head of "
            f"'{options.checkpoint}' {num_classes}",
            expected="one line for each class of the head, in its order; a background line only "
            "where it has that class",
        )


def _read_labels(path: Path) -> LabelMap:
    try:
        return LabelMap.load(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as err:
        raise LabelMapError(
            f"--labelmap '{path}' cannot be read: {err}",
            expected="text with a line 'name:r,g,b::' for each class, in class id order",
        ) from err


# === Outputs ===


def _write_checkpoint(
    model: tf.keras.Model, options: Options, labels: LabelMap, *, auxiliary: bool
) -> None:
    from segkit.models.checkpoints import CheckpointRecord, save_checkpoint

    record = CheckpointRecord(
        network=model.name,
        image_size=options.image_size,
        labels=labels,
        auxiliary=auxiliary,
        precision="float32",
        epoch=0,
        step=0,
        val_mean_iou=None,
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, record, options.output)
    height, width = options.image_size
    print(
        f"wrote {options.output}: {model.name}, {height}x{width}, "
        f"{_count(labels.num_classes)} ({_some(labels.names)}), "
        f"{'with the' if auxiliary else 'without an'} auxiliary head"
    )
    if options.labelmap is None:
        print("the classes have no names in a PyTorch file: --labelmap FILE gives them theirs")
    print(
        f"next: python -m segkit export --checkpoint {options.output} --data KIND:PATH "
        "(images of the kind that it is for)",
        flush=True,
    )


def _write_layers(found: Match, options: Options) -> None:
    from segkit.models.pretrained import save_layers

    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_layers(found.layers, options.output)
    lacking = sorted({name.partition(".")[0] for name in (*found.missing, *found.wrong_shape)})
    print(
        f"wrote {options.output}: the weights of {len(found.layers)} layers, to train from; "
        "it is no checkpoint that could be exported\n"
        f"training starts {', '.join(lacking)} from random weights"
    )
    if options.labelmap is not None:
        print(f"--labelmap {options.labelmap} was not used: the classes come with the data set")
    print(f"next: python train.py --network ddrnet23_slim --weights {options.output}", flush=True)


def _count(num_classes: int) -> str:
    return "1 class" if num_classes == 1 else f"{num_classes} classes"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]} .. {names[-1]}"


# === The report ===


def _report(found: Match, *, every: bool) -> str:
    """What fits, and what does not by module, so that it can be read at a glance."""
    only_network = {name: f"{shape}" for name, shape in found.missing.items()}
    unlike = {name: f"{a} in the file, {b} here" for name, (a, b) in found.wrong_shape.items()}
    unused = {name: f"{shape}" for name, shape in found.unused.items()}
    tensors = sum(len(weights) for weights in found.layers.values())
    return "\n".join(
        [
            f"{tensors} tensors fit, of {len(found.layers)} layers",
            *_section("of another shape", unlike, every=every),
            *_section("only in the network", only_network, every=every),
            *_section("only in the file, not used", unused, every=every),
        ]
        + [f"{len(found.passed_over)} counters and weights of the loss passed over"]
        * bool(found.passed_over)
    )


def _section(title: str, shapes: Mapping[str, str], *, every: bool) -> list[str]:
    if not shapes:
        return []
    modules: dict[str, list[str]] = defaultdict(list)
    for name, shape in shapes.items():
        modules[name.partition(".")[0]].append(f"{name} {shape}")
    lines = [f"{title}: {len(shapes)}"]
    for module, tensors in modules.items():
        if every:
            lines += [f"  {tensor}" for tensor in tensors]
        else:
            more = " ..." if len(tensors) > 1 else ""
            lines.append(f"  {module:<16}{len(tensors):>4}  {tensors[0]}{more}")
    return lines
