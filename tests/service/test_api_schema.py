"""The API keeps to its own document, whatever is asked: no answer that it does not tell of, and none of a defect."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from daemons import Site, wait_until
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

from forestall.bootstrap.api import asking_of, check_policy, keeping_of
from forestall.ports.token_book import Role
from forestall.service.access.rates import Rates
from forestall.service.api.app import api, guarded
from forestall.service.api.door import Door
from forestall.service.control import ask

ENDLESS = "/api/v1/events"
WITH_POLICIES = {f"/api/v1/{path}" for path in ("policies", "policies/check", "policies/dry-runs", "replays")}
"""Take a text of TOML, of which the schema says no more than that: most texts are refused. And versions go on."""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The API of a real daemon."""
    folder = tmp_path_factory.mktemp("schema")
    with Site(folder) as site:
        site.daemon("advise", connect=f"simulated:{folder}/trace.parquet")
        state = site.state
        wait_until(lambda: state.exists() and (ask(state, {"command": "status"}) or {}).get("cycles"), "a cycle")
        door = guarded(api(asking_of(state), check_policy, list), keeping_of(folder, []))
        door.asking, door.failing = Rates(1e6, 1e6), Rates(1e6, 1e6)
        yield door


@pytest.fixture(scope="module")
def headers(door: Door) -> dict[str, str]:
    """Of an administrator."""
    return {"Authorization": f"Bearer {door.tokens.issue('admin', Role.ADMIN, None, 1.0, time.time())}"}


@pytest.fixture(scope="module")
def document(door: Door, headers: dict[str, str]) -> Any:
    """What the API says of itself. Every request carries the token: none is made up that is refused for its own."""
    config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", door, headers=headers, config=config)


schema = schemathesis.pytest.from_fixture("document").exclude(path=ENDLESS)


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_operation_keeps_to_the_document(case: Case, headers: dict[str, str]) -> None:
    excluded = [positive_data_acceptance] if case.path in WITH_POLICIES else []
    case.call_and_validate(headers=headers, excluded_checks=excluded)
