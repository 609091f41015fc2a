"""The pages in a real browser, at a real API beside a real daemon: nothing goes wrong on any, they are live, and
everything can be done with the keyboard alone, by people who do not see the screen, too.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from daemons import Site, wait_until
from offices import advising
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from test_api_process import answers, api_of, free_port

from forestall.service.control import ask
from forestall.service.web.rendering import made

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
    pytest.mark.skipif(not (made() and AXE.exists()), reason="the pages are not built: make pages"),
]
POLICY = '[[rule]]\nname = "databases"\nvms = ["vm-4"]\nweight = 4\n'
CAPPED = '\n[[rule]]\nname = "capped"\nvms = ["vm-2"]\nceiling_ratio = 0.25\n'
SERIOUS = ("serious", "critical")
PATIENCE_MS = 60_000
"""Of a busy host."""


@dataclass
class Office:
    """Where the pages are, and who may come in."""

    site: Site
    address: str
    token: str

    @property
    def host(self) -> str:
        return str((ask(self.site.state, {"command": "status"}) or {})["host"])

    def places(self) -> list[str]:
        of_host = f"/hosts/{self.host}"
        return ["/", "/vms", of_host, "/vms/vm-0", "/staging", "/network", "/policies", "/models", "/audit"]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder, port = tmp_path_factory.mktemp("pages"), free_port()
    (folder / "policy.toml").write_text(POLICY)
    with advising(folder, 'policies = "policy.toml"\n', f'[api]\nlisten = "127.0.0.1:{port}"\n') as site:
        wait_until(answers(port), "the API answers")
        token = site.call("token", "create", "ann", "--role", "admin").stdout.strip()
        yield Office(site, f"http://127.0.0.1:{port}", token)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Desk:
    """Somebody at a page, and what the browser complained of."""

    page: Page
    office: Office
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        self.page.goto(self.office.address + path)

    def findings(self) -> list[str]:
        """What axe finds wrong that is serious, as where and what."""
        self.page.evaluate(AXE.read_text())  # by the debugger: the policy of the page lets no script of others in
        found = self.page.evaluate("axe.run()")
        return [
            f"{node['target']}: {each['help']}"
            for each in found["violations"]
            if each["impact"] in SERIOUS
            for node in each["nodes"]
        ]


def desk(context: BrowserContext, office: Office) -> Desk:
    context.set_default_timeout(PATIENCE_MS)
    found = Desk(context.new_page(), office)
    found.page.on(
        "console", lambda said: found.complaints.append(said.text) if said.type in ("error", "warning") else None
    )
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    return found


@pytest.fixture
def ann(chromium: Browser, office: Office) -> Iterator[Desk]:
    """Somebody who has signed in with the keyboard; nothing may have gone wrong when they leave."""
    context = chromium.new_context(viewport={"width": 1_280, "height": 900})
    found = desk(context, office)
    found.go("/vms?order=name")
    found.page.keyboard.type(office.token)  # the field has the focus
    found.page.keyboard.press("Enter")
    found.page.wait_for_url("**/vms?order=name")
    yield found
    context.close()
    assert found.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_opens_and_can_be_used_by_everybody(ann: Desk, office: Office, scheme: Any, tmp_path: Path) -> None:
    ann.page.emulate_media(color_scheme=scheme)
    for path in [*office.places(), "/hosts/nowhere"]:
        ann.go(path)
        expect(ann.page.locator("#live")).to_have_text("live", timeout=PATIENCE_MS)
        expect(ann.page.locator("h1")).to_be_visible()
        assert ann.findings() == [], path
        ann.page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert (tmp_path / "page.png").stat().st_size > 10_000
    ann.complaints = [each for each in ann.complaints if "404" not in each]  # of the host that is not there


def test_on_a_phone_nothing_is_wider_than_the_screen(ann: Desk, office: Office) -> None:
    ann.page.set_viewport_size({"width": 390, "height": 800})
    for path in office.places():
        ann.go(path)
        assert ann.page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_the_page_to_sign_in_is_in_order_and_says_what_is_wrong(chromium: Browser, office: Office) -> None:
    context = chromium.new_context()
    nobody = desk(context, office)
    nobody.go("/audit")
    assert nobody.findings() == []
    nobody.page.keyboard.type("no token")
    nobody.page.keyboard.press("Enter")
    expect(nobody.page.get_by_role("alert")).to_contain_text("does not hold")
    assert nobody.findings() == []
    nobody.page.get_by_label("Token").fill(office.token)
    nobody.page.keyboard.press("Enter")
    nobody.page.wait_for_url("**/audit")
    nobody.page.get_by_role("button", name="Sign out").click()
    nobody.page.wait_for_url("**/login")
    nobody.go("/audit")
    assert "/login" in nobody.page.url
    assert nobody.complaints == []
    context.close()


def test_it_is_live_without_loading_anew_and_what_is_open_stays_open(ann: Desk, office: Office) -> None:
    ann.go(f"/hosts/{office.host}")
    loaded = ann.page.evaluate("performance.timeOrigin")

    def cycles() -> int:
        return int(ann.page.locator("#state dd", has_text="cycles").inner_text().split()[0])

    first = cycles()
    ann.page.get_by_text("Put everything back…").click()
    button = ann.page.get_by_role("button", name="Put every VM back")
    button.focus()
    wait_until(lambda: cycles() > first + 1, "it goes on")
    expect(button).to_be_focused()
    assert ann.page.evaluate("performance.timeOrigin") == loaded


def test_forecasts_are_drawn_and_follow_what_is_chosen(ann: Desk) -> None:
    ann.go("/vms/vm-1")
    canvas = ann.page.locator("#fans canvas")
    expect(canvas).to_have_count(2)
    expect(ann.page.locator("#fans-problem")).to_be_hidden()
    inked = """canvas => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
        const styles = getComputedStyle(document.documentElement);
        const wanted = ["--used", "--fan", "--faint"].map(name => {
            const hex = styles.getPropertyValue(name).trim();
            return [1, 3, 5].map(k => parseInt(hex.slice(k, k + 2), 16));
        });
        const near = (k, rgb) => rgb.every((part, j) => Math.abs(data[k + j] - part) < 30) && data[k + 3] > 60;
        const seen = wanted.map(() => 0);
        for (let k = 0; k < data.length; k += 4) wanted.forEach((rgb, j) => { seen[j] += near(k, rgb); });
        return seen;
    }"""
    wait_until(lambda: min(canvas.first.evaluate(inked)) >= 5, "demand, fan and limit are drawn in their colours")
    with ann.page.expect_response(
        lambda answer: "/history" in answer.url and "resolution=1h" not in answer.url
    ) as asked:
        ann.page.get_by_label("3 hours").focus()
        ann.page.keyboard.press("Space")
    since, until = (int(each) for each in re.findall(r"(?:since|until)=(\d+)", asked.value.url))
    assert until - since == 3 * 3_600
    assert asked.value.status == 200


def test_a_policy_is_tried_and_applied_with_the_keyboard_alone(ann: Desk, office: Office) -> None:
    def tab_to(name: str) -> None:
        """Press Tab until this has the focus; whoever has it must be seen to."""
        for _ in range(60):
            ann.page.keyboard.press("Tab")
            told = ann.page.evaluate(
                "document.activeElement.innerText || document.activeElement.labels?.[0]?.innerText"
            )
            outline = ann.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{told} does not show that it has the focus"
            if told == name:
                return
        raise AssertionError(f"{name!r} is not reached")

    tab_to("Skip to content")
    tab_to("Policies")
    ann.page.keyboard.press("Enter")
    ann.page.wait_for_url("**/policies")
    tab_to("Policies (TOML)")
    ann.page.keyboard.press("Control+End")
    ann.page.keyboard.type(CAPPED)
    tab_to("Check")
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator("#said")).to_contain_text("2 rules, 0 doubts")
    tab_to("Dry run")
    ann.page.keyboard.press("Enter")
    ann.page.wait_for_url("**/policies/dry-runs/*")
    expect(ann.page.locator("#run")).to_contain_text("would have been treated otherwise", timeout=2 * PATIENCE_MS)
    assert ann.findings() == []
    ann.page.get_by_role("link", name="Go on with this draft").click()
    expect(ann.page.locator("#draft")).to_have_value(
        POLICY + '\n[[rule]]\nname = "capped"\nvms = ["vm-2"]\nceiling_ratio = 0.25\n'
    )
    tab_to("Why")
    ann.page.keyboard.type("vm-2 is idle")
    tab_to("Apply")
    ann.page.keyboard.press("Enter")
    ann.page.wait_for_url("**/policies?done=applied")
    expect(ann.page.locator("#in-force")).to_contain_text("“vm-2 is idle”")
    assert "capped" in (ask(office.site.state, {"command": "policy"}) or {})["text"]


def test_dark_or_light_is_remembered(ann: Desk) -> None:
    def paper() -> str:
        return str(ann.page.evaluate("getComputedStyle(document.body).backgroundColor"))

    ann.page.emulate_media(color_scheme="light")
    light = paper()
    ann.page.get_by_role("button", name="Dark").click()
    dark = paper()
    assert dark != light
    ann.go("/staging")
    assert paper() == dark
    ann.page.get_by_role("button", name="Light").click()
    assert paper() == light


def test_nothing_that_was_written_is_lost_when_the_api_dies(ann: Desk, office: Office) -> None:
    """Whoever was signed in is not any more; they sign in beside their draft, and go on with it."""
    ann.go("/policies")
    expect(ann.page.locator("#live")).to_have_text("live")
    ann.page.locator("#draft").fill("# a long night's work\n")
    (process,) = api_of(office.site.state)
    os.kill(process, signal.SIGKILL)
    expect(ann.page.locator("#live")).to_contain_text("not live since")
    expect(ann.page.locator("#live")).to_have_text("signed out: sign in", timeout=2 * PATIENCE_MS)
    with ann.page.expect_popup() as opened:
        ann.page.get_by_role("link", name="signed out: sign in").click()
    opened.value.get_by_label("Token").fill(office.token)
    opened.value.keyboard.press("Enter")
    opened.value.wait_for_url("**/policies")
    opened.value.close()
    expect(ann.page.locator("#live")).to_have_text("live")
    expect(ann.page.locator("#draft")).to_have_value("# a long night's work\n")
    marks = "[...document.querySelectorAll('input[name=csrf]')].map(field => field.value)"
    mark = ann.page.evaluate('fetch(\'/\').then(a => a.text()).then(t => /name="csrf" content="([^"]+)/.exec(t)[1])')
    wait_until(lambda: set(ann.page.evaluate(marks)) == {mark}, "forms know the new session")
    ann.page.get_by_role("button", name="Check").click()
    expect(ann.page.locator("#said")).to_contain_text("0 rules")
    expect(ann.page.locator("#draft")).to_have_value("# a long night's work\n")
    ann.complaints = [each for each in ann.complaints if "ERR_" not in each and "401" not in each]  # while it was away
