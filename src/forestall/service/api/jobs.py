"""What takes minutes: dry runs of policies and replays; they are asked for, and looked at later."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from forestall.model.errors import StoreError, WrongUse
from forestall.model.resources import Resource
from forestall.ports.job_book import Job, JobState
from forestall.service.access.tokens import Caller
from forestall.service.api import documents as doc
from forestall.service.api.asking import (
    OF_A_CHANGE,
    After,
    Here,
    Limit,
    Name,
    OperatorOfAll,
    ViewerOfAll,
    page,
    router,
)
from forestall.service.api.policies import checked
from forestall.service.api.problems import Refused, answers
from forestall.service.jobs import Jobs

routes = router()
DRY_RUN = "policy-dry-run"
LEARN_SECONDS = 86_400
DRAFT, IN_FORCE, HISTORY, RESULT = "draft.toml", "in-force.toml", "history.parquet", "result.json"


def jobs_of(request: Request) -> Jobs:
    """All jobs."""
    found: Jobs = request.app.state.jobs
    return found


All = Annotated[Jobs, Depends(jobs_of)]


@routes.post("/policies/dry-runs", tags=["policies"], status_code=202, responses=answers(*OF_A_CHANGE))
def dry_run_policies(
    wanted: doc.NewDryRun, caller: OperatorOfAll, request: Request, site: Here, jobs: All, response: Response
) -> doc.Job:
    """What policies would have done with what was recorded, beside those in force; the answer is a job to look at."""
    checked(request, wanted.text)
    in_force = site.ask("policy")
    seconds = round(wanted.last_seconds)
    history: dict[str, Any] = site.ask("export", seconds=seconds, before_seconds=LEARN_SECONDS)
    capacity = {name: amount for name, amount in history["capacity"].items() if amount}
    budget = wanted.violation_budget or history["violation_budget"]
    asked = {"since": history["since"], "capacity": capacity, "budget": budget, "against": in_force["number"]}

    def prepare(folder: Path) -> None:
        (folder / DRAFT).write_text(wanted.text, "utf-8")
        (folder / IN_FORCE).write_text(in_force["text"], "utf-8")
        shutil.copyfile(history["path"], folder / HISTORY)

    return _answered(_submitted(jobs, DRY_RUN, asked, caller, prepare), response)


@routes.get("/jobs", tags=["jobs"])
def list_jobs(caller: ViewerOfAll, jobs: All, after: After = None, limit: Limit = 100) -> doc.Page[doc.Job]:
    """Every job, by name; what has ended can be looked at for a week."""
    found = sorted((doc.Job.of(job) for job in jobs.views()), key=lambda job: job.name)
    return doc.Page[doc.Job](**page(found, lambda each: each.name, after, limit))


@routes.get("/jobs/{name}", tags=["jobs"], responses=answers(404))
def job(name: Name, caller: ViewerOfAll, jobs: All) -> doc.Job:
    """One job, and how far it is."""
    return doc.Job.of(_job(jobs, name))


@routes.get("/jobs/{name}/dry-run", tags=["jobs"], responses=answers(404, 409))
def dry_run_result(name: Name, caller: ViewerOfAll, jobs: All) -> doc.DryRun:
    """What a dry run has found."""
    found = _job(jobs, name)
    if found.kind != DRY_RUN:
        raise Refused(409, f"the job {name!r} is no dry run of policies")
    if found.state is not JobState.DONE:
        raise Refused(409, f"the job {name!r} is {found.state.value}{f': {found.why}' if found.why else ''}")
    try:
        return doc.DryRun(**json.loads((jobs.folder(found) / RESULT).read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise StoreError(f"the result of the job {name!r} cannot be read") from error


@routes.delete("/jobs/{name}", tags=["jobs"], responses=answers(404, *OF_A_CHANGE))
def cancel_job(name: Name, caller: OperatorOfAll, jobs: All) -> doc.Job:
    """Have a job not done to its end; harmless if it has ended."""
    _job(jobs, name)
    found = jobs.cancel(name)
    if found is None:
        raise Refused(404, f"there is no job {name!r}, or no longer")
    return doc.Job.of(found)


def command_of(job: Job) -> list[str]:
    """Words of the command of Forestall that does a job, in its folder."""
    asked = job.asked
    if job.kind != DRY_RUN:
        raise WrongUse(f"{job.kind!r} is nothing that this version does")
    words = ["policy", "dry-run", DRAFT, "--trace", HISTORY, "--against", IN_FORCE, "--since", str(asked["since"])]
    if asked["capacity"]:
        shared = ",".join(f"{Resource(name).value}={amount!r}" for name, amount in asked["capacity"].items())
        words += ["--capacity", shared]
    return [*words, "--violation-budget", repr(asked["budget"]), "--out", RESULT, "--quiet", "--json"]


def _submitted(jobs: Jobs, kind: str, asked: dict[str, Any], caller: Caller, prepare: Any) -> Job:
    try:
        return jobs.submit(kind, asked, caller.name, prepare)
    except WrongUse as error:
        raise Refused(429, str(error), {"Retry-After": "60"}) from error


def _answered(job: Job, response: Response) -> doc.Job:
    response.headers["Location"] = f"/api/v1/jobs/{job.name}"
    return doc.Job.of(job)


def _job(jobs: Jobs, name: str) -> Job:
    found = jobs.view(name)
    if found is None:
        raise Refused(404, f"there is no job {name!r}, or no longer")
    return found
