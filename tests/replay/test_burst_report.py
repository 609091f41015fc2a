"""The report of lending: complete, self-contained, safe with hostile names, and graceful about what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_burst import HOSTILE

from forestall.learning.peaks.model import LEVELS
from forestall.replay.burst.assembly import at_budgets
from forestall.replay.burst.result import BurstHeader, BurstPoint, BurstResult, PeakReliability, Stretch
from forestall.replay.report.burst_page import burst_page, burst_sentence
from forestall.replay.report.burst_summary import burst_summary, burst_terminal
from forestall.replay.result import Variant
from forestall.replay.scores.lending import LendingScores

SECTIONS = ["outcome", "tradeoff", "equal", "seconds", "forecasts", "made"]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"event handler {name}"
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src", "xlink:href", "action", "srcset"}:
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def point(policy: str, variant: Variant, knob: float, short: float, lent: float) -> BurstPoint:
    return BurstPoint(policy, variant, knob, LendingScores(800, short, 2 * short, short / 10, lent, 0.9, 3.2))


POINTS = (
    point("forestall", Variant.FORESTALL, 0.05, 0.049, 0.68),
    point("forestall", Variant.FORESTALL, 0.01, 0.02, 0.65),
    point("smartharvest", Variant.SHIPPED, 8, 0.06, 0.72),
    point("smartharvest", Variant.TUNED, 12, 0.04, 0.65),
    point("smartharvest", Variant.TUNED, 16, 0.045, 0.66),
    point("fixed", Variant.SHIPPED, 0.5, 0.009, 0.64),
    point("oracle", Variant.ORACLE, 0, 0.0, 0.93),
)


def stretch(vm_id: str = "") -> Stretch:
    rng = np.random.default_rng(0)
    use = rng.random((100, 4))
    return Stretch(vm_id, 20.0, 0.1, use, np.full(100, 0.9), np.full(100, 0.4), np.full(100, 0.95))


@pytest.fixture
def result() -> BurstResult:
    header = BurstHeader(
        trace=f"made <up> & {HOSTILE}", digest="0" * 64, vms=3, windows=4000, trace_window_us=25_000,
        window_us=100_000, start_us=25_000, scored_from_s=20.0, end_s=100.0, cores=2.0, pooled=False,
        policy="forestall", budgets=(0.05, 0.01), seed=0, version="1", command="forestall replay burst",
        wall_seconds=1.0, peak_memory_bytes=10**8, warnings=(HOSTILE,),
        model={"rows": 123, "worlds": {"seed": 7, "kinds": ["a", "b"]}, HOSTILE: HOSTILE},
    )  # fmt: skip
    observed = tuple(min(level + 0.01, 1.0) for level in LEVELS)
    return BurstResult(
        header=header,
        headlines=POINTS[:2],
        points=POINTS,
        at_budget=at_budgets(POINTS, header.budgets),
        reliability=(PeakReliability("VMs", LEVELS, observed, 2400),),
        experts={"recent_quantile": 0.6, "linear": 0.4},
        stretches=(stretch(HOSTILE), stretch("web")),
    )


def test_every_section_in_order_and_well_formed(result: BurstResult) -> None:
    page = Page(burst_page(result))
    assert [i for i in page.ids if i in SECTIONS] == SECTIONS
    assert page.tags.count("svg") == 5
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_nothing_is_fetched_from_outside(result: BurstResult) -> None:
    html = burst_page(result)
    page = Page(html)
    assert page.links
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {"script", "link", "iframe", "object", "img"}.isdisjoint(page.tags)
    assert "@import" not in html
    assert "url(http" not in html


def test_hostile_names_are_text(result: BurstResult) -> None:
    html = burst_page(result)
    assert Page(html).text.count(HOSTILE) >= 4
    assert "<script>alert" not in html


def test_what_it_says(result: BurstResult) -> None:
    text = " ".join(Page(burst_page(result)).text.split())
    assert burst_sentence(result) == (
        "Forestall lent 68 % of the idle time of 2 cores beside 3 VMs; in 4.9 % of the windows of 100 ms they used "
        "more than was reserved (budget 5 %); at a budget of 1 % it lent 65 %, short in 2.0 %."
    )
    for said in (
        "chosen in hindsight",
        "forestall 68 % 4.9 % violated 65 % 2.0 % violated beforehand",
        "fixed 64 % 0.90 % violated, knob 0.5 64 % 0.90 % violated, knob 0.5 in hindsight",
        "smartharvest 66 % 4.5 % violated, knob 16 –in hindsight",
        "comes with Forestall; rows: 123; worlds: seed 7, kinds a, b",
        "2,400 peaks of the VMs",
        "a reservation for each VM",
        "20 s to 100 s from the start",
    ):
        assert said in text, said


def test_a_broken_promise_stands_out(result: BurstResult) -> None:
    html = burst_page(result)
    assert html.count('class="over"') == 1, "2 % where 1 % was promised"
    kept = replace(result, at_budget=at_budgets(POINTS[:1], (0.05,)), header=replace(result.header, budgets=(0.05,)))
    assert 'class="over"' not in burst_page(kept)


def test_the_policy_that_lends_most_is_marked(result: BurstResult) -> None:
    cells = burst_page(result).split('class="best"')
    assert len(cells) == 3, "one in each column, the oracle aside"
    assert cells[1].lstrip(">").startswith("68 %")
    assert cells[2].lstrip(">").startswith("64 %"), "what was not kept is not best"


def test_same_result_same_page(result: BurstResult) -> None:
    assert burst_page(result) == burst_page(result)


def test_a_peer_alone(result: BurstResult) -> None:
    nan = np.full(100, np.nan)
    alone = replace(
        result, header=replace(result.header, policy="smartharvest", model=None, pooled=True), headlines=POINTS[2:3],
        points=POINTS[2:3], at_budget=at_budgets(POINTS[2:3], (0.05, 0.01)), reliability=(), experts={},
        stretches=(replace(stretch(), median=nan, high=nan),),
    )  # fmt: skip
    html = burst_page(alone)
    page = Page(html)
    assert [i for i in page.ids if i in SECTIONS] == ["outcome", "tradeoff", "equal", "seconds", "made"]
    assert "smartharvest lent 72 % of the idle time" in burst_sentence(alone)
    assert "Recurrent model" not in page.text
    assert "forecast, median" not in html
    assert "All VMs together" in page.text


def test_forecasts_without_a_model_say_so(result: BurstResult) -> None:
    without = replace(result, header=replace(result.header, model=None))
    assert "none: forecasts did without" in Page(burst_page(without)).text


def test_nothing_scored(result: BurstResult) -> None:
    nothing = tuple(replace(p, scores=LendingScores(0, *[float("nan")] * 6)) for p in POINTS)
    empty = replace(
        result, header=replace(result.header, scored_from_s=100.0), headlines=nothing[:2], points=nothing,
        at_budget=at_budgets(nothing, (0.05, 0.01)), reliability=(), experts={}, stretches=(),
    )  # fmt: skip
    page = Page(burst_page(empty))
    assert [i for i in page.ids if i in SECTIONS] == ["outcome", "made"]
    assert "nothing was scored" in page.text
    assert "–" in burst_terminal(empty)
    assert json.dumps(burst_summary(empty), allow_nan=False)


def test_summary_is_json(result: BurstResult) -> None:
    found = json.loads(json.dumps(burst_summary(result), allow_nan=False))
    assert found["header"]["model"]["worlds"] == {"seed": 7, "kinds": ["a", "b"]}
    assert [row["policy"] for row in found["policies"]] == [p.policy for p in POINTS]
    assert found["at_budget"][0] == {"budget": 0.05, "in_hindsight": False, **found["policies"][0]}
    assert found["experts"] == {"recent_quantile": 0.6, "linear": 0.4}


def test_terminal(result: BurstResult) -> None:
    text = burst_terminal(result)
    assert "2 cores, a reservation for each" in " ".join(text.split())
    assert "in hindsight" in text
