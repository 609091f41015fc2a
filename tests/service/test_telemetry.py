"""A request over the API is one trace, down to the daemon's answer; nothing is sent unless it is said where to."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from daemons import Site, end, wait_until
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from test_api_process import answers, free_port

from forestall.bootstrap.telemetry import telemetry
from forestall.service.tracing import traced_answers, traced_asking


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """What comes to a collector of OTLP that the environment names: the service and the span."""
    heard: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for part in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = next(
                    each.value.string_value for each in part.resource.attributes if each.key == "service.name"
                )
                heard.extend((service, span) for scope in part.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    yield heard
    server.shutdown()
    server.server_close()


def test_a_request_is_one_trace_down_to_the_answer_of_the_daemon(
    tmp_path: Path, collector: list[tuple[str, Any]]
) -> None:
    port = free_port()
    with Site(tmp_path, vms=2) as site:
        with (tmp_path / "forestall.toml").open("a") as file:
            file.write(f'[api]\nlisten = "127.0.0.1:{port}"\n')
        daemon = site.daemon("advise", connect=f"simulated:{tmp_path}/trace.parquet")
        wait_until(answers(port), "the API answers")
        token = site.call("token", "create", "ops").stdout.strip()
        url, headers = f"http://127.0.0.1:{port}/api/v1/vms/vm-1", {"Authorization": f"Bearer {token}"}
        wait_until(lambda: httpx.get(url, headers=headers).status_code == 200, "a cycle")

        def of_request() -> list[tuple[str, Any]]:
            served = [span for _, span in collector if span.name == "GET /api/v1/vms/{vm}"]
            return [each for each in list(collector) if served and each[1].trace_id == served[-1].trace_id]

        wait_until(lambda: {service for service, _ in of_request()} >= {"forestall-api", "forestall-daemon"}, "a trace")
        by_name = {span.name: (service, span) for service, span in of_request()}
        service, answered = by_name["answer vms"]
        assert service == "forestall-daemon"
        assert answered.parent_span_id == by_name["ask vms"][1].span_id
        assert by_name["ask vms"][1].parent_span_id
        code, _ = end(daemon)
        assert code == 0
    cycles = [span for service, span in collector if span.name == "cycle" and service == "forestall-daemon"]
    facts = {each.key: each.value for each in cycles[-1].attributes}
    assert facts["forestall.mode"].string_value == "advise"
    assert facts["forestall.vms"].int_value == 2


def test_nothing_is_sent_and_nothing_said_unless_it_is_said_where_to() -> None:
    before = threading.active_count()
    with telemetry("test"):
        assert threading.active_count() == before
        asked: list[Any] = []
        assert traced_asking(lambda request: asked.append(request) or 7)({"command": "vms"}) == 7
    assert asked == [{"command": "vms"}]


def test_what_stands_in_the_environment_keeps_nothing_from_starting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "abc")
    with telemetry("test"):
        pass
    assert "spans are not sent" in capsys.readouterr().err
    code = "import forestall.service.tracing"
    subprocess.run([sys.executable, "-c", code], env={"OTEL_PROPAGATORS": "b3"}, check=True)


def test_who_takes_no_spans_does_not_hold_up_the_end() -> None:
    code = """
import sys, time
from forestall.bootstrap.telemetry import telemetry
from forestall.service.tracing import span
with telemetry("x"):
    with span("y"):
        pass
    began = time.monotonic()
sys.exit(time.monotonic() - began > 4)
"""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        there = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        subprocess.run([sys.executable, "-c", code], env=there, check=True, timeout=60)


def test_who_answers_does_not_see_where_it_was_asked_and_survives_nonsense() -> None:
    seen: list[Any] = []
    answer = traced_answers(lambda request: seen.append(request))
    for nonsense in ("", "x", 5, None, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"):
        answer({"command": "vms", "traceparent": nonsense, "tracestate": nonsense})
    assert seen == [{"command": "vms"}] * 5
