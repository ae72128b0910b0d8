"""Two replicas must learn what one would: run in processes of their own, on logical CPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from segkit.errors import ConfigError, SegkitError
from segkit.models import build_model
from segkit.training.cluster import Cluster
from segkit.training.strategy import (
    any_worker,
    choose_precision,
    make_strategy,
    synchronize_batch_norm,
    telling_of_lost_workers,
)

REPOSITORY = Path(__file__).resolve().parent.parent.parent

TRAIN = """
import json, sys
from pathlib import Path
import numpy as np, tensorflow as tf
replicas, folder, precision = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
tf.keras.mixed_precision.set_global_policy(precision)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(replicas)]
)
from segkit import models
from segkit.labels import LabelMap
from segkit.models.layers import Normalization
from segkit.models.network import Network
from segkit.runs import Run
from segkit.training.fit import Batches, Plan, fit
from segkit.training.optimizers import make_optimizer
from segkit.training.strategy import make_strategy

def network(image, num_classes, options):
    x = tf.keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(image)
    heads = [tf.keras.layers.Conv2D(num_classes, 1, name=n, dtype="float32") for n in ("b", "c")]
    return [head(x) for head in heads]

same = Normalization((0.0,) * 3, (1.0,) * 3, "as it comes")
models.NETWORKS["tiny"] = Network(network, same, head=())
labels = LabelMap.from_names("abc")
strategy = make_strategy(multi_gpu=True, gpu_num=0)
assert strategy.num_replicas_in_sync == replicas
rng = np.random.default_rng(0)
mask = rng.choice([0, 1, 2, 255], (12, 32, 32)).astype(np.uint8)
mask[0:2] = 255  # a replica may get nothing that counts
mask[5, 16:] = 255
image = (mask[..., None] % 3 * 80 + rng.normal(0, 9, (12, 32, 32, 3))).astype(np.float32)
data = tf.data.Dataset.from_tensor_slices((image, mask))
tf.keras.utils.set_random_seed(3)
plan = Plan(network="tiny", image_size=(32, 32), aspp_rates=(), labels=labels, epochs=2,
            steps_per_epoch=3, global_batch_size=4, precision=precision, strategy=strategy)
run = Run.create(folder, "run", labels)
with strategy.scope():
    model = models.build_model("tiny", (32, 32), labels.num_classes, auxiliary=True)
matrix = fit(plan, model, make_optimizer=lambda: make_optimizer("sgd", 0.01, weight_decay=0.0),
             batches=Batches(train=lambda step: data.repeat().skip(4 * step).batch(4),
                             val=data.batch(5), stems=lambda step: []),
             run=run, report=lambda line: None).matrix
rows = run.results.read_text().splitlines()
print(json.dumps({"rows": rows, "counts": matrix.counts.tolist()}))
"""


# Prints the loss of one step of DDRNet-23-slim and saves how it moved the weights.
STEP = """
import sys
import numpy as np, tensorflow as tf
replicas, path = int(sys.argv[1]), sys.argv[2]
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(replicas)]
)
from segkit.models import build_model
from segkit.training.objective import Objective
from segkit.training.optimizers import build_slots, make_optimizer
from segkit.training.strategy import make_strategy, synchronize_batch_norm
from segkit.training.train_step import make_train_step

strategy = make_strategy(multi_gpu=True, gpu_num=0)
rng = np.random.default_rng(0)
mask = rng.integers(0, 3, (8, 8, 8)).repeat(16, axis=1).repeat(16, axis=2).astype(np.uint8)
image = (mask[..., None] * 80 + rng.normal(0, 20, (*mask.shape, 3))).astype(np.float32)
tf.keras.utils.set_random_seed(3)
with strategy.scope():
    model = build_model("ddrnet23_slim", mask.shape[1:], 3, auxiliary=True)
    optimizer = make_optimizer("sgd", 0.01, weight_decay=0.0)
    build_slots(optimizer, model.trainable_variables)
synchronize_batch_norm(model)
before = [np.asarray(weight).ravel() for weight in model.trainable_variables]
step = make_train_step(model, optimizer, strategy, objective=Objective())
data = tf.data.Dataset.from_tensors((image, mask))
loss = float(step(next(iter(strategy.experimental_distribute_dataset(data)))))
after = [np.asarray(weight).ravel() for weight in model.trainable_variables]
np.save(path, np.concatenate(after) - np.concatenate(before))
print(loss)
"""


def run_script(script: str, *arguments: object) -> str:
    reply = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert reply.returncode == 0, reply.stderr[-3000:]
    return reply.stdout.splitlines()[-1]


def train(replicas: int, folder: Path, precision: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(run_script(TRAIN, replicas, folder, precision))
    return result


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("mixed_float16", 5e-3)])
def test_two_replicas_learn_what_one_would(
    precision: str, tolerance: float, tmp_path: Path
) -> None:
    one, two = (train(replicas, tmp_path / str(replicas), precision) for replicas in (1, 2))
    for row_one, row_two in zip(one["rows"][1:], two["rows"][1:], strict=True):
        losses = [float(row.split(",")[2]) for row in (row_one, row_two)]
        assert losses[0] == pytest.approx(losses[1], rel=tolerance)
    assert sum(map(sum, two["counts"])) == sum(map(sum, one["counts"]))


@pytest.mark.slow
def test_two_replicas_have_the_gradient_of_one_in_a_deep_network(tmp_path: Path) -> None:
    paths = [tmp_path / "one.npy", tmp_path / "two.npy"]
    losses = [float(run_script(STEP, count, path)) for count, path in enumerate(paths, 1)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    one, two = map(np.load, paths)
    # Its depth makes much of rounding: images times 1.0000001 move it by 0.7 % on one device, the
    # sum in two halves by 0.9 %. Without common statistics the cosine is 0.2.
    assert one @ two / (np.linalg.norm(one) * np.linalg.norm(two)) > 0.999
    assert np.linalg.norm(two) == pytest.approx(np.linalg.norm(one), rel=0.02)


def test_without_a_gpu_training_goes_on_the_cpu() -> None:
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU here")
    assert make_strategy(multi_gpu=True, gpu_num=3).num_replicas_in_sync == 1


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: None)
    with pytest.raises(ConfigError, match="--gpu_num 3: there is no such GPU"):
        make_strategy(multi_gpu=False, gpu_num=3)


def test_tensorflow_reads_no_tf_config_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "no JSON")
    make_strategy(multi_gpu=True, gpu_num=0)
    tf.distribute.MirroredStrategy(["/cpu:0"])


def test_a_worker_alone_decides_by_itself() -> None:
    ask = any_worker(tf.distribute.get_strategy())
    assert [ask(True), ask(False)] == [True, False]


def test_a_lost_worker_is_told_with_the_way_on() -> None:
    text = """Graph execution error:

Detected at node CollectiveReduceV2 defined at (most recent call last):
  File "train.py", line 8, in <module>

Collective ops is aborted by: task:1
heartbeat timeout
\t [[{{node CollectiveReduceV2}}]]"""
    lost = tf.errors.UnavailableError(None, None, text)
    with (
        pytest.raises(SegkitError, match="of the 2 workers is gone") as told,
        telling_of_lost_workers(Cluster(("a:1", "b:1"), 0, "TF_CONFIG")),
    ):
        raise lost
    assert told.value.problem.endswith("aborted by: task:1 heartbeat timeout")
    assert "--resume" in told.value.next_step
    with pytest.raises(tf.errors.UnavailableError), telling_of_lost_workers(None):
        raise lost


@pytest.mark.parametrize("network", ["ddrnet23_slim", "mobilenetv3_deeplabv3plus"])
def test_synchronised_statistics_change_no_weight_and_no_prediction(network: str) -> None:
    tf.keras.utils.set_random_seed(1)
    model = build_model(network, (32, 32), 3)
    before = [(weight.name, weight.shape) for weight in model.weights]
    image = tf.random.uniform((2, 32, 32, 3), maxval=255.0)
    expected = model(image, training=False)
    synchronize_batch_norm(model)
    layers = [
        layer for layer in model.submodules if isinstance(layer, tf.keras.layers.BatchNormalization)
    ]
    assert len(layers) > 30
    assert all(layer.synchronized and not layer.fused for layer in layers)
    assert [(weight.name, weight.shape) for weight in model.weights] == before
    assert tf.reduce_max(tf.abs(model(image, training=False) - expected)) < 1e-3


@pytest.mark.parametrize(("has_bfloat16", "policy"), [(True, "mixed_bfloat16"), (False, "float32")])
def test_precision_follows_the_cpu(
    has_bfloat16: bool, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segkit.training.strategy.computes_bfloat16", lambda: has_bfloat16)
    try:
        assert choose_precision(mixed=True) == policy
        assert tf.keras.mixed_precision.global_policy().name == policy
        assert choose_precision(mixed=False) == "float32"
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
