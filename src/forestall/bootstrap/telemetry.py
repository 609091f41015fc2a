"""Sends spans where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says, with the extra ``telemetry``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from forestall import __version__
from forestall.bootstrap.telling import tell

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@contextmanager
def telemetry(process: str) -> Iterator[None]:
    """Send the spans of this process while the block runs; it starts a thread."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        tell("spans are not sent: pip install 'forestall[telemetry]'", "warning")
        yield
        return
    about = {"service.name": f"forestall-{process}", "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
