"""Sends spans where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says, with the extra ``telemetry``."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from forestall import __version__
from forestall.bootstrap.telling import tell
from forestall.model.errors import in_one_line

END_SECONDS = 2.0
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@contextmanager
def telemetry(process: str) -> Iterator[None]:
    """Send the spans of this process while the block runs; it starts a thread."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        yield
        return
    try:
        provider = _provider(process)
    except ImportError:
        tell("spans are not sent: pip install 'forestall[telemetry]'", "warning")
        provider = None
    except Exception as error:  # what stands in the variables of OpenTelemetry must not keep anything from starting
        tell(f"spans are not sent: {in_one_line(error)}", "warning")
        provider = None
    try:
        yield
    finally:
        if provider is not None:  # who does not take them must not hold up the end
            ending = threading.Thread(target=provider.shutdown, name="telemetry", daemon=True)
            ending.start()
            ending.join(END_SECONDS)


def _provider(process: str) -> Any:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = {"service.version": __version__}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = f"forestall-{process}"
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider
