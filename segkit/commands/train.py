"""Trains a network on a full_semantic data set, or exports a checkpoint with --saved_model.

The run folder holds the resolved options, results.csv, TensorBoard logs and the checkpoints.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segkit.commands import check_data, export
from segkit.commands.resume import check_resumed
from segkit.config import AS_YAML, RUN_FOLDER
from segkit.errors import ConfigError

if TYPE_CHECKING:
    from segkit.data.full_semantic import FullSemantic
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
    patience: int = 0
    """epochs without a better val mean_iou after which training ends; 0 for never"""
    resume: Path | None = field(default=None, metadata=RUN_FOLDER)
    """the folder of a run that was interrupted, to go on with; its own flags count, except those
    given here"""
    save_minutes: float = 10.0
    """minutes after which what --resume needs is saved within an epoch; it always is after one"""
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
        export.publish_and_report(
            export.Options(checkpoint=options.saved_model_path, model_base_path=base_path)
        )
        return
    _train(options)


def _train(options: Options) -> None:
    import tensorflow as tf

    from segkit.data import pipeline
    from segkit.data.cache import open_examples
    from segkit.data.full_semantic import open_dataset
    from segkit.data.recipe import make_augmentation
    from segkit.models import build_model, canonical_name, resolve_aspp_rates
    from segkit.training.fit import Batches, Plan, fit
    from segkit.training.objective import Objective, make_loss
    from segkit.training.optimizers import by_part, make_optimizer
    from segkit.training.schedules import WarmupDecay
    from segkit.training.strategy import choose_precision, make_strategy

    # === Everything that a user can have got wrong, before a run folder is made ===
    if options.resume is not None:
        check_resumed(sys.modules[__name__], options, options.resume)
    network = canonical_name(options.network)
    crop_size = options.crop_size or options.image_size
    augmentation = make_augmentation(
        options.augmentation,
        options.image_size,
        crop_size=crop_size,
        min_scale=options.min_scale,
        max_scale=options.max_scale,
    )
    dataset = open_dataset(options.dataset_dir, options.dataset_name)
    _check_dataset(dataset, options)
    if options.check_data:
        check_data.check_before_training(dataset)
    objective = Objective(
        loss=make_loss(options.loss),
        class_weights=_class_weights(dataset, options.class_weights),
        boundary_weight=options.boundary_weight,
        boundary_radius=options.boundary_radius,
        auxiliary_weight=options.auxiliary_weight,
    )
    strategy = make_strategy(multi_gpu=options.multi_gpu, gpu_num=options.gpu_num)
    precision = choose_precision(mixed=options.mixed_precision)
    tf.keras.utils.set_random_seed(options.seed)
    aspp_rates = resolve_aspp_rates(network, crop_size, options.aspp_rates)
    with strategy.scope():
        model = build_model(
            network,
            crop_size,
            dataset.labels.num_classes,
            auxiliary=True,
            weights="none" if options.resume else options.weights,
            aspp_rates=aspp_rates,
        )
    train, val = open_examples(
        dataset,
        ("train", "val"),
        cache=options.cache,
        cache_dir=options.cache_dir,
        report=lambda line: print(line, flush=True),
    )

    # === Plan ===
    replicas = strategy.num_replicas_in_sync
    global_batch_size = options.batch_size * replicas
    steps_per_epoch = max(1, dataset.num_examples("train") // global_batch_size)
    peak = options.lr * replicas
    plan = Plan(
        network=network,
        image_size=options.image_size,
        aspp_rates=aspp_rates,
        labels=dataset.labels,
        epochs=options.epoch,
        steps_per_epoch=steps_per_epoch,
        global_batch_size=global_batch_size,
        precision=precision,
        strategy=strategy,
        objective=objective,
        clip_norm=options.clip_norm,
        ema_decay=options.ema_decay,
        patience=options.patience,
        state_seconds=60.0 * options.save_minutes,
    )

    def optimizer_at(factor: float) -> Any:
        schedule = WarmupDecay(
            peak * factor,
            options.lr_schedule,
            total_steps=steps_per_epoch * options.epoch,
            warmup_steps=round(steps_per_epoch * options.warmup_epochs),
        )
        decay = options.weight_decay if options.use_weightDecay else 0.0
        return make_optimizer(options.optimizer, schedule, weight_decay=decay)

    order = {"batch_size": global_batch_size, "seed": options.seed}
    batches = Batches(
        train=lambda step: pipeline.train_batches(
            train,
            image_size=crop_size,
            augmentation=augmentation,
            deterministic=options.deterministic,
            first_step=step,
            **order,
        ),
        val=pipeline.val_batches(
            val.in_order(), image_size=options.image_size, batch_size=global_batch_size
        ),
        stems=lambda step: pipeline.batch_stems(train, step=step, **order),
    )
    run_folder = _run_folder(options)
    print(
        f"run folder {run_folder.path}\n"
        f"{dataset.num_examples('train'):,} train and {dataset.num_examples('val'):,} val images, "
        f"{dataset.labels.num_classes} classes: {', '.join(dataset.labels.names)}\n"
        f"{network} at {options.image_size[0]}x{options.image_size[1]}, {precision}, "
        f"{options.optimizer}, {_start(network, options)}\n"
        f"augmentation {', '.join(type(step).__name__ for step in augmentation) or 'none'}\n"
        f"{replicas} replica{'s' * (replicas > 1)} x batch {options.batch_size} = global batch "
        f"{global_batch_size}; learning rate {peak:.3g} (linear rule, base {options.lr:.3g})",
        flush=True,
    )

    # === Training ===
    outcome = fit(
        plan,
        model,
        make_optimizer=lambda: by_part(optimizer_at, model, backbone=options.backbone_lr_factor),
        batches=batches,
        run=run_folder,
        report=lambda line: print(line, flush=True),
    )
    if outcome.signal and not plan.is_over(outcome.standing):
        print(
            f"stopped after step {outcome.standing.step:,} of {plan.epochs * steps_per_epoch:,}, "
            f"all saved; go on: python train.py --resume {run_folder.path}",
            flush=True,
        )
        raise SystemExit(128 + outcome.signal)
    _print_end(run_folder, plan, outcome)


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


def _print_end(run: Run, plan: Plan, outcome: Outcome) -> None:
    standing = outcome.standing
    epoch = standing.step // plan.steps_per_epoch
    if epoch < plan.epochs:
        print(
            f"no better val mean_iou for {plan.patience} epochs: ended after epoch {epoch}; "
            f"--resume {run.path} --patience 0 goes on"
        )
    matrix = outcome.matrix
    for name, iou in zip(plan.labels.names, matrix.class_iou, strict=True):
        print(f"  {name:<20} IoU {iou:.3f}")
    print(
        f"best val mean_iou {matrix.mean_iou:.3f} after epoch {standing.best_epoch} of {epoch} "
        f"(classes in neither truth nor prediction left out), in {run.best}\n"
        f"export it: python train.py --saved_model --saved_model_path {run.path}"
    )


def _class_weights(dataset: FullSemantic, choice: str) -> tuple[float, ...] | None:
    from segkit.training import class_weights as weights

    if choice == "none":
        return None
    if choice in ("median", "enet"):
        masks = (example["mask"].numpy() for example in dataset.examples("train"))
        counts = weights.count_classes(masks, dataset.labels.num_classes)
        rule = weights.enet_weights if choice == "enet" else weights.median_frequency_weights
        found = rule(counts)
    else:
        found = weights.read_weights(Path(choice), dataset.labels)
    pairs = zip(dataset.labels.names, found, strict=True)
    print("class weights: " + ", ".join(f"{name} {weight:.3g}" for name, weight in pairs))
    return tuple(found.tolist())


def _start(network: str, options: Options) -> str:
    from segkit.models import NETWORKS

    if options.resume is not None:
        return "going on with the run"
    if options.weights != "none":
        return f"from the weights {options.weights}"
    if NETWORKS[network].backbone is None:
        return "from random weights"
    return "from random weights (--weights imagenet starts the backbone from ImageNet's)"


def _check_dataset(dataset: FullSemantic, options: Options) -> None:
    num_classes = dataset.labels.num_classes
    if options.num_classes not in (None, num_classes):
        raise ConfigError(
            f"--num_classes is {options.num_classes}, but the data set has {num_classes} classes",
            expected=f"{num_classes}: {', '.join(dataset.labels.names)}",
            next_step="leave --num_classes out",
        )
    for split in ("train", "val"):
        if not dataset.num_examples(split):
            raise ConfigError(
                f"the data set has no {split} images",
                expected="at least one image in each of train and val",
                next_step="pack it again with `python -m segkit prepare --val_share 0.1`",
            )
