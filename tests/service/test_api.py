"""The API before a real daemon: what it gives, to whom, and what is written down of it."""

from __future__ import annotations

import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from daemons import wait_until
from offices import VMS, Client, Office, door, office_of
from prometheus_client.parser import text_string_to_metric_families

from forestall.adapters.files.kept_answers import NAME, FileKeptAnswers
from forestall.model.errors import StoreError
from forestall.model.forecast import LEVELS
from forestall.ports.kept_answers import Answer
from forestall.ports.token_book import Role
from forestall.service.access.audit import verified
from forestall.service.access.rates import Rates
from forestall.service.api.door import LONGEST_BODY, MOST_UPLOADS
from forestall.service.control import ask


def test_hosts_and_their_vms(office: Office) -> None:
    viewer = office.client(Role.VIEWER)
    (host,) = viewer.get("/api/v1/hosts")["items"]
    assert host["vms"] == VMS
    assert {pool["resource"] for pool in host["pools"]} == {"cpu", "memory"}
    assert viewer.get(f"/api/v1/hosts/{host['name']}")["name"] == host["name"]
    found = viewer.get("/api/v1/vms")
    assert [vm["name"] for vm in found["items"]] == [f"vm-{k}" for k in range(VMS)]
    assert found["next"] is None
    vm = viewer.get("/api/v1/vms/vm-0")
    assert (vm["host"], vm["trust_group"]) == (host["name"], "tenant-1")
    assert [each["resource"] for each in vm["resources"]] == ["cpu", "memory"]
    assert vm["resources"][0]["limit"] == 4.0


def test_a_list_comes_in_parts(office: Office) -> None:
    viewer, names, after = office.client(Role.VIEWER), [], None
    for _ in range(4):
        part = viewer.get("/api/v1/vms", params={"limit": 2} | ({"after": after} if after else {}))
        names += [vm["name"] for vm in part["items"]]
        after = part["next"]
        if after is None:
            break
    assert names == [f"vm-{k}" for k in range(VMS)]
    assert [vm["name"] for vm in viewer.get("/api/v1/vms", params={"group": "tenant-1"})["items"]] == ["vm-0", "vm-1"]
    assert viewer.get("/api/v1/vms", params={"host": "elsewhere"})["items"] == []


def test_a_decision_is_told_with_what_led_to_it(office: Office) -> None:
    viewer = office.client(Role.VIEWER)
    wait_until(lambda: viewer("GET", "/api/v1/vms/vm-0/decisions").json(), "a decision")
    decision = viewer.get("/api/v1/vms/vm-0/decisions")[0]
    assert decision["vm_id"] == "vm-0"
    assert decision["reason"]
    assert decision["quantiles"]


def test_who_is_for_a_trust_group_sees_its_vms_and_no_others(office: Office) -> None:
    scoped = office.client(Role.OPERATOR, "tenant-1")
    assert [vm["name"] for vm in scoped.get("/api/v1/vms")["items"]] == ["vm-0", "vm-1"]
    assert [each["group"] for each in scoped.get("/api/v1/trust-groups")["items"]] == ["tenant-1"]
    for method, path in (
        ("GET", "/api/v1/vms/vm-2"),
        ("GET", "/api/v1/vms/vm-2/decisions"),
        ("POST", "/api/v1/vms/vm-2/restore"),
        ("POST", "/api/v1/vms/vm-2/resume"),
        ("GET", "/api/v1/trust-groups/tenant-2"),
        ("PATCH", "/api/v1/trust-groups/tenant-2"),
    ):
        found = scoped(method, path, json={"shadowing": True} if method == "PATCH" else None)
        unknown = scoped(method, path.replace("vm-2", "vm-99").replace("tenant-2", "tenant-99"), json={})
        assert (found.status_code, unknown.status_code) == (404, 404), "nor does it learn that it is there"
    (seen,) = scoped.get("/api/v1/hosts")["items"]
    assert (seen["vms"], seen["pools"]) == (2, []), "nor how many there are, and what they do together"
    host = seen["name"]
    assert scoped("POST", f"/api/v1/hosts/{host}/restore").status_code == 403
    assert scoped("POST", "/api/v1/vms/vm-0/restore").status_code == 200
    assert scoped("POST", "/api/v1/vms/vm-0/resume").json() == {"resumed": ["vm-0"]}


def test_trust_groups_are_changed(office: Office) -> None:
    admin = office.client(Role.ADMIN)
    made = admin("POST", "/api/v1/trust-groups", json={"group": "tenant-9"})
    assert (made.status_code, made.json()["members"]) == (201, [])
    assert admin("PUT", "/api/v1/trust-groups/tenant-9/members/vm-5").json()["vms"] == ["vm-5"]
    changed = admin("PATCH", "/api/v1/trust-groups/tenant-9", json={"shadowing": True, "horizon_seconds": 30})
    assert (changed.json()["shadowing"], changed.json()["horizon_seconds"]) == (True, 30.0)
    assert admin.get("/api/v1/vms/vm-5")["trust_group"] == "tenant-9"
    assert admin("DELETE", "/api/v1/trust-groups/tenant-9/members/vm-5").json()["vms"] == []
    assert admin("DELETE", "/api/v1/trust-groups/tenant-9").status_code == 204
    assert admin("GET", "/api/v1/trust-groups/tenant-9").status_code == 404
    assert admin("POST", "/api/v1/trust-groups", json={"group": "tenant-1"}).status_code == 409


FILLED = {"host": "nowhere", "vm": "vm-none", "group": "none", "name": "none", "number": 9, "file": "summary.json"}


def routes(office: Office) -> list[tuple[str, str, str]]:
    """Every operation of the document: method, path with names filled in, and path as it is written."""
    found = []
    for path, operations in office.door.application.application.openapi()["paths"].items():  # type: ignore[attr-defined]
        filled = (
            path.format(host="nowhere", vm="vm-none", group="none", name="none", number=9, file="summary.json")
            if "{" in path
            else path
        )
        found += [(method.upper(), filled, path) for method in operations]
    return found


NEEDED = {
    ("POST", "/api/v1/hosts/{host}/restore"): (Role.OPERATOR, True),
    ("POST", "/api/v1/hosts/{host}/resume"): (Role.OPERATOR, True),
    ("POST", "/api/v1/vms/{vm}/restore"): (Role.OPERATOR, False),
    ("POST", "/api/v1/vms/{vm}/resume"): (Role.OPERATOR, False),
    ("PATCH", "/api/v1/trust-groups/{group}"): (Role.OPERATOR, False),
    ("POST", "/api/v1/trust-groups"): (Role.ADMIN, True),
    ("DELETE", "/api/v1/trust-groups/{group}"): (Role.ADMIN, True),
    ("PUT", "/api/v1/trust-groups/{group}/members/{vm}"): (Role.ADMIN, True),
    ("DELETE", "/api/v1/trust-groups/{group}/members/{vm}"): (Role.ADMIN, True),
    ("POST", "/api/v1/preallocations"): (Role.OPERATOR, False),
    ("DELETE", "/api/v1/preallocations/{name}"): (Role.OPERATOR, False),
    ("GET", "/api/v1/policies"): (Role.VIEWER, True),
    ("GET", "/api/v1/policies/versions"): (Role.VIEWER, True),
    ("GET", "/api/v1/policies/versions/{number}"): (Role.VIEWER, True),
    ("POST", "/api/v1/policies/check"): (Role.OPERATOR, True),
    ("PUT", "/api/v1/policies"): (Role.ADMIN, True),
    ("POST", "/api/v1/policies/dry-runs"): (Role.OPERATOR, True),
    ("GET", "/api/v1/jobs"): (Role.VIEWER, True),
    ("GET", "/api/v1/jobs/{name}"): (Role.VIEWER, True),
    ("GET", "/api/v1/jobs/{name}/dry-run"): (Role.VIEWER, True),
    ("DELETE", "/api/v1/jobs/{name}"): (Role.OPERATOR, True),
    ("GET", "/api/v1/traces"): (Role.VIEWER, True),
    ("POST", "/api/v1/traces"): (Role.OPERATOR, True),
    ("DELETE", "/api/v1/traces/{name}"): (Role.OPERATOR, True),
    ("POST", "/api/v1/replays"): (Role.OPERATOR, True),
    ("GET", "/api/v1/jobs/{name}/files/{file}"): (Role.VIEWER, True),
    ("GET", "/api/v1/models"): (Role.VIEWER, True),
    ("GET", "/api/v1/models/reliability"): (Role.VIEWER, True),
    ("GET", "/api/v1/fabric"): (Role.VIEWER, True),
    ("GET", "/api/v1/fabric/plan"): (Role.VIEWER, True),
    ("GET", "/api/v1/fabric/links/{name}"): (Role.VIEWER, True),
    ("POST", "/api/v1/fabric/apply"): (Role.OPERATOR, True),
    ("GET", "/api/v1/hosts/{host}/loop"): (Role.VIEWER, True),
    ("GET", "/api/v1/webhooks"): (Role.ADMIN, True),
    ("POST", "/api/v1/webhooks"): (Role.ADMIN, True),
    ("DELETE", "/api/v1/webhooks/{name}"): (Role.ADMIN, True),
    ("GET", "/api/v1/tokens"): (Role.ADMIN, True),
    ("GET", "/api/v1/audit"): (Role.ADMIN, True),
}
"""What needs more than to be a viewer: the role, and whether it is about all VMs."""
OPEN = {"/healthz", "/readyz"}
ENDLESS = "/api/v1/events"
"""Goes on while somebody listens; whoever has a token may."""
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/v1/trust-groups"): {"json": {"group": "none"}},
    ("POST", "/api/v1/preallocations"): {"json": {"vm": "vm-none", "size_bytes": 1}},
    ("PATCH", "/api/v1/trust-groups/{group}"): {"json": {}},
    ("POST", "/api/v1/policies/check"): {"json": {"text": ""}},
    ("PUT", "/api/v1/policies"): {"json": {"text": ""}},  # without If-Match
    ("POST", "/api/v1/policies/dry-runs"): {"json": {"text": "wrong"}},
    ("POST", "/api/v1/replays"): {"json": {"trace": "none"}},
}


def test_every_route_needs_what_it_is_meant_to_need(office: Office) -> None:
    """Each operation of the document, for each role, bound to a trust group or not, and for nobody."""
    office.door.asking, office.door.failing = Rates(1e6, 1e6), Rates(1e6, 1e6)
    callers = {
        (role, bound): office.client(role, *(["tenant-1"] if bound else [])) for role in Role for bound in (0, 1)
    }
    nobody = Client(office.door)
    seen = routes(office)
    assert {(method, path) for method, _, path in seen} >= NEEDED.keys()
    for method, filled, path in seen:
        body = BODIES.get((method, path), {})
        assert (nobody(method, filled, **body).status_code == 401) == (path not in OPEN), f"{method} {path}"
        needed, of_all = NEEDED.get((method, path), (Role.VIEWER, False))
        if path == ENDLESS:
            continue
        for (role, bound), client in callers.items():
            if path == "/api/v1/trust-groups" and method == "POST" and role is Role.ADMIN and not bound:
                continue  # it would make one
            status = client(method, filled, **body).status_code
            allowed = role.covers(needed) and not (of_all and bound)
            assert (status == 403) != allowed, f"{method} {path} as {role}, bound {bound}: {status}"
            assert status < 500


CEILING = """\
[[rule]]
name = "databases"
vms = ["vm-0"]
ceiling_ratio = {ratio}
"""


def test_policies_are_applied_by_who_has_seen_the_newest(office: Office) -> None:
    admin, path = office.client(Role.ADMIN), "/api/v1/policies"
    before = admin("GET", path)
    number, tag = before.json()["number"], before.headers["ETag"]
    assert admin("GET", path, headers={"If-None-Match": f'"x", W/{tag}'}).status_code == 304
    new = {"text": CEILING.format(ratio=0.75), "comment": "more for the databases"}
    assert admin("PUT", path, json=new).status_code == 428
    done = admin("PUT", path, json=new, headers={"If-Match": tag})
    assert done.status_code == 200, done.text
    assert (done.json()["number"], done.json()["by"], done.json()["text"]) == (number + 1, "admin-all", new["text"])
    late = admin("PUT", path, json={"text": ""}, headers={"If-Match": tag})
    assert (late.status_code, late.headers["ETag"]) == (412, done.headers["ETag"])
    assert admin("PUT", path, json={"text": ""}, headers={"If-Match": "nonsense"}).status_code == 412
    assert admin.get(path) == done.json(), "nothing has changed"
    part = admin.get(f"{path}/versions", params={"limit": 1})
    newest = part["items"]
    seen = [newest[0]["number"]]
    while part["next"]:
        part = admin.get(f"{path}/versions", params={"limit": 1, "after": part["next"]})
        seen += [each["number"] for each in part["items"]]
    assert seen == list(range(number + 1, 0, -1)), "all, the newest first"
    assert newest == [{key: value for key, value in done.json().items() if key != "text"}]
    assert admin.get(f"{path}/versions/{number + 1}") == done.json()
    assert admin("GET", f"{path}/versions/{number + 2}").status_code == 404

    def in_force() -> bool:
        decisions = admin("GET", "/api/v1/vms/vm-0/decisions").json()
        return any("databases" in each["policies"] for each in decisions)

    wait_until(in_force, "a cycle with the rule")
    assert admin("GET", path, headers={"If-None-Match": "*"}).status_code == 304
    several = {"If-Match": f'"{number}", "{number + 1}"', "Idempotency-Key": "once"}
    again = admin("PUT", path, json={"text": ""}, headers=several)
    assert (again.status_code, again.json()["number"]) == (200, number + 2)
    twice = admin("PUT", path, json={"text": ""}, headers=several)
    assert (twice.json(), twice.headers["ETag"]) == (again.json(), again.headers["ETag"])
    other = admin("PUT", path, json={"text": ""}, headers={**several, "If-Match": "*"})
    assert other.status_code == 422, "the key was used for something else"
    assert admin("PUT", path, json={"text": CEILING}, headers={"If-Match": '"1", "2"'}).status_code == 422
    late = {"If-Match": f'"{number}", "{number + 1}"'}
    assert admin("PUT", path, json={"text": new["text"]}, headers=late).status_code == 412


def test_a_policy_that_cannot_be_read_is_refused_with_its_line(office: Office) -> None:
    admin, path = office.client(Role.ADMIN), "/api/v1/policies"
    before = admin.get(path)
    for refused in (
        admin("PUT", path, json={"text": CEILING.format(ratio=7)}, headers={"If-Match": "*"}),
        admin("POST", f"{path}/check", json={"text": CEILING.format(ratio=7)}),
    ):
        assert refused.status_code == 422
        assert "line 4" in refused.json()["detail"]
        assert "databases" in refused.json()["detail"]
    assert admin.get(path) == before
    fine = admin("POST", f"{path}/check", json={"text": CEILING.format(ratio=0.5)}).json()
    assert fine["rules"][0]["sets"] == {"ceiling_ratio": 0.5}
    assert admin("PUT", path, json={"text": "", "comment": "two\nlines"}, headers={"If-Match": "*"}).status_code == 409


def test_traces_are_kept_as_they_were_given(office: Office) -> None:
    operator, path = office.client(Role.OPERATOR), "/api/v1/traces"
    large = b"x" * (LONGEST_BODY + 1)
    assert operator("POST", "/api/v1/preallocations", content=large).status_code == 413
    given = operator("POST", path, params={"label": "last week"}, content=large)
    assert given.status_code == 201, given.text
    trace = given.json()
    assert (trace["label"], trace["size_bytes"]) == ("last week", len(large))
    assert operator("POST", path, content=large).json() == trace, "the same bytes are the same trace"
    assert operator.get(path)["items"] == [trace]
    viewer, bound = office.client(Role.VIEWER), office.client(Role.OPERATOR, "tenant-1")
    for client in (viewer, bound):
        assert client("POST", path, content=large).status_code == 413, "nor is it taken in"
    assert operator("POST", "/api/v1/replays", json={"trace": "../../tokens"}).status_code == 404
    assert operator("DELETE", f"{path}/{trace['name']}").status_code == 204
    assert operator.get(path)["items"] == []
    assert operator("DELETE", f"{path}/{trace['name']}").status_code == 404


def test_a_secret_is_not_answered_twice(office: Office) -> None:
    admin, once = office.client(Role.ADMIN), {"Idempotency-Key": "w"}
    new = {"name": "desk", "url": "http://127.0.0.1:9/"}
    made = admin("POST", "/api/v1/webhooks", json=new, headers=once)
    assert made.status_code == 201
    again = admin("POST", "/api/v1/webhooks", json=new, headers=once)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (409, "true")
    assert made.json()["secret"] not in again.text
    assert "secret" not in admin.get("/api/v1/webhooks")["items"][0]
    assert admin("DELETE", "/api/v1/webhooks/desk").status_code == 204


def test_answers_of_an_earlier_version_are_read(state: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME)) as database:
        database.execute(
            "CREATE TABLE answer (caller TEXT NOT NULL, key TEXT NOT NULL, at REAL NOT NULL, fingerprint TEXT NOT NULL,"
            " status INTEGER, media_type TEXT, body BLOB, PRIMARY KEY (caller, key))"
        )
        database.execute("INSERT INTO answer VALUES ('a', 'k', ?, 'f', 200, 'x', x'01')", (time.time(),))
        database.commit()
    kept = FileKeptAnswers(tmp_path).begin("a", "k", "f", time.time())
    assert kept is not None
    assert kept.answer == Answer(200, "x", b"\x01")
    operator = office_of(state, tmp_path).client(Role.OPERATOR)
    assert operator("POST", "/api/v1/vms/vm-0/resume", headers={"Idempotency-Key": "k"}).status_code == 200


def test_only_a_few_large_bodies_are_on_their_way_at_once(office: Office) -> None:
    operator = office.client(Role.OPERATOR)
    office.door.uploads = MOST_UPLOADS
    assert operator("POST", "/api/v1/traces", content=b"x").status_code == 429
    office.door.uploads -= 1
    assert operator("POST", "/api/v1/traces", content=b"x").status_code == 201
    assert office.door.uploads == MOST_UPLOADS - 1


def test_what_changes_something_is_written_down_before_and_after(office: Office) -> None:
    operator = office.client(Role.OPERATOR)
    operator("POST", "/api/v1/vms/vm-3/restore")
    operator("POST", "/api/v1/vms/vm-3/resume")
    operator("POST", "/api/v1/vms/vm-99/resume")
    operator("GET", "/api/v1/vms")
    operator("GET", "/api/v1/audit")
    who = "operator-all"
    assert office.deeds() == [
        (who, "POST /api/v1/vms/vm-3/restore", "asked"),
        (who, "POST /api/v1/vms/vm-3/restore", "200"),
        (who, "POST /api/v1/vms/vm-3/resume", "asked"),
        (who, "POST /api/v1/vms/vm-3/resume", "200"),
        (who, "POST /api/v1/vms/vm-99/resume", "asked"),
        (who, "POST /api/v1/vms/vm-99/resume", "404"),
        (who, "GET /api/v1/audit", "403"),
    ]
    assert verified(office.audit.entries()) is not None
    admin = office.client(Role.ADMIN)
    part = admin.get("/api/v1/audit", params={"limit": 3})
    assert [each["result"] for each in part["items"]] == ["asked", "200", "asked"]
    rest = admin.get("/api/v1/audit", params={"after": part["next"]})
    assert [each["sequence"] for each in rest["items"]] == [4, 5, 6, 7]


def test_what_cannot_be_written_down_is_not_done(office: Office, tmp_path: Path) -> None:
    operator = office.client(Role.OPERATOR)
    (tmp_path / "audit.jsonl").write_bytes(b"damaged\n")
    assert operator("POST", "/api/v1/vms/vm-4/restore").status_code == 503
    (tmp_path / "audit.jsonl").unlink()
    assert operator("POST", "/api/v1/vms/vm-4/resume").json() == {"resumed": []}, "it was never left alone"


def key(name: str) -> dict[str, Any]:
    return {"headers": {"Idempotency-Key": name}}


def test_what_is_asked_twice_with_one_key_is_done_once(office: Office) -> None:
    admin = office.client(Role.ADMIN)
    first, again = (admin("POST", "/api/v1/trust-groups", json={"group": "once"}, **key("a")) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201), "the second would be refused: it is there"
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    assert [result for _, _, result in office.deeds()] == ["asked", "201", "asked", "201 as before"]
    for _ in range(2):
        assert admin("DELETE", "/api/v1/trust-groups/once", **key("b")).status_code == 204
    assert admin("DELETE", "/api/v1/trust-groups/once").status_code == 404


def test_a_key_is_for_one_thing_of_one_caller(office: Office, tmp_path: Path) -> None:
    operator, admin = office.client(Role.OPERATOR), office.client(Role.ADMIN)
    assert operator("POST", "/api/v1/vms/vm-3/resume", **key("a")).status_code == 200
    assert operator("POST", "/api/v1/vms/vm-4/resume", **key("a")).status_code == 422
    assert admin("POST", "/api/v1/vms/vm-4/resume", **key("a")).status_code == 200
    assert admin("POST", "/api/v1/vms/vm-4/resume", **key("x" * 129)).status_code == 400
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_what_was_refused_is_not_kept_and_another_token_of_the_name_has_keys_of_its_own(office: Office) -> None:
    viewer = office.client(Role.VIEWER)
    assert viewer("POST", "/api/v1/vms/vm-3/resume", **key("a")).status_code == 403
    operator = office.client(Role.OPERATOR)
    assert operator("POST", "/api/v1/vms/vm-3/resume", **key("b")).status_code == 200
    office.tokens.revoke("operator-all")
    less = Client(office.door, office.tokens.issue("operator-all", Role.OPERATOR, ["tenant-2"], 1.0, time.time()))
    assert less("POST", "/api/v1/vms/vm-3/resume", **key("b")).status_code == 404


def test_what_nobody_knows_whether_it_was_done_is_not_done_again(office: Office, state: Path, tmp_path: Path) -> None:
    def late(request: Any) -> Any:
        if request["command"] == "resume":
            raise StoreError("the daemon does not answer: timed out")
        return ask(state, request)

    operator = office.client(Role.OPERATOR)
    assert (
        Client(door(late, tmp_path), operator.token)("POST", "/api/v1/vms/vm-3/resume", **key("a")).status_code == 503
    )
    assert operator("POST", "/api/v1/vms/vm-3/resume", **key("a")).status_code == 409


def test_what_was_begun_when_the_api_died_is_not_done_again(office: Office, state: Path, tmp_path: Path) -> None:
    def dies(request: Any) -> Any:
        if request["command"] == "resume":
            raise KeyboardInterrupt
        return ask(state, request)

    operator = office.client(Role.OPERATOR)
    dying = Client(door(dies, tmp_path), operator.token)
    with pytest.raises(BaseException):  # noqa: B017  (whichever way it dies)
        dying("POST", "/api/v1/vms/vm-3/resume", **key("a"))
    assert operator("POST", "/api/v1/vms/vm-3/resume", **key("a")).status_code == 409
    assert operator("POST", "/api/v1/vms/vm-3/resume", **key("b")).status_code == 200


def test_what_could_not_be_done_can_be_tried_again_with_the_same_key(office: Office, tmp_path: Path) -> None:
    operator = office.client(Role.OPERATOR)
    away = Client(door(lambda request: None, tmp_path), operator.token)
    assert away("POST", "/api/v1/vms/vm-3/resume", **key("a")).status_code == 503
    assert operator("POST", "/api/v1/vms/vm-3/resume", **key("a")).status_code == 200


def test_what_the_api_knows_of_a_vm_over_time(office: Office) -> None:
    viewer = office.client(Role.VIEWER, "tenant-1")
    forecast = viewer.get("/api/v1/vms/vm-0/forecasts")[0]
    assert forecast["resource"] == "cpu"
    assert all(len(target["quantiles"]) == len(forecast["levels"]) for target in forecast["targets"])
    assert {target["statistic"] for target in forecast["targets"]} >= {"peak"}
    now = int(time.time())
    asked = {"since": now - 60, "until": now + 1, "resolution": "raw"}
    history = viewer.get("/api/v1/vms/vm-0/history", params=asked)
    assert [each["resource"] for each in history] == ["cpu", "memory"]
    assert len(history[0]["at"]) == len(history[0]["mean"]) == len(history[0]["peak"]) == 61
    assert any(value is not None for value in history[0]["mean"])
    assert viewer("GET", "/api/v1/vms/vm-2/history", params=asked).status_code == 404
    assert viewer("GET", "/api/v1/vms/vm-0/history", params=asked | {"since": 0}).status_code == 409
    assert viewer("GET", "/api/v1/vms/vm-0/history", params=asked | {"resolution": "1s"}).status_code == 422


def test_how_reliable_forecasts_were(office: Office, state: Path) -> None:
    def due() -> bool:
        told = ask(state, {"command": "reliability"})
        return all(each["outcomes"] for each in told if each["steps"] == 1)

    wait_until(due, "a forecast that is due")
    found = office.client(Role.VIEWER).get("/api/v1/models/reliability")
    means, hours = ([each for each in found if each["steps"] == steps] for steps in (1, 3_600))
    assert [each["resource"] for each in means] == [each["resource"] for each in hours] == ["cpu", "memory"]
    assert {(each["statistic"], each["step_seconds"]) for each in means} == {("mean", 1)}
    for each in means:
        shares = [point["share"] for point in each["points"]]
        assert [point["level"] for point in each["points"]] == list(LEVELS)
        assert shares == sorted(shares)
        assert 0.0 <= shares[0] <= shares[-1] <= 1.0
    for each in hours:
        assert (each["statistic"], each["outcomes"]) == ("peak", 0.0), "of a peak within an hour nothing is known yet"
        assert {point["share"] for point in each["points"]} == {None}


def test_a_token_that_does_not_hold_lets_nobody_in(office: Office) -> None:
    made = office.tokens.issue("gone", Role.ADMIN, None, 1.0, time.time() - 2 * 86_400.0)
    for token in (made, "forestall_000000000000_" + "x" * 43, "x", ""):
        found = Client(office.door, token)("GET", "/api/v1/hosts")
        assert found.status_code == 401
        assert found.headers["content-type"] == "application/problem+json"
        assert found.headers["www-authenticate"] == "Bearer"
    office.tokens.issue("basic", Role.ADMIN, None, 1.0, time.time())
    assert Client(office.door)("GET", "/api/v1/hosts", auth=("basic", "x")).status_code == 401


def test_who_tries_tokens_is_stopped_and_others_are_not(office: Office) -> None:
    guessing = Client(office.door, "forestall_000000000000_" + "x" * 43, place="192.0.2.66")
    statuses = [guessing("GET", "/api/v1/hosts").status_code for _ in range(14)]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429
    known = office.client(Role.VIEWER)
    known.place = guessing.place
    assert known("GET", "/api/v1/me").status_code == 200
    assert len(office.deeds()) == 10, "nor is the log filled"


def test_who_asks_all_the_time_is_told_to_wait(office: Office) -> None:
    office.door.asking = Rates(1.0, 5.0)
    busy, calm = office.client(Role.VIEWER), office.client(Role.OPERATOR)
    answers = [busy("GET", "/api/v1/me") for _ in range(8)]
    assert [each.status_code for each in answers].count(429) >= 2
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert calm("GET", "/api/v1/me").status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/vms/..%2f..%2fetc%2fpasswd", 404),
        ("/api/v1/../../etc/passwd", 404),
        ("/api/v1/vms/" + "x" * 300, 422),
        ("/api/v1/vms?limit=0", 422),
        ("/api/v1/vms?limit=10000000", 422),
        ("/api/v1/vms?min_risk=nan", 422),
        ("/api/v1/vms?grop=tenant-1", 422),
        ("/api/v1/vms?limit=1&limit=2", 422),
        ("/api/v1/vms/vm-0/decisions?at=-1", 422),
        ("/api/v1/vms/vm-0/decisions?at=99999999999999999999", 422),
        ("/api/v1/vms/%00", 404),
        ("/nowhere", 404),
    ],
)
def test_nonsense_is_a_problem(office: Office, path: str, status: int) -> None:
    found = office.client(Role.ADMIN)("GET", path)
    assert found.status_code == status
    assert found.headers["content-type"] == "application/problem+json"
    assert found.json()["status"] == status
    assert found.json()["detail"]


def test_bodies_have_an_end(office: Office) -> None:
    admin = office.client(Role.ADMIN)
    assert admin("POST", "/api/v1/trust-groups", content=b"x" * (LONGEST_BODY + 1)).status_code == 413

    async def without_length() -> Any:
        for _ in range(LONGEST_BODY // 65_536 + 1):
            yield b"x" * 65_536

    assert admin("POST", "/api/v1/trust-groups", content=without_length()).status_code == 413
    deep = b'{"group": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert admin("POST", "/api/v1/trust-groups", content=deep).status_code == 422


def test_without_a_daemon_nobody_can_tell(tmp_path: Path) -> None:
    office = office_of(tmp_path, tmp_path)
    viewer = office.client(Role.VIEWER)
    assert viewer("GET", "/api/v1/hosts").status_code == 503
    assert viewer("GET", "/readyz").json() == {"status": "not ready", "why": "no daemon runs"}
    assert viewer("GET", "/healthz").status_code == 200


def test_ready_when_the_daemon_is(office: Office) -> None:
    found = Client(office.door)("GET", "/readyz")
    assert (found.status_code, found.json()) == (200, {"status": "ready"})


def test_prometheus_reads_what_the_loop_says(office: Office) -> None:
    text = office.client(Role.VIEWER)("GET", "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text.text)}
    assert families.keys() >= {
        *("forestall_mode", "forestall_fault", "forestall_contact_lost", "forestall_cycles", "forestall_vms"),
        *("forestall_cycle_duration_seconds", "forestall_newest_interval_timestamp_seconds"),
        *("forestall_host_demand_cores", "forestall_host_in_force_bytes", "forestall_host_price"),
        *("forestall_vm_demand_cores", "forestall_vm_limit_bytes", "forestall_vm_forecast_cores"),
        *("forestall_vm_risk_probability", "forestall_vm_altered", "forestall_policy_version", "forestall_jobs"),
    }, "names that dashboards rely on"
    limits = {s.labels["vm"]: s.value for s in families["forestall_vm_limit_cores"].samples}
    assert limits == {f"vm-{k}": 4.0 for k in range(VMS)}
    modes = {s.labels["mode"]: s.value for s in families["forestall_mode"].samples}
    assert modes == {"observe": 0.0, "advise": 1.0, "canary": 0.0, "enforce": 0.0}
    scoped = office.client(Role.VIEWER, "tenant-1")("GET", "/metrics").text
    assert 'vm="vm-1"' in scoped
    assert 'vm="vm-2"' not in scoped
    assert "forestall_jobs" not in scoped, "they are about all VMs"
    assert Client(office.door)("GET", "/metrics").status_code == 401
    as_open_metrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
    assert office.client(Role.ADMIN)("GET", "/metrics", headers=as_open_metrics).text.endswith("# EOF\n")
