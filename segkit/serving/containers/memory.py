"""GPU memory that the served models take, estimated: a number to compare with, not a promise.

    BASE + sum over models and loaded versions of (WEIGHTS x size on disk
                                                   + images at once x height x width x PIXEL)

Loaded at the same time are the versions that are served and, during a swap, the one that comes.
docs/serving.md says where the constants are from. NEVER COMPARED WITH A GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segkit.errors import ConfigError
from segkit.serving.containers.published import PublishedModel
from segkit.serving.containers.settings import Settings

__all__ = ["MemoryEstimate", "estimate_memory"]

GB = 1e9
BASE_BYTES = 0.75 * GB  # the context of CUDA, and the libraries' own: cuDNN, cuBLAS, TensorRT
WEIGHTS = 2  # a variable and its copy that is folded into the graph; an engine and its plan
PIXEL_BYTES = 256  # of the input: activations that are alive together, float32


@dataclass(frozen=True)
class MemoryEstimate:
    """What the models take.

    Args:
        total_bytes: All of it.
        versions_at_once: For which versions, in words.
    """

    total_bytes: float
    versions_at_once: str

    def render(self) -> str:
        """For people."""
        return (
            f"GPU memory: about {self.total_bytes / GB:.2g} GB during a swap "
            f"({self.versions_at_once}; an estimate, docs/serving.md)"
        )

    def check(self, available_gb: float) -> None:
        """Holds it to what the GPU has.

        Raises:
            ConfigError: It is more.
        """
        if self.total_bytes > available_gb * GB:
            raise ConfigError(
                f"the models take about {self.total_bytes / GB:.2g} GB of GPU memory during a swap "
                f"({self.versions_at_once}), --gpu_memory_gb is {available_gb:g}",
                expected="room for one more version of each model beside those that are served",
                next_step="serve fewer versions (--versions), smaller batches (--cameras), or "
                "fewer models",
            )


def estimate_memory(models: Sequence[PublishedModel], settings: Settings) -> MemoryEstimate:
    """Adds it up; each version that is to come counts as the largest that is there."""
    total, counts = BASE_BYTES, []
    for model in models:
        sizes = []
        for version in model.versions:
            height, width = version.metadata.image_size
            pixels = settings.images_at_once(version.batch_sizes) * height * width
            sizes.append(WEIGHTS * version.weight_bytes + pixels * PIXEL_BYTES)
        total += sum(sizes) + max(sizes)
        counts.append(f"{len(sizes)} + 1 versions of {model.name}")
    return MemoryEstimate(total, ", ".join(counts))
