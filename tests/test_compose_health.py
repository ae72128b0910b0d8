"""The containers' health check: a line of bash that reads the status page."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from compose_file import SERVICES, default

from segkit.contract import DEFAULT_MODEL_NAME
from segkit.serving.containers.compose import override
from segkit.serving.containers.published import PublishedModel

pytestmark = pytest.mark.skipif(
    not shutil.which("bash"), reason="the health check is a line of bash"
)
REST_PORT = "8501"


class StatusPage:
    """Stands in for the REST port: answers the model's status page with a given body."""

    def __init__(self) -> None:
        page = self
        self.status, self.body = 200, ""
        self.paths: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page.paths.append(self.path)
                self.send_response(page.status)
                self.end_headers()
                self.wfile.write(page.body.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port


@pytest.fixture
def status_page() -> Iterator[StatusPage]:
    page = StatusPage()
    thread = threading.Thread(target=page.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield page
    page.server.shutdown()
    thread.join()
    page.server.server_close()


def is_healthy(port: int) -> bool:
    kind, *command = SERVICES["serving"]["healthcheck"]["test"]
    assert kind == "CMD"
    assert command[-1].count(REST_PORT) == 1
    command[-1] = default(command[-1]).replace(REST_PORT, str(port))
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def test_the_health_check_reads_the_state_in_the_body(status_page: StatusPage) -> None:
    state = '{{ "model_version_status": [ {{ "version": "1", "state": "{}", "status": {{}} }} ] }}'
    status_page.body = state.format("AVAILABLE")
    assert is_healthy(status_page.port)
    assert status_page.paths == [f"/v1/models/{DEFAULT_MODEL_NAME}"]
    for body in (state.format("LOADING"), state.format("END"), '{ "error_code": "UNAVAILABLE" }'):
        status_page.body = body
        assert not is_healthy(status_page.port)


def test_a_server_that_does_not_listen_is_not_healthy() -> None:
    closed = StatusPage()
    closed.server.server_close()
    assert not is_healthy(closed.port)


def test_the_health_check_of_several_models_asks_for_each(status_page: StatusPage) -> None:
    models = [PublishedModel(name=x, base_path=Path(x), versions=()) for x in ("street", "night")]
    service = yaml.safe_load(override(models) or "")["services"]["serving"]
    command = service["healthcheck"]["test"][-1].replace("$$", "$")
    command = command.replace("8501", str(status_page.port))
    status_page.body = '{ "state": "AVAILABLE" }'
    assert subprocess.run(["bash", "-c", command], capture_output=True).returncode == 0
    assert status_page.paths == ["/v1/models/street", "/v1/models/night"]
    status_page.body = '{ "state": "LOADING" }'
    assert subprocess.run(["bash", "-c", command], capture_output=True).returncode == 1
