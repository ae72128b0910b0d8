"""The embedded server, started as docker-compose.yml starts the real one, by the same files."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from segkit.__main__ import main
from segkit.serving.containers.config import METRICS_PATH

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]["serving"][
    "command"
]
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Served:
    """Where the server listens, and what its clients show."""

    grpc: str
    rest: str
    tls: Path

    @property
    def flags(self) -> list[str]:
        """Of a client."""
        return [
            f"--{flag}={self.tls / name}"
            for flag, name in (("ca", "ca.crt"), ("cert", "client.crt"), ("key", "client.key"))
        ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def served(tiny_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("containers")
    config, tls = folder / "serving", folder / "tls"
    flags = ["--model_base_path", str(tiny_export), "--max_batch_size", "1"]
    flags += ["--output", str(config), "--tls", "gpu1", "--tls_dir", str(tls)]
    assert main(["serve-config", *flags]) == 0
    models = config / "models.config"
    models.write_text(models.read_text().replace("/models/segkit", str(tiny_export)))
    grpc, rest = free_port(), free_port()
    words = [
        word.replace("8500", str(grpc))
        .replace("8501", str(rest))
        .replace("${SEGKIT_SSL_CONFIG_FILE:-}", "/config/ssl.config")
        .replace("=/config/", f"={config}/")
        for word in COMMAND
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "segkit", "serve", *words],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("serving "):
                break
        assert process.poll() is None and "TLS" in lines[-1], lines
        yield Served(f"localhost:{grpc}", f"127.0.0.1:{rest}", tls)
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def page(served: Served, path: str) -> str:
    with urllib.request.urlopen(f"http://{served.rest}{path}", timeout=10) as reply:
        return str(reply.read().decode())


def test_a_command_with_a_certificate_is_served_and_counted(
    served: Served, clip: Path, tmp_path: Path
) -> None:
    words = ["--video", str(clip), "--output", str(tmp_path / "out.mp4"), "--progress", "none"]
    assert main(["predict-video", *words, "--server", served.grpc, *served.flags]) == 0
    assert (tmp_path / "out.mp4").exists()
    assert '"AVAILABLE"' in page(served, "/v1/models/segkit")
    count = ':tensorflow:serving:request_count{model_name="segkit",status="OK"}'
    assert count in page(served, METRICS_PATH)


def test_a_command_without_a_certificate_is_told_of_the_flags(
    served: Served, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--video", str(clip), "--output", str(tmp_path / "out.mp4")]
    assert main(["predict-video", *words, "--server", served.grpc]) == 1
    message = capsys.readouterr().err
    assert "speaks TLS alone" in message and "give --ca, --cert and --key" in message
    assert main(["predict-video", *words, "--server", served.grpc, served.flags[1]]) == 1
    assert "--cert is given without --ca" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


def test_eval_and_verify_have_the_flags(
    served: Served, tiny_export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(3).integers(0, 256, (64, 96, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "street.png"), image)
    words = [str(tiny_export), served.grpc, "--data", f"images:{tmp_path}", *served.flags]
    assert main(["verify", *words]) == 0
    assert main(["verify", str(tiny_export), str(tiny_export), *served.flags]) == 1
    assert "--ca is given, but no TARGET is a server" in capsys.readouterr().err
    assert main(["eval", "--export", str(tiny_export), *served.flags]) == 1
    assert "--ca is given with --export" in capsys.readouterr().err


def test_the_sample_takes_the_files(served: Served, tmp_path: Path) -> None:
    image = np.random.default_rng(3).integers(0, 256, (64, 96, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "street.png"), image)
    files = [str(served.tls / name) for name in ("ca.crt", "client.crt", "client.key")]
    words = [str(tmp_path / "street.png"), str(tmp_path / "overlay.png"), served.grpc, *files]
    reply = subprocess.run(
        [sys.executable, "tf_serving_sample.py", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert reply.returncode == 0, reply.stderr
    assert (tmp_path / "overlay.png").exists()
