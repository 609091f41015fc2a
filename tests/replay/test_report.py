"""The report: complete, self-contained, safe with hostile names, and graceful about what is missing."""

import importlib.util
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from forestall.model.resources import Resource
from forestall.replay.report import words
from forestall.replay.report.page import render_report, report_page
from forestall.replay.report.summary import plain, summary
from forestall.replay.result import ReplayResult, Variant

pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:Degrees of freedom")
SECTIONS = ["outcome", "tradeoff", "equal", "calibration", "forecasts", "vms", "risk", "pool", "churn", "made"]
VOID = {"meta", "img", "br", "link", "input", "hr"}


def _fakes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_result", Path(__file__).with_name("fake_result.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FAKES = _fakes()


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


@pytest.fixture(scope="module")
def result() -> ReplayResult:
    return FAKES.fake_result(vms=40, days=4)


@pytest.fixture(scope="module")
def html(result: ReplayResult, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    render_report(result, path)
    return path.read_text(encoding="utf-8")


def test_every_section_is_there_in_order_and_well_formed(html: str) -> None:
    page = Page(html)
    assert [i for i in page.ids if i in SECTIONS] == SECTIONS
    assert page.open == []
    assert page.tags.count("svg") >= 10


def test_nothing_is_fetched_from_outside(html: str) -> None:
    page = Page(html)
    assert page.links
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {"script", "link", "iframe", "object", "img"}.isdisjoint(page.tags)
    assert "@import" not in html
    assert "url(http" not in html


def test_ids_are_unique_and_every_link_finds_its_target(html: str) -> None:
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_hostile_names_are_text(html: str) -> None:
    assert FAKES.HOSTILE in Page(html).text
    assert "<script>alert" not in html
    assert "generated & <checked>" in Page(html).text


def test_hostile_policy_names_reach_charts_as_text(result: ReplayResult) -> None:
    points = tuple(replace(p, policy=FAKES.HOSTILE) for p in result.points[:6])
    html = report_page(ReplayResult(result.header, points=points))
    assert FAKES.HOSTILE in Page(html).text
    assert "<script>alert" not in html


def test_same_result_same_page(result: ReplayResult, html: str) -> None:
    assert report_page(result) == html


def test_an_empty_result_still_makes_a_page(result: ReplayResult) -> None:
    page = Page(report_page(ReplayResult(result.header)))
    assert [i for i in page.ids if i in SECTIONS] == ["outcome", "made"]
    assert "Nothing was evaluated" in page.text


def test_a_single_policy_without_peers_pool_or_risk(result: ReplayResult) -> None:
    one = result.headlines[:1]
    single = ReplayResult(result.header, headlines=one, points=one, calibration=one)
    page = Page(report_page(single))
    assert [i for i in page.ids if i in SECTIONS] == ["outcome", "tradeoff", "calibration", "churn", "made"]


def test_scores_that_are_undefined_are_dashes(result: ReplayResult) -> None:
    nan = float("nan")
    point = result.headlines[0]
    scores = replace(point.scores, slack=nan, reclaimed_share=nan, violation_share=nan, changes_per_vm_hour=nan)
    empty = replace(point, scores=scores)
    page = Page(report_page(ReplayResult(result.header, headlines=(empty,), points=(empty,), calibration=(empty,))))
    assert "nan" not in page.text.lower()


def test_vms_without_limit_quantiles_or_calendar(result: ReplayResult) -> None:
    vm = result.exemplars[0]
    bare = replace(
        vm,
        resource=Resource.NET_RX,
        limit=np.full_like(vm.limit, np.inf),
        levels=(),
        quantiles=np.zeros((len(vm.times), 0)),
    )
    header = replace(result.header, calendar=False, evaluate_from=86_400 + 3_900)
    page = Page(report_page(ReplayResult(header, exemplars=(bare,))))
    assert "day 1, 01:05" in page.text


def test_long_series_are_drawn_as_pixels(result: ReplayResult) -> None:
    vm = result.exemplars[0]
    times = np.arange(20_000) * 300
    wave = 1 + np.sin(times / 9000.0)
    long = replace(vm, times=times, demand=wave, allocated=wave + 0.1, limit=wave * 0 + 4, levels=(), quantiles=None)
    html = report_page(ReplayResult(result.header, exemplars=(replace(long, quantiles=np.zeros((20_000, 0))),)))
    assert "data:image/png" in html
    assert len(html) < 600_000


def test_summary_is_json_without_nan(result: ReplayResult) -> None:
    made = summary(result)
    text = json.dumps(made, allow_nan=False)
    assert '"per_vm"' not in text
    assert list(made)[:2] == ["header", "resources"]
    assert set(made["resources"]) == {"cpu", "memory"}
    oracle = next(p for p in made["policies"] if p["variant"] == Variant.ORACLE.value)
    assert oracle["violation_share"] == 0.0
    static = next(p for p in made["policies"] if p["policy"] == "static")
    assert static["reclaimed_share"] == 0.0
    assert json.dumps(summary(result)) == json.dumps(made)


def test_plain_values() -> None:
    assert plain(float("nan")) is None
    assert plain((1, 2.5, Resource.CPU)) == [1, 2.5, "cpu"]
    with pytest.raises(TypeError):
        plain(np.zeros(2))


def test_numbers_in_words() -> None:
    assert words.percent(0.0098) == "0.98 %"
    assert words.percent(0.0997) == "10 %"
    assert words.percent(0.0) == "0 %"
    assert words.percent(1.034) == "103 %"
    assert words.exact(0.9995) == "99.95 %"
    assert words.number(-0.5) == "−0.50"
    assert words.duration(300) == "5 min"
    assert words.size(1.4e9) == "1.4 GB"
    assert words.instant(1_772_409_600, True) == "2026-03-02 00:00 UTC"
    assert {words.percent(float("nan")), words.number(float("nan")), words.small(float("nan"))} == {"–"}
