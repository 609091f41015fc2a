"""Pages of who governs: policies and what they would have done, models and how reliable they are, the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Form:
    """What somebody has written: a draft, the version that it was begun from, on how much to try it, and why it is."""

    text: str
    base: int
    span: str = "604800"
    comment: str = ""

    @classmethod
    def of(cls, request: Request) -> Form:
        """As it was sent. Browsers send ends of lines as two characters."""
        sent = form_of(request.scope)
        text = sent.get("text", "").replace("\r\n", "\n")
        base, span = sent.get("base", ""), sent.get("span", "")
        return cls(
            text if text.endswith("\n") or not text else f"{text}\n",
            int(base) if base.isascii() and base.isdigit() and len(base) < 10 else -1,
            span if span in SPANS else cls.span,
            sent.get("comment", ""),
        )


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
    form = Form(in_force.text, in_force.number)
    if version is not None:
        form = replace(form, text=policies.policy_version(version, caller, site).text)
    if draft is not None:
        form = Form(jobs.draft_of(all_jobs, draft), int(jobs.job(draft, caller, all_jobs).asked.get("against", -1)))
    return _policies(request, site, form)


@routes.get("/policies/check")
@routes.get("/policies/dry-run")
@routes.get("/policies/apply")
def back_to_policies(caller: ViewerOfAll) -> Response:
    """Who loads the answer of a form anew."""
    return after_that("/policies")


@routes.post("/policies/check")
def check(request: Request, caller: OperatorOfAll, site: Here) -> Response:
    """What a draft says, and what is probably not meant."""
    form = Form.of(request)
    return _policies(request, site, form, said=_checked(request, form.text))


@routes.post("/policies/dry-run")
def dry_run(request: Request, caller: OperatorOfAll, site: Here, all_jobs: jobs.All) -> Response:
    """Begin a dry run of a draft on what was recorded."""
    form = Form.of(request)
    said = _checked(request, form.text)
    if not said["problem"]:
        try:
            wanted = doc.NewDryRun(text=form.text, last_seconds=float(form.span), violation_budget=None)
            job = jobs.dry_run_policies(wanted, caller, request, site, all_jobs, Response())
            return after_that(f"/policies/dry-runs/{job.name}")
        except (Refused, ForestallError) as error:
            said["problem"] = f"not tried: {error}"
    return _policies(request, site, form, said=said)


@routes.get("/policies/dry-runs/{name}")
def dry_run_result(name: Name, request: Request, caller: ViewerOfAll, all_jobs: jobs.All) -> Response:
    """How far a dry run is, and what it has found."""
    job = jobs.job(name, caller, all_jobs)
    found = jobs.dry_run_result(name, caller, all_jobs) if job.state.value == "done" else None
    over = job.ended_at is not None
    return page(request, "dry_run.html", title="Dry run", job=job, found=found, over=over)


@routes.post("/policies/apply")
def apply(request: Request, caller: AdminOfAll, site: Here) -> Response:
    """Put a draft in force, if nobody else has put another in force since it was begun."""
    form = Form.of(request)
    said = _checked(request, form.text)
    if not said["problem"]:
        try:
            new = doc.NewPolicy(text=form.text, comment=form.comment)
            policies.apply_policies(new, caller, request, site, Response(), f'"{form.base}"')
            return after_that("/policies", "applied")
        except ValidationError:
            said["problem"] = "not applied: a comment has at most 500 characters"
        except (Refused, ForestallError) as error:
            said["problem"] = f"not applied: {error}"
    return _policies(request, site, form, said=said)


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


def _policies(request: Request, site: Site, form: Form, said: Mapping[str, Any] | None = None) -> Response:
    in_force = doc.Policy(**site.ask("policy"))
    versions = [doc.PolicyVersion(**each) for each in reversed(site.ask("policies"))]
    return page(
        request, "policies.html", title="Policies", in_force=in_force, form=form, versions=versions[:SHOWN_VERSIONS],
        now=_checked(request, in_force.text), said=said, spans=SPANS, status=422 if said and said["problem"] else 200,
    )  # fmt: skip


def _checked(request: Request, text: str) -> dict[str, Any]:
    """What policies say, or the problem of their text."""
    try:
        return {"found": policies.checked(request, text), "problem": ""}
    except Refused as error:
        return {"found": None, "problem": str(error)}
