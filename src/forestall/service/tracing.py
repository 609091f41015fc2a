"""Spans of OpenTelemetry: what is asked of the daemon, its answers, and turns of the loop.

Nothing is recorded, and nothing costs anything worth telling, unless a process has begun to send spans somewhere
(:mod:`forestall.bootstrap.telemetry`). A request takes along in which span it was asked, as W3C Trace Context has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Answer = Callable[[Mapping[str, Any]], Any]
CARRIED = ("traceparent", "tracestate")
_TRACER = trace.get_tracer("forestall")
_CONTEXT = TraceContextTextMapPropagator()


def traced_asking(asking: Answer) -> Answer:
    """Asks in a span of its own, and says so to who answers."""

    def asked(request: Mapping[str, Any]) -> Any:
        command = str(request.get("command"))
        with _TRACER.start_as_current_span(f"ask {command}", kind=SpanKind.CLIENT):
            carrier: dict[str, str] = {}
            _CONTEXT.inject(carrier)
            return asking({**request, **{key: carrier[key] for key in CARRIED if key in carrier}})

    return asked


def traced_answers(answer: Answer) -> Answer:
    """Answers in a span that belongs to the one in which it was asked."""

    def answered(request: Mapping[str, Any]) -> Any:
        carrier = {key: value for key in CARRIED if isinstance(value := request.get(key), str)}
        own = {key: value for key, value in request.items() if key not in CARRIED}
        parent = _CONTEXT.extract(carrier) if carrier else None
        with _TRACER.start_as_current_span(f"answer {own.get('command')}", parent, SpanKind.SERVER):
            return answer(own)

    return answered


def span(name: str) -> AbstractContextManager[Span]:
    """A span around the block."""
    return _TRACER.start_as_current_span(name)
