"""The pages before a real daemon: who may see and do what, and what strangers' sites and names cannot."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from daemons import Site, wait_until
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from offices import Client, Office, door, office_of

from forestall.adapters.files.audit_log import FileAuditLog
from forestall.ports.token_book import Role
from forestall.service.access.audit import chained, verified
from forestall.service.access.rates import Rates
from forestall.service.access.sessions import SESSION_SECONDS
from forestall.service.api.browsers import back_to
from forestall.service.api.door import LONGEST_FORM, Door
from forestall.service.control import ask
from forestall.service.web import entrance, fleet, governing, network, staging
from forestall.service.web.rendering import HEADERS, made

PAGE = {"Accept": "text/html,application/xhtml+xml"}
HERE = {"Origin": "http://api", **PAGE}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
MARK = re.compile(r'name="csrf" content="([^"]+)"')


@dataclass
class Browser:
    """Keeps its cookies, follows nothing, and shows what a browser shows."""

    door: Door
    place: str = "192.0.2.1"
    scheme: str = "http"
    cookies: dict[str, str] = field(default_factory=dict)
    mark: str = ""

    def __call__(self, method: str, path: str, *, headers: Mapping[str, str] = HERE, **more: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self.door, client=(self.place, 1))  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url=f"{self.scheme}://api") as client:
                cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
                return await client.request(method, path, headers={**headers, **cookie}, **more)

        found = asyncio.run(once())
        for line in found.headers.get_list("set-cookie"):
            name, _, rest = line.partition("=")
            self.cookies[name] = rest.partition(";")[0].strip('"')
        return found

    def page(self, path: str) -> str:
        """What a page says; what it gives to show with changes is remembered."""
        found = self("GET", path)
        assert found.status_code == 200, found.text
        if known := MARK.search(found.text):
            self.mark = known[1]
        return found.text

    def sign_in(self, token: str, there: str = "/") -> httpx.Response:
        return self("POST", "/login", data={"token": token, "next": there})

    def submit(self, path: str, **fields: str) -> httpx.Response:
        """Send a form of a page."""
        return self("POST", path, data={**fields, "csrf": self.mark})


def browser(office: Office, role: Role, *groups: str) -> Browser:
    """Somebody who has signed in, and has looked at the first page."""
    found = Browser(office.door)
    assert found.sign_in(office.client(role, *groups).token).status_code == 303
    found.page("/")
    return found


def host_of(state: Path) -> str:
    return str((ask(state, {"command": "status"}) or {})["host"])


def test_nobody_is_sent_to_sign_in_and_back(office: Office) -> None:
    nobody = Browser(office.door)
    assert nobody("GET", "/vms/a%3Fb%25%23").headers["location"] == "/login?next=%2Fvms%2Fa%253Fb%2525%2523"
    sent = nobody("GET", "/vms?q=a%26b&order=name")
    assert sent.status_code == 303
    assert sent.headers["location"] == "/login?next=%2Fvms%3Fq%3Da%2526b%26order%3Dname"
    form = nobody.page(sent.headers["location"])
    assert 'value="/vms?q=a%26b&amp;order=name"' in form
    came = nobody.sign_in(office.client(Role.VIEWER).token, "/vms?q=a%26b&order=name")
    assert (came.status_code, came.headers["location"]) == (303, "/vms?q=a%26b&order=name")
    assert nobody("GET", "/api/v1/me").json()["name"] == "viewer-all", "the API knows them, too"
    assert Browser(office.door)("GET", "/api/v1/vms").status_code == 401, "programs are told, not sent"


def test_the_cookie_is_for_nobody_but_the_browser(office: Office) -> None:
    token = office.client(Role.VIEWER).token
    said = Browser(office.door).sign_in(token).headers["set-cookie"]
    assert said.startswith("forestall=")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(said.split("; "))
    assert token not in said
    secret = Browser(office.door, scheme="https")
    said = secret("POST", "/login", headers={**HERE, "Origin": "https://api"}, data={"token": token}).headers[
        "set-cookie"
    ]
    assert said.startswith("__Host-forestall=")
    assert {"Secure", "HttpOnly", "Path=/"} <= set(said.split("; "))
    assert "Domain" not in said
    in_the_clear = Browser(office.door, cookies=secret.cookies)
    assert in_the_clear("GET", "/").status_code == 303


def test_a_token_that_does_not_hold_signs_nobody_in(office: Office) -> None:
    nobody = Browser(office.door)
    for wrong in ("", "forestall_0_0", "x" * 500):
        back = nobody.sign_in(wrong, "/vms")
        assert back.headers["location"] == "/login?why=wrong&next=%2Fvms"
    assert "does not hold" in nobody.page(back.headers["location"])
    assert not nobody.cookies
    assert nobody.sign_in("y" * 2 * LONGEST_FORM).status_code == 413
    office.door.failing = Rates(0.1, 1.0)
    answers = [nobody.sign_in("wrong").headers["location"] for _ in range(3)]
    assert [answer.partition("&")[0] for answer in answers] == [
        "/login?why=wrong",
        "/login?why=often",
        "/login?why=often",
    ]
    assert nobody.sign_in(office.client(Role.VIEWER).token).headers["location"] == "/", "who has one is not held up"


def test_strangers_pages_sign_nobody_in_and_change_nothing(office: Office, state: Path) -> None:
    """Login CSRF: the victim would work as the attacker; CSRF: the attacker would work as the victim."""
    token, mine = office.client(Role.ADMIN).token, browser(office, Role.OPERATOR)
    for origin in ("http://evil", "null", "http://api.evil", "http://api:81", "http://[x", ""):
        headers = {**PAGE, "Origin": origin}
        stranger = Browser(office.door)
        back = stranger("POST", "/login", headers=headers, data={"token": token})
        assert back.headers["location"].startswith("/login?why=elsewhere")
        assert not stranger.cookies
        done = mine("POST", f"/hosts/{host_of(state)}/restore", headers=headers, data={"csrf": mine.mark})
        assert done.status_code == 403
    path = f"/hosts/{host_of(state)}/resume"
    for data in ({}, {"csrf": ""}, {"csrf": "x" * 43}):
        assert mine("POST", path, data=data).status_code == 403
    assert mine("POST", f"/api/v1/hosts/{host_of(state)}/resume").status_code == 403, "the API is not laxer"
    assert mine("PUT", "/api/v1/policies", json={"text": ""}).status_code == 403
    before = [deed for deed in office.deeds() if deed[1].endswith(path)]
    assert {result for _, _, result in before} == {"403"}
    assert mine.submit(path).status_code == 303
    with_header = mine("POST", f"/api/v1/hosts/{host_of(state)}/resume", headers={**HERE, "X-CSRF-Token": mine.mark})
    assert with_header.status_code == 200
    other = browser(office, Role.VIEWER, "tenant-1")
    assert mine("POST", path, data={"csrf": other.mark}).status_code == 403, "the mark of another session"


def test_a_session_ends_when_it_is_to(office: Office) -> None:
    client = office.client(Role.VIEWER)
    ann, clock = Browser(office.door), [time.time()]
    ann.sign_in(client.token)
    ann.page("/")
    kept = dict(ann.cookies)
    out = ann.submit("/logout")
    assert (out.status_code, out.headers["location"]) == (303, "/login")
    assert ann.cookies["forestall"] == ""
    ann.cookies = kept
    assert ann("GET", "/").status_code == 303, "it is ended here, not only forgotten there"
    ann.sign_in(client.token)
    office.door.now = lambda: clock[0]
    ann.page("/")
    clock[0] += SESSION_SECONDS + 1.0
    assert ann("GET", "/").status_code == 303
    office.door.now = time.time
    ann.sign_in(client.token)
    ann.page("/")
    office.tokens.revoke("viewer-all")
    assert ann("GET", "/").status_code == 303, "it ends with the token"


def test_who_shows_a_token_that_does_not_hold_is_not_who_signed_in(office: Office) -> None:
    ann = browser(office, Role.ADMIN)
    assert ann("GET", "/api/v1/me", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert ann("GET", "/", headers={**PAGE, "Authorization": "Basic eDp5"}).status_code == 401


@given(st.one_of(st.text(max_size=40), st.sampled_from(["//evil", "/\\evil", "https://evil", "/\t/evil", "/ok?x=//y"])))
def test_after_signing_in_one_is_on_a_page_of_ours(there: str) -> None:
    found = back_to(there)
    assert found.startswith("/")
    assert not re.match(r"/[/\\\t\r\n]", found)
    assert found in (there, "/")


# Each page and each form: the role that it needs, and whether it is about all VMs.
PAGES: dict[tuple[str, str], tuple[Role, bool]] = {
    ("POST", "/logout"): (Role.VIEWER, False),
    ("GET", "/"): (Role.VIEWER, False),
    ("GET", "/vms"): (Role.VIEWER, False),
    ("GET", "/hosts/{host}"): (Role.VIEWER, False),
    ("POST", "/hosts/{host}/{what}"): (Role.OPERATOR, True),
    ("GET", "/vms/{vm}"): (Role.VIEWER, False),
    ("POST", "/vms/{vm}/{what}"): (Role.OPERATOR, False),
    ("GET", "/staging"): (Role.VIEWER, False),
    ("POST", "/staging/{group:path}/{what}"): (Role.OPERATOR, False),
    ("GET", "/network"): (Role.VIEWER, True),
    ("GET", "/network/links/{name}"): (Role.VIEWER, True),
    ("GET", "/policies"): (Role.VIEWER, True),
    ("POST", "/policies/check"): (Role.OPERATOR, True),
    ("POST", "/policies/dry-run"): (Role.OPERATOR, True),
    ("GET", "/policies/dry-runs/{name}"): (Role.VIEWER, True),
    ("POST", "/policies/apply"): (Role.ADMIN, True),
    ("GET", "/policies/check"): (Role.VIEWER, True),
    ("GET", "/policies/dry-run"): (Role.VIEWER, True),
    ("GET", "/policies/apply"): (Role.VIEWER, True),
    ("GET", "/models"): (Role.VIEWER, True),
    ("GET", "/audit"): (Role.ADMIN, True),
}
ROUTES = [
    (method, route.path)
    for part in (entrance, fleet, staging, network, governing)
    for route in part.routes.routes
    if isinstance(route, APIRoute) and route.path != "/login"
    for method in route.methods
]


def test_every_page_needs_what_it_is_meant_to_need(office: Office, state: Path) -> None:
    office.door.asking = office.door.changing = Rates(1e6, 1e6)
    names = {"host": "nowhere", "vm": "vm-none", "what": "resume", "group": "none", "name": "none"}
    assert set(ROUTES) == PAGES.keys()
    for role in Role:
        for bound in (False, True):
            groups, token = ["tenant-1"] if bound else [], None
            token = office.client(role, *groups).token
            for (method, path), (needed, of_all) in PAGES.items():
                ann = Browser(office.door)
                ann.sign_in(token)
                ann.page("/")
                text = {"text": "wrong"} if path.startswith("/policies") else {}
                there = path.replace(":path", "").format(**names)
                found = ann.submit(there, **text) if method == "POST" else ann("GET", there)
                allowed = role.covers(needed) and not (of_all and bound)
                assert (found.status_code == 403) != allowed, f"{method} {path} as {role}, bound {bound}"
                assert found.status_code < 500 or path.startswith("/network"), found.text
                assert "text/html" in found.headers.get("content-type", "text/html")
    nobody = Browser(office.door)
    for method, path in PAGES:
        sent = nobody(method, path.replace(":path", "").format(**names))
        assert sent.status_code == (303 if method == "GET" else 401)


class Tags(HTMLParser):
    """What in a page would be run, or drawn, against the policy of its headers, and what its links are."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        names = dict(attrs)
        self.wrong += [f"{tag} {name}" for name in names if name.startswith("on") or name == "style"]
        if tag in ("script", "link"):
            self.wrong += (
                [tag] if not (names.get("src") or names.get("href") or "").startswith(("/static/", "data:,")) else []
            )
        for name in ("href", "src", "action"):
            if (names.get(name) or "").lower().startswith(("javascript:", "http:", "https:", "//")):
                self.wrong.append(f"{tag} {name}={names[name]}")


def paths(state: Path) -> list[str]:
    return [
        "/",
        "/vms",
        f"/hosts/{host_of(state)}",
        "/vms/vm-0",
        "/staging",
        "/network",
        "/policies",
        "/models",
        "/audit",
    ]


def test_pages_run_nothing_but_our_script_and_are_framed_by_nobody(office: Office, state: Path) -> None:
    ann = browser(office, Role.ADMIN)
    for path in [*paths(state), "/login", "/hosts/nowhere"]:
        found = ann("GET", path)
        said = {name: found.headers.get(name) for name in (*HEADERS, "X-Content-Type-Options")}
        assert said == {**HEADERS, "X-Content-Type-Options": "nosniff"}, path
        tags = Tags()
        tags.feed(found.text)
        assert tags.wrong == [], path
        assert {"main", "h1", "html"} <= tags.tags
    assert "'unsafe" not in HEADERS["Content-Security-Policy"]


def test_names_are_text_whoever_made_them_up(state: Path, tmp_path: Path) -> None:
    """VM names, trust groups, reasons and errors come from guests and tenants."""

    def hostile(value: Any) -> Any:
        if isinstance(value, str):
            return HOSTILE if value in ("vm-0", "tenant-1") or " " in value else value
        if isinstance(value, list):
            return [hostile(each) for each in value]
        return {key: hostile(each) for key, each in value.items()} if isinstance(value, dict) else value

    found = door(
        lambda request: hostile(ask(state, {**request, "vm": "vm-0"} if request.get("vm") else request)), tmp_path
    )
    office = Office(found.tokens, FileAuditLog(tmp_path, chained), found)
    ann = browser(office, Role.ADMIN)
    seen = 0
    for path in [*paths(state), f"/vms?q={'<script>'}", "/policies?version=1"]:
        text = ann("GET", path).text
        assert "<script>alert" not in text, path
        assert "<img" not in text, path
        seen += "&lt;script&gt;alert(1)" in text
    assert seen >= 4, "they are shown, as text"


def test_a_vm_is_explained(office: Office, state: Path) -> None:
    text = browser(office, Role.VIEWER).page("/vms/vm-0")
    assert "tenant-1" in text
    assert "4 cores" in text
    assert re.search(r"Would hold [0-9.]+ cores of 4 cores: ", text)
    assert "Who was trusted" in text
    assert "csrf" in text
    assert "/vms/vm-0/restore" not in text, "a viewer has nothing to change"
    assert "/vms/vm-0/restore" in browser(office, Role.OPERATOR).page("/vms/vm-0")


def test_who_is_for_a_trust_group_sees_its_vms_and_no_others(office: Office, state: Path) -> None:
    ann = browser(office, Role.OPERATOR, "tenant-1")
    for path in ("/", "/vms", f"/hosts/{host_of(state)}", "/staging"):
        text = ann.page(path)
        assert "vm-1" in text, path
        assert "vm-2" not in text, path
        assert "tenant-2" not in text, path
        assert 'href="/policies"' not in text
    assert ann("GET", "/vms/vm-2").status_code == 404
    assert ann.submit("/vms/vm-2/restore").status_code == 404
    assert ann.submit("/staging/tenant-2/on").status_code == 404


def test_vms_are_found_and_come_in_parts(office: Office) -> None:
    ann = browser(office, Role.VIEWER)
    assert re.findall(r'<a href="/vms/(vm-\d)">', ann.page("/vms?q=TENANT-1&order=name")) == ["vm-0", "vm-1"]
    assert "vm-0" not in ann.page("/vms?q=vm-5")
    assert ann("GET", "/vms?ordr=name").status_code == 422, "what is misspelt is not all that there is"
    assert ann("GET", "/vms?order=size").status_code == 422
    assert ann("GET", "/vms?part=99999").status_code == 200


def test_a_vm_is_put_back_and_looked_after_again(office: Office, state: Path) -> None:
    ann = browser(office, Role.OPERATOR)
    put_back = ann.submit("/vms/vm-3/restore")
    assert (put_back.status_code, put_back.headers["location"]) == (303, "/vms/vm-3?done=restored")
    assert "left alone until it is resumed" in ann.page("/vms/vm-3?done=restored")
    assert ann.submit("/vms/vm-3/resume").headers["location"] == "/vms/vm-3?done=resumed"
    assert ann.submit("/vms/vm-3/explode").status_code == 404
    assert ("operator-all", "POST /vms/vm-3/restore", "303") in office.deeds()


def test_a_group_is_staged_for_and_is_not_any_more(office: Office, state: Path) -> None:
    def group(name: str) -> Any:
        return next(each for each in ask(state, {"command": "trust-groups"}) or [] if each["group"] == name)

    ann = browser(office, Role.OPERATOR)
    assert ann.submit("/staging/tenant-2/on").status_code == 303
    assert group("tenant-2")["shadowing"]
    assert ann.submit("/staging/tenant-2/off").status_code == 303
    assert not group("tenant-2")["shadowing"]
    assert ann.submit("/staging/tenant-2/horizon", seconds="12.5").status_code == 303
    assert group("tenant-2")["horizon_seconds"] == 12.5
    for wrong in ("", "soon", "nan", "-1", "1e9"):
        assert ann.submit("/staging/tenant-2/horizon", seconds=wrong).status_code == 422
    assert ann.submit("/staging/tenant-2/sideways").status_code == 404


POLICY = '[[rule]]\r\nname = "small"\r\nvms = ["vm-4"]\r\nceiling_ratio = {ratio}\r\n'


def test_policies_are_checked_and_applied_by_who_has_seen_the_newest(office: Office, state: Path) -> None:
    ann = browser(office, Role.ADMIN)
    number = int((ask(state, {"command": "policy"}) or {})["number"])
    checked = ann.submit("/policies/check", text=POLICY.format(ratio=0.5))
    assert checked.status_code == 200
    assert "1 rules, 0 doubts" in checked.text
    wrong = ann.submit("/policies/check", text=POLICY.format(ratio=5))
    assert wrong.status_code == 422
    assert "line" in wrong.text
    assert "name = &#34;small&#34;" in wrong.text, "what was written is not lost"
    late = ann.submit("/policies/apply", text=POLICY.format(ratio=0.5), base=str(number + 7), comment="late & <b>")
    assert late.status_code == 422
    assert "not applied" in late.text
    assert 'value="late &amp; &lt;b&gt;"' in late.text, "why is not lost, either"
    assert f'name="base" value="{number + 7}"' in late.text, "and is not applied by being sent again"
    assert f"Apply over version {number}" in late.text
    tried = ann.submit("/policies/check", text=POLICY.format(ratio=0.5), base=str(number), span="86400", comment="c")
    assert '<option value="86400" selected>' in tried.text
    assert 'value="c"' in tried.text
    done = ann.submit("/policies/apply", text=POLICY.format(ratio=0.5), base=str(number), comment="less <b>")
    assert (done.status_code, done.headers["location"]) == (303, "/policies?done=applied")
    in_force = ask(state, {"command": "policy"}) or {}
    assert in_force["text"] == POLICY.format(ratio=0.5).replace("\r\n", "\n")
    assert (in_force["by"], in_force["comment"]) == ("admin-all", "less <b>")
    text = ann.page("/policies?done=applied")
    assert f"Version {in_force['number']} is in force" in text
    assert "less &lt;b&gt;" in text
    for base in ("", "x", "-1"):
        assert ann.submit("/policies/apply", text="", base=base).status_code == 422
    assert ann.submit("/policies/apply", text="", base=str(in_force["number"]), comment="x" * 501).status_code == 422
    assert ann.submit("/policies/dry-run", text="wrong").status_code == 422
    begun = ann.submit("/policies/check", text="", base=str(number)).text
    assert f"was put in force since this draft was begun from version {number}" in begun
    assert ann("GET", "/policies/apply").headers["location"] == "/policies", "who loads an answer anew"
    assert "readonly" in browser(office, Role.VIEWER).page("/policies")


def test_secrets_are_written_down_nowhere(office: Office, state: Path) -> None:
    client = office.client(Role.ADMIN)
    ann = Browser(office.door)
    ann.sign_in(client.token)
    ann.sign_in("forestall_0123456789ab_" + "w" * 43)
    ann.page("/")
    ann.submit("/staging/tenant-2/horizon", seconds="10")
    ann("POST", "/policies/check", data={"csrf": ann.mark, "text": ""})
    entries = list(office.audit.entries())
    assert ("admin-all", "POST /login", "signed in") in office.deeds()
    assert ("", "POST /login", "401") in office.deeds()
    assert any("seconds=10" in str(each.deed.detail) for each in entries), "what was asked for is"
    for secret in (client.token.rsplit("_", 1)[1], "w" * 43, ann.mark, ann.cookies["forestall"]):
        assert secret not in "".join(map(str, entries))
    assert verified(iter(entries)) is not None
    assert "signed in" in ann.page("/audit")


def test_the_log_is_shown_with_the_newest_first(office: Office) -> None:
    for k in range(130):
        office.client(Role.VIEWER)
        office.tokens.revoke("viewer-all")
        office.door.noting = Rates(1e6, 1e6)
        office.door.failing = Rates(1e6, 1e6)
        Browser(office.door).sign_in(f"wrong {k}")
    ann = browser(office, Role.ADMIN)
    newest = office.audit.newest()
    assert newest == sum(1 for _ in office.audit.entries())
    rows = [int(each) for each in re.findall(r'<th scope="row">(\d+)</th>', ann.page("/audit"))]
    assert rows == list(range(newest, newest - 100, -1))
    older = [int(each) for each in re.findall(r'<th scope="row">(\d+)</th>', ann.page(f"/audit?before={rows[-1]}"))]
    assert older == list(range(newest - 100, 0, -1))


@pytest.mark.skipif(not made(), reason="the pages are not built: make pages")
def test_script_and_style_are_given_to_anybody_and_nothing_else(office: Office) -> None:
    nobody = Browser(office.door)
    for name in ("pages.js", "pages.css", "theme.js"):
        assert nobody("GET", f"/static/{name}").status_code == 200, "make pages"
    for path in (
        "/static/%2e%2e/words.py",
        "/static/..%2fwords.py",
        "/static//etc/passwd",
        "/static/",
    ):
        assert nobody("GET", path).status_code == 404, path
    assert nobody("POST", "/static/pages.js").status_code == 401


def test_without_a_daemon_pages_say_so(tmp_path: Path) -> None:
    found = door(lambda request: None, tmp_path)
    ann = Browser(found)
    ann.sign_in(Office(found.tokens, FileAuditLog(tmp_path, chained), found).client(Role.ADMIN).token)
    for path in ("/", "/vms", "/staging", "/policies"):
        answer = ann("GET", path)
        assert answer.status_code == 503, path
        assert "no daemon runs here" in answer.text
    assert "forestall fabric run" in ann.page("/network")
    assert "There is no model" in ann.page("/models")


def test_a_dry_run_is_waited_for_and_says_what_would_have_been_different(tmp_path: Path) -> None:
    with Site(tmp_path, vms=5) as site:
        site.daemon("advise")

        def cycles() -> int:
            return (ask(site.state, {"command": "status"}) or {}).get("cycles", 0) if site.state.exists() else 0

        wait_until(lambda: cycles() > 300, "a day of history")
        office = office_of(site.state, tmp_path / "api")
        jobs = office.door.application.application.state.jobs  # type: ignore[attr-defined]
        jobs.start()
        try:
            ann = browser(office, Role.OPERATOR)
            sent = ann.submit("/policies/dry-run", text=POLICY.format(ratio=0.2), span="86400")
            there = sent.headers["location"]
            assert (sent.status_code, there[:19]) == (303, "/policies/dry-runs/")
            wait_until(lambda: "data-poll" not in ann.page(there), "it is over")
            assert re.search(r'<a href="/vms/vm-4">vm-4</a></th><td class="text">CPU</td>', ann.page(there))
            assert "small" in ann.page(f"/policies?draft={there[19:]}"), "one goes on with the draft"
            assert ann("GET", "/policies/dry-runs/none").status_code == 404
            assert ann("GET", "/policies?draft=..%2f..").status_code == 404
        finally:
            jobs.close()


def test_a_token_in_a_header_needs_no_mark(office: Office, state: Path) -> None:
    client: Client = office.client(Role.OPERATOR)
    assert client("POST", "/vms/vm-3/resume").status_code == 303


def test_problems_are_pages_for_people_and_problems_for_programs(office: Office) -> None:
    ann, nobody = browser(office, Role.VIEWER), Browser(office.door)
    found = [
        (ann("GET", "/nowhere"), 404),
        (ann("GET", "/vms/vm-none"), 404),
        (ann.submit("/hosts/nowhere/restore"), 403),
        (ann("POST", "/vms/vm-0/restore", data={"csrf": "wrong"}), 403),
        (nobody("POST", "/vms/vm-0/restore", data={"csrf": "wrong"}), 401),
        (ann("DELETE", "/vms/vm-0", headers={**HERE, "X-CSRF-Token": ann.mark}), 405),
    ]
    office.door.asking = Rates(0.1, 0.0)
    found.append((ann("GET", "/vms"), 429))
    for answer, status in found:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.headers.get_list("content-security-policy") == [HEADERS["Content-Security-Policy"]]
        assert f"Status {status}" in answer.text
    assert found[-1][0].headers["retry-after"]
    assert '<a href="/login">Sign in</a>' in found[4][0].text
    plain = nobody("GET", "/api/v1/vms")
    assert plain.headers["content-type"] == "application/problem+json"
    assert plain.headers["x-content-type-options"] == "nosniff"
    assert nobody("HEAD", "/nowhere").status_code == 303


def office_where(state: Path, folder: Path, **answers: Any) -> Office:
    """As the daemon's, but for answers to some commands."""
    found = door(lambda request: answers.get(request["command"]) or ask(state, request), folder)
    return Office(found.tokens, FileAuditLog(folder, chained), found)


def test_what_could_not_be_put_back_is_said_with_every_reason(state: Path, tmp_path: Path) -> None:
    left = {"restored": ["vm-0"], "left": [["vm-1", "libvirt does not answer"], ["vm-2", "<gone>"]]}
    office = office_where(state, tmp_path, restore=left, resume={"resumed": []})
    ann = browser(office, Role.OPERATOR)
    for path in (f"/hosts/{host_of(state)}", "/vms/vm-1"):
        found = ann.submit(f"{path}/restore")
        assert found.status_code == 409
        assert "vm-1: libvirt does not answer; vm-2: &lt;gone&gt;" in found.text
        assert ann.submit(f"{path}/resume").headers["location"] == f"{path}?done=looked-after"
        assert "nobody was left alone" in ann.page(f"{path}?done=looked-after")


def test_a_stream_ends_with_the_session(office: Office) -> None:
    """Not only with the token: who has signed out is told nothing more."""
    ann = browser(office, Role.VIEWER)
    found: list[str] = []

    async def listened() -> None:
        async with asyncio.timeout(60.0):
            scope = {
                "type": "http", "method": "GET", "path": "/api/v1/events", "query_string": b"", "http_version": "1.1",
                "client": ("192.0.2.1", 1), "scheme": "http",
                "headers": [(b"host", b"api"), (b"cookie", f"forestall={ann.cookies['forestall']}".encode())],
            }  # fmt: skip

            async def receive() -> Any:
                await asyncio.sleep(3_600.0)

            async def send(message: Any) -> None:
                if message["type"] == "http.response.body" and b"event: cycle" in message.get("body", b""):
                    found.append("cycle")
                    office.door.sessions.end(ann.cookies["forestall"])

            await office.door(scope, receive, send)

    asyncio.run(listened())
    assert found == ["cycle"]


def test_lists_are_of_a_second_ago_and_anew_after_a_change(state: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def asking(request: Mapping[str, Any]) -> Any:
        asked.append(request["command"] + (":one" if request.get("vms") else ""))
        return ask(state, request)

    found = door(asking, tmp_path)
    site, now = found.application.application.state.site, [0.0]  # type: ignore[attr-defined]
    site._monotonic = lambda: now[0]
    ann = browser(Office(found.tokens, FileAuditLog(tmp_path, chained), found), Role.OPERATOR)
    bound = Browser(found)
    bound.sign_in(found.tokens.issue("bound", Role.VIEWER, ["tenant-1"], 1.0, time.time()))
    asked.clear()
    for _ in range(3):
        assert "vm-2" in ann.page("/vms")
        assert "vm-2" not in bound.page("/vms")
    assert asked.count("vms") == 0, "it was looked at a moment ago"
    now[0] += 1.1
    ann.page("/vms")
    assert asked.count("vms") == 1
    ann.submit("/vms/vm-2/resume")
    ann.page("/vms")
    assert asked.count("vms") == 2


@pytest.mark.parametrize(
    "others", ['prefs={"dark": true}', "a b=1", "flag", "path=/", "\xe9=1", "x=" + "y" * 5_000, "forestall2=z"]
)
def test_cookies_of_other_programs_of_the_host_are_in_nobodys_way(office: Office, others: str) -> None:
    ann = browser(office, Role.VIEWER)
    cookie = f"{others}; forestall={ann.cookies['forestall']}; more={{".encode("latin-1")
    assert Client(office.door)("GET", "/api/v1/me", headers={"Cookie": cookie}).status_code == 200


@pytest.mark.parametrize(
    "cookie", ["forestall", "forestall=", "forestall=x" * 900, 'forestall="', "a=b; forestall=\x80"]
)
def test_a_cookie_that_is_none_lets_nobody_in(office: Office, cookie: str) -> None:
    assert Client(office.door)("GET", "/api/v1/me", headers={"Cookie": cookie.encode("latin-1")}).status_code == 401
