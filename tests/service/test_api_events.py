"""What changes is told to whoever listens and may know of it, once, and nothing is missed unseen."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from daemons import Site, wait_until

from forestall.adapters.https.open_server import open_server
from forestall.adapters.https.server import listen
from forestall.bootstrap.api import asking_of, check_policy, keeping_of
from forestall.model.mode import Mode
from forestall.ports.token_book import Role
from forestall.service.access.tokens import Caller
from forestall.service.api import news as module
from forestall.service.api.app import api, guarded
from forestall.service.api.documents import Host, Vm, VmResource
from forestall.service.api.news import Event, Look, News, Sight, changes
from forestall.service.control import ask

ALL, TENANT = Caller("all", Role.VIEWER), Caller("tenant", Role.VIEWER, frozenset({"t1"}))


def host(cycles: int, mode: str = "advise", fault: str = "", lost: str = "") -> Host:
    return Host.model_validate(
        {
            "name": "h",
            "connect": "",
            "version": "",
            "mode": mode,
            "asked": "advise",
            "fault": fault,
            "lost": lost,
            "cycles": cycles,
            "cycle_seconds": 0.1,
            "step_seconds": 10,
            "uptime_seconds": 1.0,
            "last_at": cycles,
            "policy_version": 0,
            "vms": 0,
            "altered": [],
            "pools": [],
        }
    )


def vm(name: str, group: str = "", *, altered: bool = False) -> Vm:
    resource = VmResource.model_validate(
        {
            **dict.fromkeys(("seen", "demand", "in_force", "limit", "wanted", "risk", "lease_left_seconds")),
            "resource": "cpu",
            "unit": "cores",
            "quantiles": {},
            "mode": Mode.ADVISE,
            "altered": altered,
            "ruling": "accepted",
            "reason": "",
        }
    )
    return Vm(name=name, host="h", trust_group=group, risk=None, resources=[resource])


def look(cycles: int, *vms: Vm, **more: str) -> Look:
    return Look({"h": host(cycles, **more)}, {each.name: each for each in vms})


def kinds(before: Look, after: Look) -> list[str]:
    return [event.kind for event in changes(before, after)]


def test_what_has_changed_is_told_and_nothing_else() -> None:
    assert kinds(look(1, vm("a")), look(1, vm("a"))) == []
    assert kinds(look(1, vm("a")), look(2, vm("a"))) == ["cycle"]
    assert kinds(look(1, vm("a")), look(2, vm("b"))) == ["vm-started", "vm-stopped", "cycle"]
    assert kinds(look(1, vm("a")), look(2, vm("a", altered=True))) == ["vm-altered", "cycle"]
    assert kinds(look(1, vm("a", altered=True)), look(2, vm("a"))) == ["vm-restored", "cycle"]
    assert kinds(look(1), look(1, mode="observe", fault="stale", lost="gone")) == ["mode", "fault", "contact"]
    assert kinds(look(1, fault="stale"), look(1)) == ["fault"]


def told(looks: list[Look], caller: Caller, count: int, after: str | None = None) -> list[tuple[str, Event]]:
    """The first events that somebody hears while these looks come one after the other."""
    left = iter(looks)
    now = [looks[0]]

    def hosts() -> list[Host]:
        now[0] = next(left, now[0])
        return list(now[0].hosts.values())

    news = News(Sight(hosts, lambda: list(now[0].vms.values())))
    return asyncio.run(heard(news, caller, count, after))


async def heard(news: News, caller: Caller, count: int, after: str | None = None) -> list[tuple[str, Event]]:
    found = []
    async with asyncio.timeout(30.0):
        async for each in news.heard(caller, after, lambda: True):
            found.append(each)
            if len(found) == count:
                break
    return found


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)


def test_who_is_for_a_trust_group_hears_of_its_vms_only() -> None:
    looks = [look(1), look(2, vm("a", "t1"), vm("b", "t2"), vm("c")), look(3, vm("b", "t2", altered=True))]
    everything = [event.kind for _, event in told(looks, ALL, 8)]
    assert everything == ["reset", *["vm-started"] * 3, "cycle", "vm-altered", "vm-stopped", "vm-stopped"]
    mine = [(event.kind, event.data.get("vm")) for _, event in told(looks, TENANT, 5)]
    assert mine == [("reset", None), ("vm-started", "a"), ("cycle", None), ("vm-stopped", "a"), ("cycle", None)]


def test_who_comes_again_misses_nothing_and_who_missed_something_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 8)
    cycles = iter(range(1, 1_000_000))
    news = News(Sight(lambda: [host(next(cycles))], list))

    async def come_and_go() -> None:
        first = await heard(news, ALL, 4)
        other = asyncio.create_task(heard(news, ALL, 400))  # somebody listens meanwhile
        again = await heard(news, ALL, 3, after=first[-1][0])
        counted = [event.data["cycles"] for _, event in [*first[1:], *again]]
        assert counted == list(range(counted[0], counted[0] + len(counted)))
        await asyncio.sleep(0.5)
        late = await heard(news, ALL, 2, after=first[-1][0])
        assert late[0][1].kind == "reset"
        assert (await heard(news, ALL, 1, after="another-7"))[0][1].kind == "reset"
        assert (await heard(news, ALL, 1, after="nonsense"))[0][1].kind == "reset"
        other.cancel()

    asyncio.run(come_and_go())
    assert news.listeners.total() == 0


def test_a_stream_of_a_real_daemon_ends_with_its_token(tmp_path: Path) -> None:
    with Site(tmp_path) as site, closing(listen("127.0.0.1", 0)) as door:
        site.daemon("advise", connect=f"simulated:{tmp_path}/trace.parquet")
        keeping, state = keeping_of(tmp_path, []), site.state
        tokens = keeping.tokens
        server = open_server(guarded(api(asking_of(state), check_policy, list), keeping))
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            wait_until(lambda: state.exists() and (ask(state, {"command": "status"}) or {}).get("cycles"), "a cycle")
            token = tokens.issue("page", Role.VIEWER, None, 1.0, time.time())
            seen = []
            with httpx.stream(
                "GET",
                f"http://127.0.0.1:{door.getsockname()[1]}/api/v1/events",
                headers={"Authorization": f"Bearer {token}"},
                timeout=60.0,
            ) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                for line in stream.iter_lines():
                    kind, _, said = line.partition(": ")
                    if kind in ("event", "data"):
                        seen.append(said)
                    if seen.count("cycle") == 2 and kind == "data":
                        tokens.revoke("page")
            assert seen[0] == "reset"
            assert json.loads(seen[seen.index("cycle") + 1])["cycles"] > 0
            assert seen.count("cycle") <= 4, "it ends soon"
        finally:
            server.should_exit = True
            thread.join()
