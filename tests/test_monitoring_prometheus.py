"""serving/monitoring with the real Prometheus: rules fire when they must, panels show something."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from monitoring_files import MONITORING, MetricsPage, panel_queries, rules

from segkit.serving.metrics import PROMETHEUS_PATH

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed (Debian package prometheus)"
)
needs_prometheus = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="prometheus is not installed"
)


def promtool(*words: str) -> None:
    reply = subprocess.run(["promtool", *words], capture_output=True, text=True)
    assert reply.returncode == 0, reply.stdout + reply.stderr


@needs_promtool
def test_promtool_accepts_the_configuration_and_its_rules() -> None:
    promtool("check", "config", str(MONITORING / "prometheus/prometheus.yml"))


COUNT = ':tensorflow:serving:request_count{model_name="segkit", status='
BUCKET = ':tensorflow:serving:request_latency_bucket{model_name="segkit", API="Predict", '
QUEUE = ":tensorflow:serving:batching_session:queuing_latency_bucket{"
ALL_REQUESTS, ALL_WAITS = ({name + 'le="+Inf"}': "0+90x80"} for name in (BUCKET, QUEUE))
FIRING: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    # Alert -> series that make it fire after 20 minutes, series of a healthy server.
    "ModelServerDown": ({'up{job="model-server"}': "0x80"}, {'up{job="model-server"}': "1x80"}),
    "ModelVersionFailedToLoad": (
        {':tensorflow:cc:saved_model:load_attempt_count{status="fail"}': "0x70 1x10"},
        {':tensorflow:cc:saved_model:load_attempt_count{status="success"}': "0x70 1x10"},
    ),
    "RequestsFail": (
        {COUNT + '"OK"}': "0+90x80", COUNT + '"UNAVAILABLE"}': "0+10x80"},
        {COUNT + '"OK"}': "0+90x80", COUNT + '"UNAVAILABLE"}': "5x80"},
    ),
    "SlowRequests": (
        {BUCKET + 'le="90000"}': "0+50x80", BUCKET + 'le="300000"}': "0+90x80"} | ALL_REQUESTS,
        {BUCKET + 'le="90000"}': "0+90x80", BUCKET + 'le="300000"}': "0+90x80"} | ALL_REQUESTS,
    ),
    "QueueGrows": (
        {QUEUE + 'le="9000"}': "0+90x60 5400x20", QUEUE + 'le="50000"}': "0+90x80"} | ALL_WAITS,
        {QUEUE + 'le="9000"}': "0+90x80", QUEUE + 'le="50000"}': "0+90x80"} | ALL_WAITS,
    ),
    "GpuMemoryNearlyFull": (
        {'DCGM_FI_DEV_FB_USED{gpu="0"}': "95x80", 'DCGM_FI_DEV_FB_FREE{gpu="0"}': "5x80"},
        {'DCGM_FI_DEV_FB_USED{gpu="0"}': "50x80", 'DCGM_FI_DEV_FB_FREE{gpu="0"}': "50x80"},
    ),
}


@needs_promtool
@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_fires_when_it_must_and_only_then(rule: dict[str, Any], tmp_path: Path) -> None:
    firing, healthy = FIRING[rule["alert"]]
    bare = {key: rule[key] for key in ("alert", "expr", "for") if key in rule}
    file = tmp_path / "alerts.yml"
    file.write_text(json.dumps({"groups": [{"name": "one", "rules": [bare]}]}))
    for series, count in ((firing, 1), (healthy, 0)):
        inputs = [{"series": name, "values": values} for name, values in series.items()]
        query = f'count(ALERTS{{alertname="{rule["alert"]}", alertstate="firing"}}) or vector(0)'
        case = {
            "interval": "15s",
            "input_series": inputs,
            "promql_expr_test": [
                {
                    "expr": query,
                    "eval_time": "19m30s",
                    "exp_samples": [{"labels": "{}", "value": count}],
                }
            ],
        }
        tests = tmp_path / "tests.yml"
        tests.write_text(
            json.dumps({"rule_files": [str(file)], "evaluation_interval": "15s", "tests": [case]})
        )
        promtool("test", "rules", str(tests))


@pytest.fixture
def exporter() -> Iterator[str]:
    """Host and port of the page."""
    page = MetricsPage()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.read_text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def prometheus(exporter: str, tmp_path: Path) -> Iterator[str]:
    """Address of a Prometheus that reads the page twice a second."""
    config = tmp_path / "prometheus.yml"
    job = {
        "job_name": "model-server",
        "metrics_path": PROMETHEUS_PATH,
        "static_configs": [{"targets": [exporter]}],
    }
    config.write_text(
        json.dumps(
            {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"}}
            | {"scrape_configs": [job]}
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
    )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def ask(address: str, query: str) -> list[dict[str, Any]]:
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as reply:
        result: list[dict[str, Any]] = json.load(reply)["data"]["result"]
        return result


@needs_prometheus
def test_every_panel_shows_something(prometheus: str) -> None:
    deadline = time.monotonic() + 60
    queries = panel_queries()
    while True:
        time.sleep(0.5)
        try:
            answers = {name: ask(prometheus, query) for name, query in queries.items()}
        except OSError:  # it starts
            answers = {}
        numbers = {name: [float(row["value"][1]) for row in rows] for name, rows in answers.items()}
        if len(numbers) == len(queries) and all(
            rows and not any(x != x for x in rows) for rows in numbers.values()
        ):
            break
        assert time.monotonic() < deadline, numbers
    assert numbers["Share of requests that fail A"] == [pytest.approx(1 / 20)]
    assert numbers["Warm-up A"] == [3e6]
    assert numbers["GPU memory taken A"] == [0.5]
    assert numbers["Requests that share a run A"] == [pytest.approx(20)]
    assert 10_000 < numbers["Latency of Predict in the server A"][0] < 40_000
