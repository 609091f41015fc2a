"""Puts the API together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from forestall import __version__
from forestall.ports.audit_log import AuditLog
from forestall.ports.kept_answers import KeptAnswers
from forestall.ports.trace_shelf import TraceShelf
from forestall.service.access.people import is_of_a_provider
from forestall.service.access.sessions import Sessions
from forestall.service.access.tokens import Tokens
from forestall.service.api import (
    access,
    events,
    fabric,
    groups,
    hosts,
    jobs,
    metrics,
    models,
    policies,
    preallocations,
    webhooks,
)
from forestall.service.api import traces as trace_routes
from forestall.service.api.asking import Needs
from forestall.service.api.door import OPEN, Door
from forestall.service.api.hooks import Webhooks
from forestall.service.api.news import News, Sight
from forestall.service.api.once import Once
from forestall.service.api.policies import Checking
from forestall.service.api.problems import Problem, handle
from forestall.service.api.readiness import Readiness
from forestall.service.api.site import EVERYBODY, Asking, Site
from forestall.service.jobs import Jobs
from forestall.service.tracing import traced_asking
from forestall.service.web.rendering import for_people
from forestall.service.web.show import show
from forestall.service.web.sign_on import SignOn

TITLE = "Forestall"
PARTS = (hosts, policies, trace_routes, jobs, groups, fabric, models, preallocations, events, webhooks, access, metrics)
_DESCRIPTION = """\
Gives each virtual machine what it is about to need, before it asks.

Show a token: `Authorization: Bearer TOKEN` (`forestall token create`). Errors are problem details (RFC 9457).
"""


def api(asking: Asking, checking: Checking, models_of: Callable[[], list[dict[str, Any]]]) -> FastAPI:
    """The application without its door: it answers whoever the scope says, and has tokens and audit log in its state.

    Parameters
    ----------
    asking
        Asks the daemon.
    checking
        Reads policies.
    models_of
        Every version of every model, as plain values.
    """
    app = FastAPI(
        title=TITLE,
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        separate_input_output_schemas=False,
        telemetry={"operation_spans": False, "metrics": False, "logs": False},
    )
    site = Site(traced_asking(asking))
    app.state.site, app.state.checking, app.state.models = site, checking, models_of
    app.state.sight = Sight(lambda: site.hosts(EVERYBODY), lambda: site.vms(EVERYBODY))
    app.state.news = News(app.state.sight)
    handle(app)
    for part in PARTS:
        app.include_router(part.routes)

    show(app)

    @app.get("/healthz", tags=["service"])
    async def healthz() -> dict[str, str]:
        """The service itself answers."""
        return {"status": "alive"}

    readiness = Readiness(asking)

    @app.get("/readyz", tags=["service"], response_model=dict[str, str])
    async def readyz() -> Any:
        """Whether the daemon behind it answers, has looked at its host, and nothing is wrong with it."""
        why = await readiness.why_not()
        return JSONResponse({"status": "not ready", "why": why}, 503) if why else {"status": "ready"}

    _describe(app)
    return app


@dataclass(frozen=True)
class Keeping:
    """What the API keeps.

    Attributes
    ----------
    tokens, audit
        Who may come in, and what they asked for.
    answers
        Of what may be asked again.
    jobs, traces
        What takes minutes, and what can be replayed.
    webhooks
        Who is told of events.
    sign_on
        Signs in people whom a provider of identities knows; None: there is none.
    """

    tokens: Tokens
    audit: AuditLog
    answers: KeptAnswers
    jobs: Jobs
    traces: TraceShelf
    webhooks: Webhooks
    sign_on: SignOn | None = None

    def start(self, app: FastAPI) -> None:
        """Begin with what goes on by itself."""
        self.jobs.start()
        self.webhooks.start(app.state.sight)

    def close(self) -> None:
        """End it; what was cut off is begun again with the next start."""
        self.jobs.close()
        self.webhooks.close()


def guarded(app: FastAPI, keeping: Keeping) -> Door:
    """The application behind its door, with what it keeps."""
    for name in ("tokens", "audit", "jobs", "traces", "webhooks", "sign_on"):
        setattr(app.state, name, getattr(keeping, name))
    app.state.sessions = Sessions(lambda caller, now: is_of_a_provider(caller) or keeping.tokens.holds(caller, now))
    once = Once(app, keeping.answers)
    return Door(once, keeping.tokens, app.state.sessions, keeping.audit, shown=for_people)


def _describe(app: FastAPI) -> None:
    """Have the document of the API say how to come in, what each operation needs, and what a problem looks like."""
    made = app.openapi
    needed = {
        (method.lower(), route.path): dependency.call
        for part in PARTS
        for route in part.routes.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
        for dependency in route.dependant.dependencies
        if isinstance(dependency.call, Needs)
    }

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            parts = document.setdefault("components", {})
            parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    operation["security"] = [] if path in OPEN else [{"token": []}]
                    if (need := needed.get((method, path))) is not None:
                        bound = ", for all VMs" if need.everything else ""
                        operation["description"] += f"\n\nNeeds the role {need.role.value}{bound}."
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
