"""Two worker processes, or two replicas with synchronised normalisation, learn what one would."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from tiny_sets import LABEL_MAP, ids, jpeg, png
from tiny_tfds import build

from segkit.data.archive import ARCHIVE_NAME
from segkit.runs import Run

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SECONDS = 240  # until processes that hang are ended

# Prints the loss of every step and the weights at the end. Takes a folder and the number of
# logical CPUs; workers are found in TF_CONFIG.
TRAIN = """
import json, sys
from pathlib import Path
import numpy as np, tensorflow as tf
folder, replicas, synchronized = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "true"
from segkit.training.cluster import find_cluster
from segkit.training.strategy import make_strategy, synchronize_batch_norm
cluster = find_cluster()
cpu = tf.config.list_physical_devices("CPU")[0]
if replicas > 1:
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(replicas)]
    )
strategy = make_strategy(multi_gpu=True, gpu_num=0, cluster=cluster)
from segkit import models
from segkit.labels import LabelMap
from segkit.models.layers import Normalization, batch_normalization
from segkit.models.network import Network
from segkit.runs import Run
from segkit.training.fit import Batches, Plan, fit
from segkit.training.optimizers import make_optimizer

def network(image, num_classes, options):
    x = tf.keras.layers.Conv2D(6, 3, padding="same", use_bias=False, name="a")(image)
    x = tf.nn.relu(batch_normalization(x, name="bn"))
    return tf.keras.layers.Conv2D(num_classes, 1, name="b", dtype="float32")(x), None

models.NETWORKS["tiny"] = Network(network, Normalization((0.0,)*3, (80.0,)*3, "/ 80"), head=())
labels = LabelMap.from_names("abc")
rng = np.random.default_rng(0)
mask = rng.choice([0, 1, 2, 255], (24, 32, 32)).astype(np.uint8)
mask[0:2] = 255  # a worker may get nothing that counts
# Images differ in their means: the statistics of half a batch are others than those of the whole.
image = mask[..., None] % 3 * 80 + rng.normal(0, 9, (24, 32, 32, 3))
image = (image + rng.uniform(-90, 90, (24, 1, 1, 1))).astype(np.float32)
data = tf.data.Dataset.from_tensor_slices((image, mask))
tf.keras.utils.set_random_seed(3)
plan = Plan(network="tiny", image_size=(32, 32), aspp_rates=(), labels=labels, epochs=6,
            steps_per_epoch=1, global_batch_size=8, precision="float32", strategy=strategy)
run = Run.create(folder, "run", labels)
with strategy.scope():
    model = models.build_model("tiny", (32, 32), labels.num_classes)
if synchronized:
    synchronize_batch_norm(model)
index, count = (cluster.index, len(cluster.addresses)) if cluster else (0, 1)
own = slice(8 * index // count, 8 * (index + 1) // count)
outcome = fit(plan, model,
    make_optimizer=lambda: make_optimizer("sgd", 0.05, weight_decay=0.0),
    batches=Batches(
        train=lambda step: data.repeat().skip(8 * step).batch(8).map(
            lambda *pair: tuple(part[own] for part in pair)),
        val=data.take(17).batch(8), stems=lambda step: [""] * 8),
    run=run, report=lambda line: None)
print(json.dumps({
    "replicas": strategy.num_replicas_in_sync,
    "losses": [float(row["loss"]) for row in run.read_results()],
    "counts": outcome.matrix.counts.tolist(),
    "weights": {weight.name: np.asarray(value).ravel().tolist()
                for weight, value in zip(model.weights, model.get_weights())},
}), flush=True)
"""


def free_addresses(count: int) -> list[str]:
    """Of this machine; all are held until all are known, so that they differ."""
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(count)
        ]
        return [f"localhost:{listener.getsockname()[1]}" for listener in listeners]


def start(arguments: list[str], **environ: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    clean |= {"TF_CONFIG": "", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=clean | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_workers(arguments: list[list[str]]) -> list[subprocess.Popen[str]]:
    cluster = {"worker": free_addresses(len(arguments))}
    return [
        start(each, TF_CONFIG=json.dumps({"cluster": cluster, "task": task}))
        for index, each in enumerate(arguments)
        for task in [{"type": "worker", "index": index}]
    ]


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What they print; those that hang are ended."""
    try:
        replies = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, replies, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [output for output, _ in replies]


def trained(arguments: list[str]) -> list[str]:
    return ["-c", TRAIN, *arguments]


def learned(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One device, two replicas with their own and with common statistics, and two workers."""
    folder = tmp_path_factory.mktemp("runs")
    alone = {"one": ["1", "false"], "own": ["2", "false"], "common": ["2", "true"]}
    processes = [start(trained([str(folder / name), *how])) for name, how in alone.items()]
    workers = ["w0", "w1"]
    processes += start_workers([trained([str(folder / name), "1", "true"]) for name in workers])
    found = map(learned, outputs(processes))
    return dict(zip([*alone, *workers], found, strict=True))


def difference(first: dict[str, Any], second: dict[str, Any], name: str) -> float:
    """The greatest between the values of a weight, as a share of its greatest value."""
    one, two = (np.array(result["weights"][name]) for result in (first, second))
    return float(np.abs(one - two).max() / np.abs(one).max())


@pytest.mark.parametrize("name", ["common", "w0", "w1"])
def test_two_learn_what_one_would(name: str, results: dict[str, dict[str, Any]]) -> None:
    one, two = results["one"], results[name]
    assert (one["replicas"], two["replicas"]) == (1, 2)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert len(set(one["losses"])) == 6
    assert list(two["weights"]) == list(one["weights"])
    for weight in one["weights"]:
        # A fused layer keeps the sample variance, a synchronised one that of the population: of
        # 8 x 32 x 32 values.
        limit = 3e-4 if "moving_variance" in weight else 2e-5
        assert difference(one, two, weight) < limit


@pytest.mark.parametrize("name", ["common", "w0", "w1"])
def test_two_count_each_val_pixel_once(name: str, results: dict[str, dict[str, Any]]) -> None:
    counts, expected = results[name]["counts"], results["one"]["counts"]
    # A pixel on the edge between two classes may fall on the other side.
    assert sum(map(sum, counts)) == sum(map(sum, expected))
    assert np.abs(np.subtract(counts, expected)).max() <= 3


def test_with_statistics_of_their_own_two_learn_something_else(
    results: dict[str, dict[str, Any]],
) -> None:
    one, own = results["one"], results["own"]
    assert own["losses"] != pytest.approx(one["losses"], rel=1e-3)
    assert difference(one, own, "a/kernel:0") > 1e-3


# === train.py ===


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight train and three val images, so that the workers' shares of val differ."""
    folder = tmp_path_factory.mktemp("set")
    splits = {"train": [f"t{i}" for i in range(8)], "val": ["v8", "v9", "v10"]}
    with ZipFile(folder / ARCHIVE_NAME, "w") as archive:
        archive.writestr("labelmap.txt", LABEL_MAP)
        for split, stems in splits.items():
            archive.writestr(f"{split}.txt", "\n".join(stems))
            for stem in stems:
                seed = int(stem[1:])
                archive.writestr(f"rgb/{stem}.jpg", jpeg(seed, (64, 64)))
                archive.writestr(f"gt/{stem}.png", png(ids(seed, (64, 64))))
    build(folder, folder / "tfds", files=2)
    return folder / "tfds"


@pytest.mark.slow
def test_train_py_on_two_workers_does_what_it_does_on_one_device(
    dataset_dir: Path, tmp_path: Path
) -> None:
    def flags(name: str, **changed: Any) -> list[str]:
        given = {
            "dataset_dir": dataset_dir,
            "checkpoint_dir": tmp_path / name,
            "model_name": "x",
            "epoch": 2,
            "optimizer": "sgd",
            "mixed_precision": "false",
            "min_scale": 1,
            "max_scale": 1.5,
        } | changed
        pairs = [[f"--{flag}", str(value)] for flag, value in given.items()]
        return ["train.py", "--image_size", "64", "64", *itertools.chain(*pairs)]

    # So small a rate leaves the weights nearly alone: a deep network makes so much of rounding that
    # one device does not repeat itself (see test_strategy). That the losses agree then shows that
    # the batches do; the tests above show the learning.
    start_alone = start(flags("one", batch_size=4, lr=2e-9))
    two = flags("two", batch_size=2, lr=1e-9)
    _, chief, worker = outputs([start_alone, *start_workers([two, two])])

    assert "2 replicas x batch 2 = global batch 4; learning rate 2e-09" in chief
    assert "epoch 2/2" in chief
    assert worker == ""
    assert [path.name for path in (tmp_path / "two" / "x").iterdir()] == ["run_1"]
    runs = [Run(tmp_path / name / "x" / "run_1") for name in ("one", "two")]
    assert all(path.is_file() for run in runs for path in (run.best, run.last, run.results))
    rows = [run.read_results() for run in runs]
    for row_one, row_two in zip(*rows, strict=True):
        for name, limit in (("loss", 1e-4), ("learning_rate", 1e-6)):
            assert float(row_two[name]) == pytest.approx(float(row_one[name]), rel=limit)
