"""Traces that can be replayed."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Query, Request

from forestall.ports.trace_shelf import KeptTrace, TraceShelf
from forestall.service.api import documents as doc
from forestall.service.api.asking import OF_A_CHANGE, After, Limit, Name, OperatorOfAll, ViewerOfAll, page, router
from forestall.service.api.problems import Refused, answers

routes = router()
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
_BODY: dict[str, Any] = {"required": True, "content": {"application/octet-stream": _BYTES}}


def shelf_of(request: Request) -> TraceShelf:
    """All traces."""
    found: TraceShelf = request.app.state.traces
    return found


Traces = Annotated[TraceShelf, Depends(shelf_of)]
Label = Annotated[str, Query(max_length=256, description="What to call it.")]


@routes.post(
    "/traces",
    tags=["replays"],
    status_code=201,
    responses=answers(*OF_A_CHANGE),
    openapi_extra={"requestBody": _BODY},
)
async def put_trace(caller: OperatorOfAll, request: Request, traces: Traces, label: Label = "") -> doc.KeptTrace:
    """Give a demand trace, Parquet or CSV as `forestall replay demand` reads it, of at most 64 MiB.

    The same bytes are the same trace. It is read when it is replayed, not before.
    """
    data = await request.body()
    if not data:
        raise Refused(422, "a trace is not empty")
    return _document(await asyncio.to_thread(traces.put, data, label))


@routes.get("/traces", tags=["replays"])
def list_traces(
    caller: ViewerOfAll, traces: Traces, after: After = None, limit: Limit = 100
) -> doc.Page[doc.KeptTrace]:
    """Every trace that was given."""
    return doc.Page[doc.KeptTrace](**page([*map(_document, traces.read())], lambda each: each.name, after, limit))


@routes.delete("/traces/{name}", tags=["replays"], status_code=204, responses=answers(404, *OF_A_CHANGE))
def remove_trace(name: Name, caller: OperatorOfAll, traces: Traces) -> None:
    """Remove a trace; replays of it that were asked for have their own copy."""
    traces.remove(kept(traces, name).name)


def kept(traces: TraceShelf, name: str) -> KeptTrace:
    """A trace of that name; a problem where there is none."""
    found = next((each for each in traces.read() if each.name == name), None)
    if found is None:
        raise Refused(404, f"there is no trace {name!r}")
    return found


def _document(trace: KeptTrace) -> doc.KeptTrace:
    return doc.KeptTrace(name=trace.name, label=trace.label, size_bytes=trace.size_bytes, at=trace.at)
