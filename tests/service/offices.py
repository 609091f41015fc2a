"""An API before a real daemon: whoever has a token asks it, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from daemons import Site, wait_until

from forestall.adapters.files.audit_log import FileAuditLog
from forestall.bootstrap.api import check_policy, keeping_of
from forestall.ports.token_book import Role
from forestall.service.access.audit import chained
from forestall.service.access.tokens import Tokens
from forestall.service.api.app import api, guarded
from forestall.service.api.door import Door
from forestall.service.api.site import Asking
from forestall.service.control import ask

VMS = 6


@contextmanager
def advising(folder: Path, more: str = "", tables: str = "") -> Iterator[Site]:
    """A daemon that advises, with a second of the clock for each interval, and two trust groups, one with two VMs.

    ``more`` and ``tables`` are added to its settings.
    """
    with Site(folder, vms=VMS) as site:
        settings = folder / "forestall.toml"
        settings.write_text(more + settings.read_text() + tables)
        site.daemon("advise", connect=f"simulated:{folder}/trace.parquet")
        wait_until(
            lambda: site.state.exists() and (ask(site.state, {"command": "status"}) or {}).get("cycles"), "a cycle"
        )
        ask(site.state, {"command": "trust-group", "do": "create", "group": "tenant-1"})
        ask(site.state, {"command": "trust-group", "do": "create", "group": "tenant-2"})
        ask(site.state, {"command": "trust-group", "do": "add", "group": "tenant-1", "vms": ["vm-0", "vm-1"]})
        yield site


@dataclass
class Client:
    """Asks the application as who has this token; each answer is a whole one."""

    door: Door
    token: str = ""
    place: str = "192.0.2.1"

    def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}

        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self.door, client=(self.place, 1))  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
                return await client.request(method, path, **more)

        return asyncio.run(once())

    def get(self, path: str, **more: Any) -> Any:
        """What stands at a path."""
        found = self("GET", path, **more)
        assert found.status_code == 200, found.text
        return found.json()


@dataclass
class Office:
    """Tokens, audit log and application over a daemon."""

    tokens: Tokens
    audit: FileAuditLog
    door: Door

    def client(self, role: Role, *groups: str) -> Client:
        """Somebody with a token of this role, for all VMs or for these trust groups."""
        name = f"{role}-{'-'.join(groups) or 'all'}"
        return Client(self.door, self.tokens.issue(name, role, groups or None, 1.0, time.time()))

    def deeds(self) -> list[tuple[str, str, str]]:
        """Who, what and with which result, of the audit log."""
        return [(each.deed.who, each.deed.what, each.deed.result) for each in self.audit.entries()]


def door(asking: Asking, folder: Path) -> Door:
    """The API of who answers, with tokens and audit log in a folder."""
    return guarded(api(asking, check_policy, list), keeping_of(folder, []))


def office_of(state: Path, folder: Path) -> Office:
    """The API of the daemon of a state folder, with what it keeps in another."""
    found = door(lambda request: ask(state, request), folder)
    return Office(found.tokens, FileAuditLog(folder, chained), found)
