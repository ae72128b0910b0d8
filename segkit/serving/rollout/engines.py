"""check_engines(): whether the engines of a version were built for the server's machine.

TF-TRT ends the process of a server that loads an engine of another TensorRT or GPU, so this is
asked before the server knows of the version.
"""

from __future__ import annotations

from collections.abc import Mapping

from segkit.contract import METADATA_FILE, Metadata
from segkit.errors import ConfigError, ExportError

__all__ = ["SERVER_TENSORRT", "check_engines"]

SERVER_TENSORRT = "8.6.1"  # of tensorflow/serving:2.15.1-gpu
UNKNOWN = "unknown"
# Keys of Metadata.tensorrt that an engine is tied to.
TENSORRT, GPU, COMPUTE_CAPABILITY = "tensorrt", "gpu", "compute_capability"
WORDS = {
    TENSORRT: "TensorRT",
    GPU: "the GPU",
    COMPUTE_CAPABILITY: "compute capability",
}


def check_engines(
    manifest: Metadata | None,
    *,
    version: int,
    serving: Metadata | None,
    compute_capability: str | None,
) -> None:
    """Holds a version's engines, if it has any, to the server's machine.

    Args:
        manifest: What the version says of itself on disk; None: it is not at hand.
        version: Its number.
        serving: What the version that serves says of itself: engines that run there tell what the
            machine is. None: none serves.
        compute_capability: That of the server's GPU, as "8.6"; None: not known.

    Raises:
        ConfigError: It cannot be known.
        ExportError: They were built for another machine.
    """
    if manifest is None:
        raise ConfigError(
            f"it is not known whether version {version} holds TensorRT engines, which end the "
            "server's process if they were built for another machine",
            expected=f"--export, its folder on this machine, with {METADATA_FILE}",
            next_step="give --export; or --trust_engines to load it all the same",
        )
    built = manifest.tensorrt
    if not built:
        return
    machine = {TENSORRT: SERVER_TENSORRT}
    if serving is not None:
        machine |= {key: value for key, value in serving.tensorrt.items() if key in WORDS}
    if compute_capability is not None:
        machine[COMPUTE_CAPABILITY] = compute_capability
    if any(each.get(COMPUTE_CAPABILITY, UNKNOWN) == UNKNOWN for each in (machine, built)):
        raise ConfigError(
            f"version {version} holds TensorRT engines built for {_machine(built)}, and the "
            "server's GPU is not known",
            expected="--gpu_compute_capability of that GPU, as nvidia-smi "
            "--query-gpu=compute_cap shows it there",
            next_step="give it; or --trust_engines to load it all the same",
        )
    differences = [
        f"{words} {built.get(key, UNKNOWN)} instead of {machine[key]}"
        for key, words in WORDS.items()
        if key in machine and built.get(key, UNKNOWN) != machine[key]
    ]
    if differences:
        raise ExportError(
            f"version {version} holds TensorRT engines built for another machine than the "
            f"server's: {'; '.join(differences)}",
            expected="engines built on the GPU, and by the TensorRT, that serve",
            next_step="convert it again there (docs/tensorrt.md)",
        )


def _machine(built: Mapping[str, str]) -> str:
    return ", ".join(f"{words} {built.get(key, UNKNOWN)}" for key, words in WORDS.items())
