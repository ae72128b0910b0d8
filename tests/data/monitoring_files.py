"""serving/monitoring, and the names that servers and GPUs count under, for several tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from segkit.engines import Code
from segkit.serving.metrics import Metrics

__all__ = [
    "COUNTERS",
    "DASHBOARD",
    "DCGM",
    "HISTOGRAMS",
    "LABELS",
    "MONITORING",
    "MetricsPage",
    "panel_queries",
    "rules",
]

REPOSITORY = Path(__file__).resolve().parents[2]
MONITORING = REPOSITORY / "serving/monitoring"
DASHBOARD = MONITORING / "grafana/dashboards/model_server.json"

# Metric -> labels. tensorflow/serving 2.15.1: servables/tensorflow/util.cc, batching/
# batching_session.cc, servables/tensorflow/saved_model_warmup_util.cc; TensorFlow 2.15:
# cc/saved_model/loader.cc. util/prometheus_exporter.cc makes ":" of "/".
COUNTERS = {
    ":tensorflow:serving:request_count": {"model_name", "status"},
    ":tensorflow:serving:batching_session:wrapped_run_count": set(),
    ":tensorflow:cc:saved_model:load_attempt_count": {"model_path", "status"},
}
HISTOGRAMS = {
    ":tensorflow:serving:request_latency": {"model_name", "API", "entrypoint"},
    ":tensorflow:serving:runtime_latency": {"model_name", "API", "runtime"},
    ":tensorflow:serving:batching_session:queuing_latency": {"thread_pool_name"},
    ":tensorflow:serving:model_warmup_latency": {"model_path", "status"},
}
# Of dcgm-exporter, as its documentation lists them; each with the labels of a GPU.
DCGM = {
    name: {"gpu", "UUID", "device", "modelName", "Hostname"}
    for name in (
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_FB_FREE",
        "DCGM_FI_DEV_GPU_TEMP",
        "DCGM_FI_DEV_POWER_USAGE",
    )
}
LABELS = {
    **COUNTERS,
    **DCGM,
    "up": {"job", "instance"},
    **{
        f"{name}_{part}": labels | ({"le"} if part == "bucket" else set())
        for name, labels in HISTOGRAMS.items()
        for part in ("bucket", "sum", "count")
    },
}


def panel_queries() -> dict[str, str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels
        for target in panel["targets"]
    }


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "prometheus/alerts.yml").read_text())["groups"]
    return list(group["rules"])


class MetricsPage:
    """The metrics of a server under load; `read_text` is one look at them."""

    def __init__(self) -> None:
        self._metrics = Metrics()
        self._metrics.loaded(Path("/models/segkit/1"), True, 2)
        self._metrics.warmed_up(Path("/models/segkit/1"), Code.OK, 3)

    def read_text(self) -> str:
        for index in range(20):
            code = Code.OK if index else Code.UNAVAILABLE
            self._metrics.request("segkit", "Predict", "GRPC", code, 0.02)
            self._metrics.ran("segkit", 0.015)
            self._metrics.queued("", 0.003)
        self._metrics.batched()
        gpu = "".join(f'# TYPE {name} gauge\n{name}{{gpu="0"}} 50\n' for name in DCGM)
        return self._metrics.page() + gpu
