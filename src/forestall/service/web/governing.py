"""Pages of who governs: policies and what they would have done, models and how reliable they are, the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import ValidationError

from forestall.model.errors import ForestallError
from forestall.ports.audit_log import AuditLog
from forestall.service.api import documents as doc
from forestall.service.api import jobs, models, policies
from forestall.service.api.asking import LONGEST_NAME, AdminOfAll, Here, Name, OperatorOfAll, ViewerOfAll
from forestall.service.api.browsers import form_of
from forestall.service.api.problems import Refused
from forestall.service.api.site import Site
from forestall.service.web.rendering import after_that, page, pages

routes = pages()
SHOWN_VERSIONS, OF_A_PAGE = 50, 100
SPANS = {"86400": "the last day", "604800": "the last week", "2592000": "the last 30 days"}
"""For dry runs: seconds, and how they are called."""


@routes.get("/policies")
def show_policies(
    request: Request,
    caller: ViewerOfAll,
    site: Here,
    all_jobs: jobs.All,
    version: Annotated[int | None, Query(ge=1, lt=policies.NUMBERS)] = None,
    draft: Annotated[str | None, Query(max_length=LONGEST_NAME)] = None,
    done: Annotated[str, Query(max_length=16)] = "",
) -> Response:
    """The policies in force, what they say, the versions before, and a draft: one of those, or one that was tried."""
    in_force = doc.Policy(**site.ask("policy"))
    text = in_force.text if version is None else policies.policy_version(version, caller, site).text
    if draft is not None:
        text = jobs.draft_of(all_jobs, draft)
    return _policies(request, site, in_force, text)


@routes.post("/policies/check")
def check(request: Request, caller: OperatorOfAll, site: Here) -> Response:
    """What a draft says, and what is probably not meant."""
    text = _draft(form_of(request.scope))
    return _policies(request, site, doc.Policy(**site.ask("policy")), text, said=_checked(request, text))


@routes.post("/policies/dry-run")
def dry_run(request: Request, caller: OperatorOfAll, site: Here, all_jobs: jobs.All) -> Response:
    """Begin a dry run of a draft on what was recorded."""
    form = form_of(request.scope)
    text = _draft(form)
    span = form.get("span", "604800")
    if span not in SPANS:
        raise Refused(422, f"{span!r} is no span of a dry run")
    said = _checked(request, text)
    if said["problem"]:
        return _policies(request, site, doc.Policy(**site.ask("policy")), text, said=said)
    wanted = doc.NewDryRun(text=text, last_seconds=float(span), violation_budget=None)
    job = jobs.dry_run_policies(wanted, caller, request, site, all_jobs, Response())
    return after_that(f"/policies/dry-runs/{job.name}")


@routes.get("/policies/dry-runs/{name}")
def dry_run_result(name: Name, request: Request, caller: ViewerOfAll, all_jobs: jobs.All) -> Response:
    """How far a dry run is, and what it has found."""
    job = jobs.job(name, caller, all_jobs)
    found = jobs.dry_run_result(name, caller, all_jobs) if job.state.value == "done" else None
    over = job.ended_at is not None
    return page(request, "dry_run.html", title="Dry run", job=job, found=found, over=over)


@routes.post("/policies/apply")
def apply(request: Request, caller: AdminOfAll, site: Here) -> Response:
    """Put a draft in force, if nobody else has put another in force since it was looked at."""
    form = form_of(request.scope)
    text = _draft(form)
    try:
        new = doc.NewPolicy(text=text, comment=form.get("comment", ""))
    except ValidationError as error:
        raise Refused(422, "a comment has at most 500 characters") from error
    said = _checked(request, text)
    if not said["problem"]:
        try:
            base = f'"{int(form.get("base", "-1"))}"'
            policies.apply_policies(new, caller, request, site, Response(), base)
        except (Refused, ValueError) as error:
            said["problem"] = f"not applied: {error}"
    if said["problem"]:
        return _policies(request, site, doc.Policy(**site.ask("policy")), text, said=said)
    return after_that("/policies", "applied")


@routes.get("/models")
def show_models(request: Request, caller: ViewerOfAll, site: Here) -> Response:
    """Every version of every model, and how often what was forecast came true."""
    rows = [doc.Model(**each) for each in request.app.state.models()]
    try:
        diagrams, why_not = models.reliability(caller, site), ""
    except (ForestallError, Refused) as error:
        diagrams, why_not = [], str(error)
    shown = [each for each in diagrams if any(point.share is not None for point in each.points)]
    return page(request, "models.html", title="Models", rows=rows, diagrams=shown, why_not=why_not)


@routes.get("/audit")
def audit(
    request: Request, caller: AdminOfAll, before: Annotated[int | None, Query(ge=1, lt=1 << 53)] = None
) -> Response:
    """What was asked for that changes something, and what was refused; the newest first."""
    log: AuditLog = request.app.state.audit
    newest = log.newest()
    last = newest if before is None else min(before - 1, newest)
    first = max(last - OF_A_PAGE, 0)
    entries = list(islice(log.entries(first), last - first))[::-1]
    return page(request, "audit.html", title="Audit", entries=entries, first=first, newest=newest, last=last)


def _policies(
    request: Request, site: Site, in_force: doc.Policy, text: str, said: Mapping[str, Any] | None = None
) -> Response:
    versions = [doc.PolicyVersion(**each) for each in reversed(site.ask("policies"))]
    return page(
        request, "policies.html", title="Policies", in_force=in_force, text=text, versions=versions[:SHOWN_VERSIONS],
        now=_checked(request, in_force.text), said=said, spans=SPANS,
        status=422 if said and said["problem"] else 200,
    )  # fmt: skip


def _checked(request: Request, text: str) -> dict[str, Any]:
    """What policies say, or the problem of their text."""
    try:
        return {"found": policies.checked(request, text), "problem": ""}
    except Refused as error:
        return {"found": None, "problem": str(error)}


def _draft(form: Mapping[str, str]) -> str:
    """The text of a draft: browsers send ends of lines as two characters."""
    text = form.get("text", "").replace("\r\n", "\n")
    return text if text.endswith("\n") or not text else f"{text}\n"
