"""Errors as problem details (RFC 9457): one form for all, also for those of the framework."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from forestall.model.errors import BadInput, ForestallError, WrongUse

_log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What is wrong."""

    type: str = Field("about:blank", description="about:blank: the title says it all.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What is wrong in this case, in one line.")
    errors: list[str] = Field(default_factory=list, description="Where: a part of the request and what is wrong there.")


class Refused(Exception):
    """A request is answered with a problem.

    Parameters
    ----------
    status
        Of HTTP.
    detail
        One line.
    headers
        Beside it.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def problem(
    status: int, detail: str, *, errors: list[str] | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer."""
    content = Problem(
        type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or []
    )
    return JSONResponse(content.model_dump(), status, dict(headers or {}), MEDIA_TYPE)


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the document of the API: these statuses are problems."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def handle(app: FastAPI) -> None:
    """Answer all errors so."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return problem(error.status, error.detail, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request))
        return problem(error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        return problem(422, f"the request is not as it must be: {errors[0]}", errors=errors[:100])

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s: a defect", request.method, request.url.path, exc_info=error)
        return problem(500, "a defect of Forestall; its log has more")

    @app.exception_handler(ForestallError)
    async def own(_: Request, error: ForestallError) -> JSONResponse:
        return problem(409 if isinstance(error, WrongUse | BadInput) else 503, str(error))


def _methods(app: FastAPI, request: Request) -> list[str]:
    """What can be done at a path, by all routes that have it."""
    found: set[str] = set()
    for route in app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)
