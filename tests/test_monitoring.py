"""serving/monitoring: rules and dashboard against the names that the servers count under."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

import pytest
import yaml
from compose_file import REPOSITORY, SERVICES
from monitoring_files import (
    COUNTERS,
    DASHBOARD,
    DCGM,
    HISTOGRAMS,
    LABELS,
    MONITORING,
    MetricsPage,
    panel_queries,
    rules,
)

from segkit.serving.metrics import PROMETHEUS_PATH

KEYWORDS = {"by", "or", "and", "unless", "offset", "sum"}
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
    page = MetricsPage().read_text()
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
