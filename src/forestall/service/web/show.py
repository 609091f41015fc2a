"""Adds the pages to the application of the API."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from forestall.service.api.browsers import STATIC
from forestall.service.web import entrance, fleet, governing, network, sign_on, staging
from forestall.service.web.rendering import MADE


def show(app: FastAPI) -> None:
    """Add every page, and what they look like."""
    for part in (entrance, sign_on, fleet, staging, network, governing):
        app.include_router(part.routes)
    app.mount(STATIC.rstrip("/"), StaticFiles(directory=MADE, check_dir=False), name="static")
