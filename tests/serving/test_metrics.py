from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from segkit.engines import Code
from segkit.serving.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The page, read by Prometheus's client, which calls every counter a total."""
    return {
        (sample.name.removesuffix("_total"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.page())
        for sample in family.samples
    }


def test_a_page_without_requests_is_empty(metrics: Metrics) -> None:
    assert metrics.page() == ""


def test_requests_are_counted_by_model_and_status(metrics: Metrics) -> None:
    metrics.request("seg", "Predict", "GRPC", Code.OK, 0.001)
    metrics.request("seg", "Predict", "REST", Code.OK, 0.001)
    metrics.request("seg", "Predict", "GRPC", Code.INVALID_ARGUMENT, 0.001)
    lines = metrics.page().splitlines()
    assert "# TYPE :tensorflow:serving:request_count counter" in lines
    assert ':tensorflow:serving:request_count{model_name="seg",status="OK"} 2' in lines
    assert (
        ':tensorflow:serving:request_count{model_name="seg",status="INVALID_ARGUMENT"} 1' in lines
    )


def test_only_what_went_well_is_timed(metrics: Metrics) -> None:
    metrics.request("seg", "Predict", "GRPC", Code.INTERNAL, 0.001)
    assert "request_latency" not in metrics.page()


def test_latencies_are_microseconds_in_the_buckets_of_the_server(metrics: Metrics) -> None:
    for seconds in (5e-6, 10e-6, 12e-6, 60e-6, 1e4):
        metrics.request("seg", "Predict", "GRPC", Code.OK, seconds)
    labels = (("API", "Predict"), ("entrypoint", "GRPC"), ("model_name", "seg"))
    found = samples(metrics)
    name = ":tensorflow:serving:request_latency"

    def bucket(limit: str) -> float:
        return found[(f"{name}_bucket", tuple(sorted((*labels, ("le", limit)))))]

    assert [bucket(limit) for limit in ("10", "18", "32.4", "58.32", "104.976")] == [2, 3, 3, 3, 4]
    assert bucket("1.47476e+09") == 4  # 10 * 1.8 ** 32, the last but one
    assert bucket("+Inf") == found[(f"{name}_count", labels)] == 5
    assert found[(f"{name}_sum", labels)] == pytest.approx(1e10 + 87)
    assert len([key for key in found if key[0] == f"{name}_bucket"]) == 34


def test_every_metric_is_on_the_page(metrics: Metrics) -> None:
    metrics.request("seg", "Predict", "GRPC", Code.OK, 0.1)
    metrics.ran("seg", 0.1)
    metrics.queued("pool", 0.1)
    metrics.batched()
    metrics.warmed_up(Path("/models/seg/1"), Code.OK, 1.5)
    metrics.loaded(Path("/models/seg/1"), True, 0.5)
    metrics.loaded(Path("/models/seg/1"), False, 0.25)
    types = [line for line in metrics.page().splitlines() if line.startswith("# TYPE")]
    assert types == [
        "# TYPE :tensorflow:cc:saved_model:load_attempt_count counter",
        "# TYPE :tensorflow:cc:saved_model:load_latency counter",
        "# TYPE :tensorflow:serving:batching_session:queuing_latency histogram",
        "# TYPE :tensorflow:serving:batching_session:wrapped_run_count counter",
        "# TYPE :tensorflow:serving:model_warmup_latency histogram",
        "# TYPE :tensorflow:serving:request_count counter",
        "# TYPE :tensorflow:serving:request_latency histogram",
        "# TYPE :tensorflow:serving:runtime_latency histogram",
    ]
    assert ':tensorflow:cc:saved_model:load_latency{model_path="/models/seg/1"} 750000' in (
        metrics.page()
    )


def test_label_values_are_escaped(metrics: Metrics) -> None:
    name = 'a "b" \\ c\nd'
    metrics.request(name, "Predict", "GRPC", Code.OK, 0.1)
    labels = (("model_name", name), ("status", "OK"))
    assert samples(metrics)[(":tensorflow:serving:request_count", labels)] == 1


def test_a_counter_can_be_asked_for_by_tensorflows_name(metrics: Metrics) -> None:
    assert metrics.value("/tensorflow/serving/request_count") == 0
    metrics.request("seg", "Predict", "GRPC", Code.OK, 0.1)
    assert metrics.value("/tensorflow/serving/request_count") == 1
    assert metrics.value("/tensorflow/serving/request_latency") == 0
    assert metrics.value("unknown") == 0


def test_threads_lose_no_count(metrics: Metrics) -> None:
    def count() -> None:
        for _ in range(2000):
            metrics.request("seg", "Predict", "GRPC", Code.OK, 0.1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.value("/tensorflow/serving/request_count") == 8000
