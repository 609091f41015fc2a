"""Models that forecasts come from: which are in use, what they were trained on, what was refused."""

from __future__ import annotations

from fastapi import Request

from forestall.service.api import documents as doc
from forestall.service.api.asking import ViewerOfAll, router

routes = router()


@routes.get("/models", tags=["models"])
def models(caller: ViewerOfAll, request: Request) -> list[doc.Model]:
    """Every version of each resource's model, in order of time; also trainings that were refused, and why."""
    return [doc.Model(**each) for each in request.app.state.models()]
