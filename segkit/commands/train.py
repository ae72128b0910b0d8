"""Trains a network on a full_semantic data set, or exports a checkpoint with --saved_model.

The run folder holds the resolved options, results.csv, TensorBoard logs and the checkpoints.
"""

from __future__ import annotations

import atexit
import io
import shutil
import sys
import tempfile
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segkit.commands import export
from segkit.commands.resume import check_resumed
from segkit.config import AS_YAML, RUN_FOLDER
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.runs import Run
    from segkit.training.fit import Outcome, Plan

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of the training."""

    network: str = "ddrnet23_slim"
    """the network to train: ddrnet23_slim, efficientnetv2s_deeplabv3plus,
    efficientnetv2s_deeplabv3plus_light or mobilenetv3_deeplabv3plus"""
    weights: str = "none"
    """what to start from: none (random weights), imagenet (the backbone's, from Keras), or a file:
    a checkpoint, what import-torch wrote, or a weights file of tf.keras.applications"""
    aspp_rates: list[int] = field(default_factory=list)
    """dilation rates of ASPP; 6 12 18 for images of 512 pixels or more, else 3 6 9, by default"""
    dataset_dir: Path | None = None
    """where `tfds build` wrote the data set; TFDS's own folder by default"""
    dataset_name: str = "full_semantic"
    """name of the data set"""
    check_data: bool = True
    """look for faults of the data set before training, once for each state of it"""
    num_classes: int | None = None
    """number of classes, with the background; must be the data set's, which is the default"""
    image_size: tuple[int, int] = (480, 640)
    """height and width that validation and the served model see"""
    crop_size: tuple[int, int] | None = None
    """height and width of the train images, cut out of images at --image_size times the scale;
    --image_size by default"""
    batch_size: int = 8
    """images a step on each replica"""
    epoch: int = 100
    """number of epochs"""
    lr: float = 0.001
    """learning rate of one replica; multiplied by the number of replicas (linear rule)"""
    warmup_epochs: float = 1.0
    """epochs of linear warm-up, before the decay"""
    lr_schedule: Literal["polynomial", "cosine", "step", "constant"] = "polynomial"
    """how the learning rate decays by step: polynomial (power 0.9), cosine, step (to a tenth at 60
    and at 85 % of the training), constant"""
    optimizer: Literal["sgd", "adam", "adamw", "radam", "ranger"] = "adamw"
    """sgd has momentum 0.9; radam is RectifiedAdam, ranger is Lookahead over it"""
    weight_decay: float = 0.0005
    """decoupled weight decay of all but adam, without normalisation and biases"""
    use_weightDecay: bool = True
    """false turns weight decay off"""
    backbone_lr_factor: float = 1.0
    """the backbone's learning rate is this times that of the head"""
    clip_norm: float = 0.0
    """gradients longer than this, over all weights, are shortened to it; 0 leaves them"""
    ema_decay: float = 0.0
    """decay by step of an average of the weights, which is then evaluated and saved in their stead
    (0.999 for some thousand steps); 0 for none"""
    loss: list[Any] = field(default_factory=lambda: ["cross_entropy"], metadata=AS_YAML)
    """losses, added up: names, or 'name: {parameter: value}', as in docs/losses.md:
    cross_entropy, focal, binary_cross_entropy, binary_focal, ohem, dice, lovasz"""
    class_weights: str = "none"
    """how much a pixel of each class counts: none (all alike), median (median frequency), enet
    (1 / ln(1.02 + share)), or a YAML file of 'class name: weight'"""
    boundary_weight: float = 1.0
    """by how much more a pixel near a boundary of two classes counts"""
    boundary_radius: int = 2
    """how near that is, in pixels"""
    auxiliary_weight: float = 0.4
    """weight of the auxiliary head's loss, where the network has one"""
    mixed_precision: bool = True
    """float16 on a GPU, bfloat16 on a CPU that computes in it, else float32"""
    augmentation: list[Any] = field(default_factory=lambda: ["default"], metadata=AS_YAML)
    """transforms of the train images, in turn: names, or 'name: {parameter: value}', as in
    docs/transforms.md; default is random_scale_crop random_flip photometric_distortion, none
    changes nothing"""
    min_scale: float | None = None
    """smallest scale of crops, unless the augmentation says so itself; 1 is the whole image at
    image_size; 0.5 by default"""
    max_scale: float | None = None
    """largest scale of crops, unless the augmentation says so itself; 2 by default"""
    cache: Literal["auto", "memory", "disk", "none"] = "auto"
    """where decoded images are kept; auto: in memory if they take no more than half of what is
    free, else on disk if it is so there, else nowhere"""
    cache_dir: Path | None = None
    """folder of caches on disk; by default cache, beside the versions of the data set"""
    deterministic: bool = True
    """false lets an image that is ready overtake one that is not; the seed then repeats nothing"""
    gpu_num: int = 0
    """the GPU to train on"""
    multi_gpu: bool = False
    """train on all visible GPUs"""
    cluster: Literal["auto", "tf_config", "slurm", "none"] = "auto"
    """where the other machines of this training are written: tf_config (the environment variable
    TF_CONFIG), slurm (the tasks of srun), none (train alone), or auto: whichever of these is there;
    see docs/scale.md"""
    sync_batch_norm: bool = True
    """with more than one replica, batch normalisation takes mean and variance over all of them"""
    patience: int = 0
    """epochs without a better val mean_iou after which training ends; 0 for never"""
    resume: Path | None = field(default=None, metadata=RUN_FOLDER)
    """the folder of a run that was interrupted, to go on with; its own flags count, except those
    given here"""
    save_minutes: float = 10.0
    """minutes after which what --resume needs is saved within an epoch; it always is after one"""
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """bar: a line within the epoch that is drawn anew, and one for each epoch; lines: these alone;
    none: start and end alone; auto: a bar on a terminal, else lines"""
    notify: Literal["none", "webhook", "telegram"] = "none"
    """where to tell of start, end and failure: webhook posts to $SEGKIT_WEBHOOK_URL, telegram sends
    as the bot of $SEGKIT_TELEGRAM_TOKEN to $SEGKIT_TELEGRAM_CHAT_ID"""
    seed: int = 1
    """of weights, order and augmentation"""
    checkpoint_dir: Path = Path("checkpoints")
    """where run folders go"""
    model_name: str = ""
    """folder of the run under checkpoint_dir; month and day, MMDD, by default"""
    model_prefix: str = "run"
    """first part of the run folder's name; a free number is appended"""
    tensorboard_dir: Path | None = None
    """where TensorBoard logs go; into the run folder by default"""
    saved_model: bool = False
    """export --saved_model_path instead of training"""
    saved_model_path: Path | None = None
    """the checkpoint or run folder to export"""

    def __post_init__(self) -> None:
        for flag in ("batch_size", "epoch"):
            if getattr(self, flag) < 1:
                raise ConfigError(f"--{flag} is {getattr(self, flag)}", expected="1 or more")
        for flag, least in (
            ("boundary_weight", 0),
            ("boundary_radius", 1),
            ("auxiliary_weight", 0),
            ("backbone_lr_factor", 0),
            ("clip_norm", 0),
            ("patience", 0),
            ("save_minutes", 0),
        ):
            if not getattr(self, flag) >= least:
                raise ConfigError(f"--{flag} is {getattr(self, flag)}", expected=f"{least} or more")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(
                f"--ema_decay is {self.ema_decay}", expected="0 for none, or below 1, as 0.999"
            )
        if not self.lr > 0:
            raise ConfigError(f"--lr is {self.lr}", expected="a number above 0")
        if self.saved_model and self.saved_model_path is None:
            raise ConfigError(
                "--saved_model without --saved_model_path",
                expected="--saved_model_path RUN_FOLDER or CHECKPOINT.h5",
            )


def run(options: Options) -> None:
    """Trains or exports."""
    if options.saved_model and options.saved_model_path is not None:
        base_path = options.checkpoint_dir / "export_path"
        data = None  # that of the run
        if options.dataset_dir is not None:
            data = f"full_semantic:{options.dataset_dir / options.dataset_name}"
        export.publish_and_report(
            export.Options(
                checkpoint=options.saved_model_path, model_base_path=base_path, data=data
            )
        )
        return
    _train(options)


def _train(options: Options) -> None:
    from segkit.commands.train_setup import set_up
    from segkit.training.cluster import find_cluster
    from segkit.training.fit import fit
    from segkit.training.notify import make_notifier
    from segkit.training.progress import Progress
    from segkit.training.strategy import telling_of_lost_workers

    # === Everything that a user can have got wrong, before a run folder is made ===
    if options.resume is not None:
        check_resumed(sys.modules[__name__], options, options.resume)
    cluster = find_cluster(options.cluster)
    chief = cluster is None or cluster.is_chief
    notifier = make_notifier(options.notify if chief else "none")
    # The chief alone speaks, and writes the run folder: the others write one that nobody keeps.
    progress = Progress(options.progress, stream=None if chief else io.StringIO())
    scratch = None if chief else _scratch_folder(options)
    with telling_of_lost_workers(cluster):
        setup = set_up(options, cluster=cluster, say=progress.say)
    plan = setup.plan

    run = scratch or _run_folder(options)
    progress.say(f"run folder {run.path}\n{setup.summary}")
    notifier.send(f"{run.path}: training of {plan.network} begins, {plan.epochs} epochs")

    # === Training ===
    try:
        with telling_of_lost_workers(cluster):
            outcome = fit(
                plan,
                setup.model,
                make_optimizer=setup.make_optimizer,
                batches=setup.batches,
                run=run,
                report=progress.epoch,
                on_step=lambda standing: progress.step(plan, standing),
            )
    except BaseException as err:
        notifier.send(f"{run.path}: training failed: {type(err).__name__}: {err}")
        raise
    else:
        end, status = _end(run, plan, outcome)
        progress.say(end)
        notifier.send(f"{run.path}: {end}")
        if status:
            raise SystemExit(status)
    finally:
        progress.close()
        notifier.close()


def _run_folder(options: Options) -> Run:
    """A new one, or the one to go on with."""
    from segkit.runs import Run

    if options.resume is None:
        return Run.create(
            options.checkpoint_dir / (options.model_name or date.today().strftime("%m%d")),
            options.model_prefix,
            options,
            tensorboard=options.tensorboard_dir,
        )
    run = Run(options.resume, tensorboard=options.tensorboard_dir)
    run.note(replace(options, resume=None))
    return run


def _scratch_folder(options: Options) -> Run:
    """Where a worker that is not the chief writes, with the state to go on from; gone at exit."""
    from segkit.runs import Run

    folder = Path(tempfile.mkdtemp(prefix="segkit-worker-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    run = Run(folder)
    run.best.parent.mkdir()
    # Copied before the workers meet: until then the chief writes nothing.
    if options.resume is not None and (state := Run(options.resume).state).is_dir():
        shutil.copytree(state, run.state)
    return run


def _end(run: Run, plan: Plan, outcome: Outcome) -> tuple[str, int]:
    """What is said at the end, and the exit status."""
    standing = outcome.standing
    epoch = standing.step // plan.steps_per_epoch
    if outcome.signal and not plan.is_over(standing):
        return (
            f"stopped after step {standing.step:,} of {plan.epochs * plan.steps_per_epoch:,}, "
            f"all saved; go on: python train.py --resume {run.path}",
            128 + outcome.signal,
        )
    lines = []
    if epoch < plan.epochs:
        lines += [
            f"no better val mean_iou for {plan.patience} epochs: ended after epoch {epoch}",
            f"go on all the same: python train.py --resume {run.path} --patience 0",
        ]
    matrix = outcome.matrix
    names = zip(plan.labels.names, matrix.class_iou, strict=True)
    lines += [f"  {name:<20} IoU {iou:.3f}" for name, iou in names]
    lines += [
        f"best val mean_iou {matrix.mean_iou:.3f} after epoch {standing.best_epoch} of {epoch} "
        f"(classes in neither truth nor prediction left out), in {run.best}",
        f"export it: python train.py --saved_model --saved_model_path {run.path}",
    ]
    return "\n".join(lines), 0
