"""serving/monitoring: rules and dashboard against the names that the servers count under."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from segkit.engines import Code
from segkit.serving.metrics import PROMETHEUS_PATH, Metrics

REPOSITORY = Path(__file__).resolve().parent.parent
MONITORING = REPOSITORY / "serving/monitoring"
DASHBOARD = MONITORING / "grafana/dashboards/model_server.json"
SERVICES = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]

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
KEYWORDS = {"by", "or", "and", "unless", "offset", "sum"}


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


QUERIES = {**panel_queries(), **{rule["alert"]: rule["expr"] for rule in rules()}}


def metrics_of(query: str) -> dict[str, set[str]]:
    """Metric -> labels that it is asked for by, in its braces or in the `by` around it."""
    names = re.findall(r"([a-zA-Z_:][\w:]*)(\{[^}]*\})?", re.sub(r"by \([^)]*\)", "", query))
    functions = set(re.findall(r"(\w+) ?\(", query)) | KEYWORDS
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query))))
    return {
        name: set(re.findall(r"(\w+)!?=", braces)) | grouped
        for name, braces in names
        if name not in functions and not re.fullmatch(r"[smh]", name)
    }


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_every_query_asks_for_what_is_counted(query: str) -> None:
    found = metrics_of(query)
    assert found
    for name, labels in found.items():
        assert labels <= LABELS[name], name


def test_the_parts_of_a_query_are_found() -> None:
    query = 'sum by (le) (rate(:a:b_bucket{x="1", y!="2"}[5m] offset 5m)) / absent(up{job="j"}) > 9'
    assert metrics_of(query) == {":a:b_bucket": {"x", "y", "le"}, "up": {"job", "le"}}


def test_the_embedded_server_counts_under_the_same_names() -> None:
    page = metrics_page().read_text()
    types = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page, re.M))
    assert {name: types[name] for name in COUNTERS} == dict.fromkeys(COUNTERS, "counter")
    assert {name: types[name] for name in HISTOGRAMS} == dict.fromkeys(HISTOGRAMS, "histogram")


def test_every_alert_says_what_to_do() -> None:
    for rule in rules():
        assert rule["annotations"]["summary"] and rule["annotations"]["next_step"], rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")


# === The containers ===

MONITORS = ("prometheus", "grafana", "dcgm-exporter")


@pytest.mark.parametrize("name", MONITORS)
def test_a_monitor_is_pinned_and_only_started_when_it_is_asked_for(name: str) -> None:
    service = SERVICES[name]
    assert service["profiles"] == ["monitoring"]
    assert re.search(r":v?\d+\.\d+\.\d+", service["image"])
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", MONITORS)
def test_what_is_mounted_is_there_and_read_only(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        source, _, *mode = volume.split(":")
        if source.startswith("./"):
            assert (REPOSITORY / source).is_dir() and mode == ["ro"]


def test_prometheus_finds_the_servers() -> None:
    config = yaml.safe_load((MONITORING / "prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["model-server"]["metrics_path"] == PROMETHEUS_PATH
    for name in ("serving", "serving-cpu"):
        (alias,) = SERVICES[name]["networks"]["default"]["aliases"]
        (port,) = [x.split("=")[1] for x in SERVICES[name]["command"] if "rest_api_port" in x]
        assert jobs["model-server"]["static_configs"] == [{"targets": [f"{alias}:{port}"]}]
    assert jobs["gpu"]["static_configs"] == [{"targets": ["dcgm-exporter:9400"]}]
    assert {'job="model-server"'} == set(re.findall(r'job="[^"]+"', " ".join(QUERIES.values())))


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    provisioning = MONITORING / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert SERVICES["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in (panel, *panel["targets"]):
            assert target["datasource"] == {"type": "prometheus", "uid": source["uid"]}
    mounts = dict(volume.split(":")[:2][::-1] for volume in SERVICES["grafana"]["volumes"])
    (provider,) = yaml.safe_load((provisioning / "dashboards/files.yml").read_text())["providers"]
    assert REPOSITORY / mounts[provider["options"]["path"]] == DASHBOARD.parent
    home = PurePosixPath(
        SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    )
    assert REPOSITORY / mounts[str(home.parent)] / home.name == DASHBOARD


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells


def test_the_gpus_are_asked_for_what_the_queries_need() -> None:
    lines = (MONITORING / "dcgm/counters.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines if line and not line.startswith("#")]
    assert {name for name, kind, _ in rows if kind.strip() == "gauge"} == set(DCGM)
    folder = SERVICES["dcgm-exporter"]["volumes"][0].split(":")[1]
    assert SERVICES["dcgm-exporter"]["command"] == ["--collectors", f"{folder}/counters.csv"]


# === With the real Prometheus ===

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


class _Page:
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


def metrics_page() -> _Page:
    return _Page()


@pytest.fixture
def exporter() -> Iterator[str]:
    """Host and port of the page."""
    page = metrics_page()

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
