"""What takes minutes: dry runs of policies, and replays of traces; they are asked for, and looked at later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.responses import FileResponse

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
from forestall.service.api.traces import Traces, kept
from forestall.service.exports import LEARN_SECONDS
from forestall.service.jobs import Jobs, Prepare, TooManyJobs

routes = router()
DRY_RUN, REPLAY = "policy-dry-run", "replay"
DRAFT, IN_FORCE, HISTORY, RESULT = "draft.toml", "in-force.toml", "history.parquet", "result.json"
TRACE, WRITTEN = "trace", "out"


class ReplayFile(StrEnum):
    """What a replay writes."""

    SUMMARY = "summary.json"
    REPORT = "report.html"
    ALLOCATIONS = "allocations.parquet"
    RISK = "risk.parquet"


_A_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"application/octet-stream": {"schema": {"type": "string"}}}},
    **answers(404, 409),
}


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

    def prepare(folder: Path) -> Mapping[str, Any]:
        in_force = site.ask("policy")
        (folder / DRAFT).write_text(wanted.text, "utf-8")
        (folder / IN_FORCE).write_text(in_force["text"], "utf-8")
        history = site.ask("export", seconds=round(wanted.last_seconds), before_seconds=LEARN_SECONDS)
        shutil.copyfile(history["path"], folder / HISTORY)
        budget = wanted.violation_budget or history["violation_budget"]
        told = {"since": history["since"], "capacity": history["capacity"]}
        return {**told, "budget": budget, "against": in_force["number"]}

    return _answered(_submitted(jobs, DRY_RUN, caller, prepare), response)


@routes.post("/replays", tags=["replays"], status_code=202, responses=answers(404, *OF_A_CHANGE))
def replay(
    wanted: doc.NewReplay, caller: OperatorOfAll, request: Request, jobs: All, traces: Traces, response: Response
) -> doc.Job:
    """Replay the demand loop, and other systems' policies, on a trace that was given; it is a job to look at."""
    trace = kept(traces, wanted.trace)
    if wanted.policies is not None:
        checked(request, wanted.policies)

    def prepare(folder: Path) -> Mapping[str, Any]:
        file = f"{TRACE}{trace.path.suffix}"
        try:
            shutil.copyfile(trace.path, folder / file)
        except FileNotFoundError as error:
            raise Refused(404, f"there is no trace {trace.name!r} any more") from error
        if wanted.policies is not None:
            (folder / DRAFT).write_text(wanted.policies, "utf-8")
        asked = wanted.model_dump(mode="json", exclude={"policies"})
        return {**asked, "label": trace.label, "file": file, "policies": wanted.policies is not None}

    return _answered(_submitted(jobs, REPLAY, caller, prepare), response)


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
    found = _done(jobs, name, DRY_RUN)
    try:
        return doc.DryRun(**json.loads((jobs.folder(found) / RESULT).read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise StoreError(f"the result of the job {name!r} cannot be read") from error


def draft_of(jobs: Jobs, name: str) -> str:
    """The policies that a dry run tries."""
    job = _job(jobs, name)
    try:
        return (jobs.folder(job) / DRAFT).read_text("utf-8")
    except OSError as error:
        raise Refused(404, f"the job {name!r} has no draft") from error


@routes.get("/jobs/{name}/files/{file}", tags=["jobs"], response_class=FileResponse, responses=_A_FILE)
def job_file(name: Name, file: ReplayFile, caller: ViewerOfAll, jobs: All) -> FileResponse:
    """A file that a replay has written: its summary, its report (HTML), what it allocated, the risk that it stated."""
    found = _done(jobs, name, REPLAY)
    path = jobs.folder(found) / WRITTEN / file.value
    if not path.is_file():
        raise Refused(404, f"the job {name!r} has written no {file.value}")
    return FileResponse(path, filename=f"{name}-{file.value}", headers={"Content-Security-Policy": "sandbox"})


@routes.delete("/jobs/{name}", tags=["jobs"], responses=answers(404, *OF_A_CHANGE))
def cancel_job(name: Name, caller: OperatorOfAll, jobs: All) -> doc.Job:
    """Have a job not done to its end; harmless if it has ended."""
    _job(jobs, name)
    found = jobs.cancel(name)
    if found is None:
        raise Refused(404, f"there is no job {name!r}, or no longer")
    return doc.Job.of(found)


def clear_inputs(folder: Path) -> None:
    """Remove what a job that has ended was given and nobody looks at again: it may be large."""
    for path in (folder / HISTORY, *folder.glob(f"{TRACE}.*")):
        path.unlink(missing_ok=True)


def command_of(job: Job, settings: list[str]) -> list[str]:
    """Words of the command of Forestall that does a job in its folder; ``settings`` are those of the loop."""
    if job.kind not in _COMMANDS:
        raise WrongUse(f"{job.kind!r} is nothing that this version does")
    return _COMMANDS[job.kind](job.asked) + (settings if job.kind == DRY_RUN else [])


def _dry_run(asked: Mapping[str, Any]) -> list[str]:
    words = ["policy", "dry-run", DRAFT, "--trace", HISTORY, "--against", IN_FORCE, "--since", str(asked["since"])]
    if asked["capacity"]:
        shared = ",".join(f"{Resource(name).value}={amount!r}" for name, amount in asked["capacity"].items())
        words += ["--capacity", shared]
    return [*words, "--violation-budget", repr(asked["budget"]), "--out", RESULT, "--quiet", "--json"]


def _replay(asked: Mapping[str, Any]) -> list[str]:
    words = ["replay", "demand", asked["file"], "--out", WRITTEN, "--policy", asked["policy"], "--quiet"]
    words += ["--violation-budget", repr(asked["violation_budget"]), "--overcommit", repr(asked["overcommit"])]
    words += ["--vms-per-host", str(asked["vms_per_host"])]
    words += ["--evaluate-from", str(asked["evaluate_from"])] if asked["evaluate_from"] is not None else []
    words += ["--resources", ",".join(asked["resources"])] if asked["resources"] else []
    return words + (["--policies", DRAFT] if asked["policies"] else [])


_COMMANDS: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {DRY_RUN: _dry_run, REPLAY: _replay}


def _submitted(jobs: Jobs, kind: str, caller: Caller, prepare: Prepare) -> Job:
    try:
        return jobs.submit(kind, caller.name, prepare)
    except TooManyJobs as error:
        raise Refused(429, str(error), {"Retry-After": "60"}) from error


def _answered(job: Job, response: Response) -> doc.Job:
    response.headers["Location"] = f"/api/v1/jobs/{job.name}"
    return doc.Job.of(job)


def _done(jobs: Jobs, name: str, kind: str) -> Job:
    found = _job(jobs, name)
    if found.kind != kind:
        raise Refused(409, f"the job {name!r} is no {kind}, but a {found.kind}")
    if found.state is not JobState.DONE:
        raise Refused(409, f"the job {name!r} is {found.state.value}{f': {found.why}' if found.why else ''}")
    return found


def _job(jobs: Jobs, name: str) -> Job:
    found = jobs.view(name)
    if found is None:
        raise Refused(404, f"there is no job {name!r}, or no longer")
    return found
