"""Models that forecasts come from: which are in use, what was refused; and how right forecasts have been."""

from __future__ import annotations

from fastapi import Request

from forestall.service.api import documents as doc
from forestall.service.api.asking import Here, ViewerOfAll, router

routes = router()


@routes.get("/models", tags=["models"])
def models(caller: ViewerOfAll, request: Request) -> list[doc.Model]:
    """Every version of each resource's model, in order of time; also trainings that were refused, and why."""
    return [doc.Model(**each) for each in request.app.state.models()]


@routes.get("/models/reliability", tags=["models"])
def reliability(caller: ViewerOfAll, site: Here) -> list[doc.Reliability]:
    """Which share of the outcomes of the last days lay at or below each quantile that was stated, all VMs together."""
    return [
        doc.Reliability(
            points=[
                doc.ReliabilityPoint(level=level, share=share)
                for level, share in zip(each["levels"], each["shares"], strict=True)
            ],
            **each,
        )
        for each in site.ask("reliability")
    ]
