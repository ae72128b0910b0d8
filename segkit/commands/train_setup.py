"""From the flags of train.py to what fit() takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from segkit.commands import check_data
from segkit.commands.train import Options
from segkit.data import pipeline
from segkit.data.cache import open_examples
from segkit.data.full_semantic import FullSemantic, open_dataset
from segkit.data.recipe import make_augmentation
from segkit.data.transforms import Transform
from segkit.errors import ConfigError
from segkit.models import NETWORKS, build_model, canonical_name, resolve_aspp_rates
from segkit.training import class_weights
from segkit.training.cluster import Cluster
from segkit.training.fit import Batches, Plan
from segkit.training.objective import Objective, make_loss
from segkit.training.optimizers import by_part, make_optimizer
from segkit.training.schedules import WarmupDecay
from segkit.training.strategy import choose_precision, make_strategy, synchronize_batch_norm

__all__ = ["Setup", "set_up"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What fit() takes, and what to say about it.

    Args:
        plan: What to train.
        model: Its network at the size of the train images.
        make_optimizer: Called in the scope of the strategy.
        batches: What to train and to validate on.
        summary: All of that, for people.
    """

    plan: Plan
    model: tf.keras.Model
    make_optimizer: Callable[[], Any]
    batches: Batches
    summary: str


def set_up(
    options: Options, *, cluster: Cluster | None = None, say: Callable[[str], None]
) -> Setup:
    """Checks the flags and makes what they ask for.

    Args:
        options: The flags.
        cluster: Processes to train with.
        say: Takes lines for people.

    Raises:
        SegkitError: A flag says something impossible, or the data set is not there or has faults.
    """
    # === What the flags alone decide ===
    network = canonical_name(options.network)
    crop_size = options.crop_size or options.image_size
    aspp_rates = resolve_aspp_rates(network, crop_size, options.aspp_rates)
    augmentation = make_augmentation(
        options.augmentation,
        options.image_size,
        crop_size=crop_size,
        min_scale=options.min_scale,
        max_scale=options.max_scale,
    )
    loss = make_loss(options.loss)

    # === Devices ===
    # Workers meet before TensorFlow computes anything, as reading a data set makes it do.
    strategy = make_strategy(multi_gpu=options.multi_gpu, gpu_num=options.gpu_num, cluster=cluster)

    # === Data set ===
    dataset = open_dataset(options.dataset_dir, options.dataset_name)
    _check_dataset(dataset, options)
    if options.check_data and (cluster is None or cluster.is_chief):
        check_data.check_before_training(dataset)
    weights = _class_weights(dataset, options.class_weights, say=say)

    # === Model ===
    precision = choose_precision(mixed=options.mixed_precision)
    tf.keras.utils.set_random_seed(options.seed)
    with strategy.scope():
        model = build_model(
            network,
            crop_size,
            dataset.labels.num_classes,
            auxiliary=True,
            weights="none" if options.resume else options.weights,
            aspp_rates=aspp_rates,
        )
    if options.sync_batch_norm and strategy.num_replicas_in_sync > 1:
        synchronize_batch_norm(model)

    # === Plan ===
    global_batch_size = options.batch_size * strategy.num_replicas_in_sync
    plan = Plan(
        network=network,
        image_size=options.image_size,
        aspp_rates=aspp_rates,
        labels=dataset.labels,
        epochs=options.epoch,
        steps_per_epoch=max(1, dataset.num_examples("train") // global_batch_size),
        global_batch_size=global_batch_size,
        precision=precision,
        strategy=strategy,
        objective=Objective(
            loss=loss,
            class_weights=weights,
            boundary_weight=options.boundary_weight,
            boundary_radius=options.boundary_radius,
            auxiliary_weight=options.auxiliary_weight,
        ),
        clip_norm=options.clip_norm,
        ema_decay=options.ema_decay,
        patience=options.patience,
        state_seconds=60.0 * options.save_minutes,
    )
    optimizer = _optimizer_of(options, plan)
    return Setup(
        plan=plan,
        model=model,
        make_optimizer=lambda: by_part(optimizer, model, backbone=options.backbone_lr_factor),
        batches=_batches(
            dataset, options, plan, augmentation=augmentation, cluster=cluster, say=say
        ),
        summary=_summary(dataset, options, plan, augmentation=augmentation),
    )


def _optimizer_of(options: Options, plan: Plan) -> Callable[[float], Any]:
    """Makes an optimizer whose learning rate is times a factor."""

    def make(factor: float) -> Any:
        schedule = WarmupDecay(
            options.lr * plan.strategy.num_replicas_in_sync * factor,
            options.lr_schedule,
            total_steps=plan.steps_per_epoch * plan.epochs,
            warmup_steps=round(plan.steps_per_epoch * options.warmup_epochs),
        )
        decay = options.weight_decay if options.use_weightDecay else 0.0
        return make_optimizer(options.optimizer, schedule, weight_decay=decay)

    return make


def _batches(
    dataset: FullSemantic,
    options: Options,
    plan: Plan,
    *,
    augmentation: tuple[Transform, ...],
    cluster: Cluster | None,
    say: Callable[[str], None],
) -> Batches:
    train, val = open_examples(
        dataset, ("train", "val"), cache=options.cache, cache_dir=options.cache_dir, report=say
    )
    size, seed = plan.global_batch_size, options.seed
    return Batches(
        train=lambda step: pipeline.train_batches(
            train,
            image_size=options.crop_size or options.image_size,
            batch_size=size,
            augmentation=augmentation,
            seed=seed,
            deterministic=options.deterministic,
            first_step=step,
            share=(0, 1) if cluster is None else (cluster.index, len(cluster.addresses)),
        ),
        val=pipeline.val_batches(val.in_order(), image_size=options.image_size, batch_size=size),
        stems=lambda step: pipeline.batch_stems(train, batch_size=size, seed=seed, step=step),
    )


def _summary(
    dataset: FullSemantic, options: Options, plan: Plan, *, augmentation: tuple[Transform, ...]
) -> str:
    replicas = plan.strategy.num_replicas_in_sync
    height, width = plan.image_size
    crops = ""
    if options.crop_size is not None:
        crops = f" in crops of {options.crop_size[0]}x{options.crop_size[1]}"
    return (
        f"{dataset.num_examples('train'):,} train and {dataset.num_examples('val'):,} val images, "
        f"{plan.labels.num_classes} classes: {', '.join(plan.labels.names)}\n"
        f"{plan.network} at {height}x{width}{crops}, {plan.precision}, {options.optimizer}, "
        f"{_start(plan.network, options)}\n"
        f"augmentation {', '.join(type(step).__name__ for step in augmentation) or 'none'}\n"
        f"{replicas} replica{'s' * (replicas > 1)} x batch {options.batch_size} = global batch "
        f"{plan.global_batch_size}; learning rate {options.lr * replicas:.3g} "
        f"(linear rule, base {options.lr:.3g})"
    )


def _class_weights(
    dataset: FullSemantic, choice: str, *, say: Callable[[str], None]
) -> tuple[float, ...] | None:
    if choice == "none":
        return None
    if choice in ("median", "enet"):
        masks = (example["mask"].numpy() for example in dataset.examples("train"))
        counts = class_weights.count_classes(masks, dataset.labels.num_classes)
        rule = (
            class_weights.enet_weights
            if choice == "enet"
            else class_weights.median_frequency_weights
        )
        found = rule(counts)
    else:
        found = class_weights.read_weights(Path(choice), dataset.labels)
    pairs = zip(dataset.labels.names, found, strict=True)
    say("class weights: " + ", ".join(f"{name} {weight:.3g}" for name, weight in pairs))
    return tuple(found.tolist())


def _start(network: str, options: Options) -> str:
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
