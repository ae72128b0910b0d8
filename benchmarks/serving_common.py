"""What the measurements of the embedded server share: exports, the server's process, its memory."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import numpy.typing as npt

from segkit.contract import Metadata
from segkit.engines.variants import VariantName
from segkit.labels import LabelMap

__all__ = [
    "MODEL_NAME",
    "TINY_SIZE",
    "ServerProcess",
    "export_network",
    "export_tiny",
    "free_port",
    "machine",
    "noise",
    "own_rss_mb",
    "write_record",
]

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL_NAME = "segkit"
TINY_SIZE = (64, 96)
START_PATIENCE_S = 180.0
STOP_PATIENCE_S = 60.0


def noise(height: int, width: int, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A batch of one image, uint8, (1, H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), np.uint8)


def export_network(
    name: str, base_path: Path, image_size: tuple[int, int], engines: Iterable[str]
) -> Path:
    """Publishes a network of 19 classes with random weights; gives the version's folder."""
    from segkit.export import publish
    from segkit.models import build_model, get_network

    model = build_model(name, image_size, 19)
    metadata = Metadata(
        labels=LabelMap.from_names(f"class {id_}" for id_ in range(19)),
        image_size=image_size,
        architecture=name,
        normalization=get_network(name).normalization.words,
    )
    return publish(model, metadata, base_path, model_name=MODEL_NAME, variants=_variants(engines))


def export_tiny(
    base_path: Path,
    *,
    engines: tuple[str, ...] = ("tensorflow:float32",),
    answer: int | None = None,
    classes: int = 3,
) -> Path:
    """Publishes a model of two convolutions, which loads and answers in no time.

    Args:
        base_path: The folder of numbered versions.
        engines: The forms to write, as ENGINE:PRECISION.
        answer: The class that it gives every pixel; None lets the image decide.
        classes: How many classes it has.
    """
    import tensorflow as tf

    from segkit.export import publish

    tf.keras.utils.set_random_seed(7)
    inputs = tf.keras.Input((*TINY_SIZE, 3))
    x = tf.keras.layers.Rescaling(1 / 255)(inputs)
    x = tf.keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    last = tf.keras.layers.Conv2D(classes, 1, dtype="float32")
    model = tf.keras.Model(inputs, last(x))
    if answer is not None:
        kernel, _ = last.get_weights()
        bias = np.zeros(classes, np.float32)
        bias[answer] = 1
        last.set_weights([np.zeros_like(kernel), bias])
    metadata = Metadata(
        labels=LabelMap.from_names(f"class {id_}" for id_ in range(classes)),
        image_size=TINY_SIZE,
        architecture="tiny",
        normalization="RGB / 255",
    )
    return publish(model, metadata, base_path, model_name=MODEL_NAME, variants=_variants(engines))


def _variants(engines: Iterable[str]) -> tuple[VariantName, ...]:
    return tuple(VariantName.parse(engine, flag="--engine") for engine in engines)


class ServerProcess:
    """`python -m segkit serve`, from its first answer to its end. A context manager.

    Args:
        base_path: The folder of numbered versions.
        flags: What else it is told.
        rest: Whether it opens a port for REST, too.
        port: Port for gRPC; 0 takes a free one.
        environment: What its environment has beside this process's.
    """

    def __init__(
        self,
        base_path: Path,
        *flags: str,
        rest: bool = False,
        port: int = 0,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.rest_port = free_port() if rest else 0
        command = [sys.executable, "-m", "segkit", "serve", "--model_name", MODEL_NAME]
        command += ["--model_base_path", str(base_path), "--port", str(port), *flags]
        command += ["--rest_api_port", str(self.rest_port)]
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",  # libraries quote what clients sent
        )
        self.lines: list[str] = []
        self._serving = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._serving.wait(START_PATIENCE_S)
        found = [re.search(r"serving .* on (\S+:\d+) \(gRPC", line) for line in self.lines]
        addresses = [match[1] for match in found if match]
        if not addresses:
            self.kill()
            raise RuntimeError("the server did not start:\n" + "\n".join(self.lines))
        self.address = addresses[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.is_alive:
            self.stop()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def rss_mb(self) -> float:
        """Its resident memory in MB (10^6 bytes)."""
        return _rss_mb(str(self.process.pid))

    @property
    def peak_rss_mb(self) -> float:
        """The most that it ever was."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert match
        return int(match[1]) * 1024 / 1e6

    def stop(self) -> int:
        """SIGTERM; gives the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL; gives the exit status."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        status = self.process.wait(STOP_PATIENCE_S)
        self._reader.join(STOP_PATIENCE_S)
        assert self.process.stdout
        self.process.stdout.close()
        return status

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("Ctrl-C stops"):
                self._serving.set()
        self._serving.set()


def own_rss_mb() -> float:
    """This process's resident memory in MB."""
    return _rss_mb("self")


def _rss_mb(process: str) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def machine() -> dict[str, Any]:
    """Where and beside what it was measured."""
    from segkit.engines.cpu import cpu_name

    return {
        "command": "python " + " ".join(sys.argv),
        "machine": f"{cpu_name()}, Python {platform.python_version()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def write_record(record: dict[str, Any], path: Path) -> None:
    """Writes figures as JSON, and says where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")
