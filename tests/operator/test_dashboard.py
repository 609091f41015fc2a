"""The dashboard for Grafana asks for metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client.core import Metric

from forestall.model.resources import Resource
from forestall.service.api import documents as doc
from forestall.service.api.metrics import Told

DASHBOARD = json.loads((Path(__file__).parents[2] / "packaging/grafana/forestall.json").read_text("utf-8"))
LABELS = re.compile(r"\{\{(\w+)\}\}")


def told() -> dict[str, set[str]]:
    """Labels of every sample that a host and a VM with everything give, by its name."""
    pools = [doc.Pool.model_validate(_filled(doc.Pool, resource)) for resource in Resource]
    words = dict.fromkeys(("name", "connect", "version", "fault", "lost"), "h")
    more = {"mode": "advise", "asked": "advise", "altered": [], "pools": pools}
    host = doc.Host.model_validate(dict.fromkeys(doc.Host.model_fields, 1) | words | more)
    resources = [_filled(doc.VmResource, resource) for resource in Resource]
    vm = doc.Vm.model_validate({"name": "v", "host": "h", "trust_group": "", "risk": 0.1, "resources": resources})
    found: dict[str, set[str]] = {}
    family: Metric
    for family in Told([host], [vm], ()).collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _filled(kind: Any, resource: Resource) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(kind.model_fields, 1.0)
    about = {"resource": resource, "unit": resource.unit, "mode": "advise", "altered": True, "reason": ""}
    return values | about | {"ruling": "accepted", "quantiles": {"p50": 1.0, "p95": 1.0, "p99": 1.0}}


def questions() -> Iterator[tuple[str, str, str]]:
    """Title of the panel, expression and legend of everything that it asks for."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


def selectors(node: Any) -> Iterator[Any]:
    """Every selection of a metric in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    for name in ("expr", "lhs", "rhs", "args", "vector_selector", "param"):
        part = getattr(node, name, None)
        for each in part if isinstance(part, list) else [part]:
            if each is not None:
                yield from selectors(each)


@pytest.mark.parametrize(("title", "expression", "legend"), list(questions()))
def test_a_panel_asks_for_what_there_is(title: str, expression: str, legend: str) -> None:
    known = told()
    asked = list(selectors(promql_parser.parse(expression)))
    assert asked
    for each in asked:
        assert each.name in known, f"{title}: there is no metric {each.name}"
        wanted = {matcher.name for matcher in each.matchers.matchers}
        assert wanted <= known[each.name], f"{title}: {each.name} has no labels {wanted - known[each.name]}"
    assert set(LABELS.findall(legend)) <= set.union(*(known[each.name] for each in asked)), title


def test_every_metric_is_on_it_or_says_what_another_does() -> None:
    shown = {each.name for _, expression, _ in questions() for each in selectors(promql_parser.parse(expression))}
    networks = {name for name in told() if name.endswith("_bytes_per_second")}
    assert told().keys() - networks <= shown


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
