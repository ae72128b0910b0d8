"""Where training runs and in which precision."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tensorflow as tf

from segkit.engines.cpu import computes_bfloat16
from segkit.errors import ConfigError, SegkitError
from segkit.training.cluster import Cluster
from segkit.training.rendezvous import meet

__all__ = [
    "any_worker",
    "choose_precision",
    "make_strategy",
    "synchronize_batch_norm",
    "telling_of_lost_workers",
]

logger = logging.getLogger(__name__)


def make_strategy(
    *, multi_gpu: bool, gpu_num: int, cluster: Cluster | None = None
) -> tf.distribute.Strategy:
    """Chooses the devices; with a cluster, it must come before any op of TensorFlow.

    Args:
        multi_gpu: Mirror the model over every visible GPU.
        gpu_num: The GPU to use otherwise, counted from 0; ignored where there is none.
        cluster: Processes to train with; each uses every GPU that it sees.

    Raises:
        ConfigError: There is no GPU of that number, or a worker does not come or has another
            number of GPUs.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    # TensorFlow reads it too, in its own way, even for the GPUs of one machine.
    os.environ.pop("TF_CONFIG", None)
    if cluster is not None:
        return _join(cluster, num_gpus=len(gpus))
    if not gpus:
        logical = tf.config.list_logical_devices("CPU")
        if multi_gpu and len(logical) > 1:
            return tf.distribute.MirroredStrategy([device.name for device in logical])
        logger.info("no GPU found: training on the CPU")
        return tf.distribute.get_strategy()
    if multi_gpu:
        if len(gpus) == 1:
            logger.info("--multi_gpu: only one GPU is visible; going on with it")
        return tf.distribute.MirroredStrategy()
    if not 0 <= gpu_num < len(gpus):
        raise ConfigError(
            f"--gpu_num {gpu_num}: there is no such GPU",
            expected=f"0 to {len(gpus) - 1}; TensorFlow sees {len(gpus)}",
        )
    return tf.distribute.OneDeviceStrategy(f"/gpu:{gpu_num}")


def _join(cluster: Cluster, *, num_gpus: int) -> tf.distribute.Strategy:
    """Connects this worker with all others."""
    meet(cluster, {"GPUs": num_gpus, "TensorFlow": tf.__version__})
    # The task is told in full, whatever TF_CONFIG says: a chief is the first of the workers.
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": num_gpus},
        rpc_layer="grpc",
    )
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.NCCL if num_gpus else kinds.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(resolver, options)


def any_worker(strategy: tf.distribute.Strategy) -> Callable[[bool], bool]:
    """A question that all workers ask together: it is true on all if it is true on one.

    What one worker alone decides, by its clock or a signal, leaves the others waiting for ever.
    """
    if strategy.cluster_resolver is None:  # there are no others
        return bool

    @tf.function
    def votes(vote: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(tf.identity, args=(vote,)), axis=None)

    return lambda asked: float(votes(tf.constant(float(asked)))) > 0


@contextmanager
def telling_of_lost_workers(cluster: Cluster | None) -> Iterator[None]:
    """Within it, what TensorFlow raises when another worker is gone becomes a message.

    Raises:
        SegkitError: Another worker is gone.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as err:
        if cluster is None:
            raise
        # What is indented is where the op was made.
        stack = (" ", "\t", "Graph execution error", "Detected at node")
        lines = [line for line in str(err.message).splitlines() if not line.startswith(stack)]
        reason = " ".join(" ".join(lines).split())
        raise SegkitError(
            f"another of the {len(cluster.addresses)} workers is gone, and none can go on alone: "
            f"{reason[:300]}",
            expected="all of them from the first step to the last",
            next_step="see what the others said, end them all, and start them all with --resume "
            "and the run folder",
        ) from err


def synchronize_batch_norm(model: tf.keras.Model) -> None:
    """Lets batch normalisation take mean and variance over all replicas.

    For a model that was just built, before its first step. Weights and their names stay, and so
    does what it computes outside of training.
    """
    for layer in model.submodules:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.fused, layer.synchronized = False, True


def choose_precision(*, mixed: bool) -> str:
    """Sets Keras's global policy and returns its name.

    float16 on a GPU, bfloat16 on a CPU that computes in it, float32 elsewhere: on a CPU without
    bfloat16 instructions the conversions cost more than they save.
    """
    policy = "float32"
    if mixed and tf.config.list_physical_devices("GPU"):
        policy = "mixed_float16"
    elif mixed and computes_bfloat16():
        policy = "mixed_bfloat16"
    tf.keras.mixed_precision.set_global_policy(policy)
    return policy
