"""``forestall replay traffic``: the whole command, causal to the byte, the same again, scored as the contract says."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from forestall.cli import main
from forestall.replay.traffic.replay import POLICIES

DATA = Path(__file__).parents[3] / "shared" / "data" / "traffic"
START, STEP = 1_700_000_000, 300
NODES = ("a", "b", "c", "d", "<e&>")
EDGES = (("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("a", "<e&>"), ("<e&>", "c"))


def topology(folder: Path, **changed: Any) -> Path:
    """A ring of four, and a fifth node between two of them; 80 Mbit/s each way."""
    links = [{"source": a, "target": b, "capacity_bps": 80_000_000} for a, b in EDGES]
    document = {
        "directed": False,
        "multigraph": False,
        "graph": {},
        "nodes": [{"id": n} for n in NODES],
        "edges": links,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.json").write_text(json.dumps(document | changed))
    return folder / "net.json"


def traffic(steps: int = 60, seed: int = 1) -> pd.DataFrame:
    """Pairs with a burst each quarter of an hour on one of them; a pair that comes late, and some silence."""
    rng = np.random.default_rng(seed)
    rows = []
    for t in range(steps):
        for source, target in (("a", "c"), ("a", "b"), ("b", "d"), ("<e&>", "b"), ("d", "b")):
            if (source, target) == ("d", "b") and t < steps // 2:
                continue
            base = {"a": 9e6, "b": 2e6, "d": 3e6}.get(source, 1e5) * (1.0 if t % 3 == 0 or target != "b" else 0.1)
            rows.append((START + t * STEP, source, target, base * rng.uniform(0.8, 1.2)))
    return pd.DataFrame(rows, columns=["timestamp", "source", "target", "bytes_per_s"])


def replay(data: pd.DataFrame, folder: Path, *options: str) -> int:
    net = topology(folder)
    data.to_parquet(folder / "in.parquet")
    words = ["replay", "traffic", str(folder / "in.parquet"), "--topology", str(net), "--out", str(folder / "out")]
    return main([*words, "--quiet", *options])


def routes(data: pd.DataFrame, folder: Path, *options: str) -> pd.DataFrame:
    assert replay(data, folder, *options) == 0
    found = pd.read_parquet(folder / "out" / "routes.parquet")
    return found.assign(path=found["path"].map(tuple))


def summary(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "out" / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def worst_links(data: pd.DataFrame, found: pd.DataFrame) -> pd.Series[float]:
    """Utilisation of the worst link in each interval, the plain way."""
    merged = data.merge(found, on=["timestamp", "source", "target"], how="left")
    assert merged["share"].notna().all(), "every pair with traffic has a path"
    worst: dict[int, dict[tuple[str, str], float]] = {}
    for row in merged.itertuples():
        for hop in pairwise(row.path):
            loads = worst.setdefault(row.timestamp, {})
            loads[hop] = loads.get(hop, 0.0) + row.bytes_per_s * row.share / 10e6
    return pd.Series({t: max(loads.values()) for t, loads in worst.items()})


@pytest.mark.parametrize("policy", ["forestall", "ecmp", "hedera", "oracle"])
def test_what_is_written_and_what_it_is_worth(tmp_path: Path, policy: str) -> None:
    data = traffic()
    found = routes(data, tmp_path, "--policy", policy)
    assert list(found.columns) == ["timestamp", "source", "target", "path", "share"]
    total = found.groupby(["timestamp", "source", "target"])["share"].sum()
    np.testing.assert_allclose(total, 1.0)
    assert set(found["timestamp"]) == {START + t * STEP for t in range(61)}, "the interval after the end, too"
    edges = {frozenset(edge) for edge in EDGES}
    for source, target, path in found[["source", "target", "path"]].drop_duplicates().itertuples(index=False):
        assert (path[0], path[-1]) == (source, target)
        assert all(frozenset(hop) in edges for hop in pairwise(path))
    worst = worst_links(data, found)
    scored = worst[worst.index >= START + 3600]
    told = summary(tmp_path)["headline"]
    assert told["intervals"] == len(scored) == 48
    assert told["mean_worst"] == pytest.approx(scored.mean())
    assert told["p99_worst"] == pytest.approx(scored.quantile(0.99))
    assert told["over_share"] == pytest.approx((scored > 1).mean())
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<e&>" not in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_it_is_better_than_what_switches_do_and_near_what_can_be(tmp_path: Path) -> None:
    assert replay(traffic(200), tmp_path, "--policy", "forestall,ecmp,oracle") == 0
    ours, ecmp, oracle = (point["mean_worst"] for point in summary(tmp_path)["policies"])
    assert ours < 0.8 * ecmp
    assert ours < 1.1 * oracle
    ours, _, oracle = (point["changes"] for point in summary(tmp_path)["policies"])
    assert ours < oracle


@pytest.mark.parametrize("policy", ["forestall", "robust", "ewma", "hedera"])
def test_cutting_the_trace_changes_nothing_before(tmp_path: Path, policy: str) -> None:
    data = traffic()
    whole = routes(data, tmp_path / "whole", "--policy", policy)
    for intervals in (1, 13, 30, 47):  # a pair begins in the thirtieth
        until = START + intervals * STEP
        again = routes(data[data["timestamp"] < until], tmp_path / f"{policy}-{intervals}", "--policy", policy)
        same = whole[whole["timestamp"] <= until].reset_index(drop=True)
        pd.testing.assert_frame_equal(again, same, check_exact=True)


def test_the_order_of_rows_in_an_interval_says_nothing(tmp_path: Path) -> None:
    data = traffic()
    shuffled = data.sample(frac=1.0, random_state=4).sort_values("timestamp", kind="stable")
    one, two = (routes(each, tmp_path / name) for each, name in ((data, "one"), (shuffled, "two")))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_load_makes_no_difference(tmp_path: Path) -> None:
    """Prices are of what is usual: a network that is ten thousand times as large is used alike."""
    for name, factor in (("one", 1.0), ("two", 1e-4)):
        data = traffic()
        assert replay(data.assign(bytes_per_s=factor * data["bytes_per_s"]), tmp_path / name) == 0
    one, two = (summary(tmp_path / name)["headline"] for name in ("one", "two"))
    assert two["mean_worst"] == pytest.approx(1e-4 * one["mean_worst"], rel=0.01)


def test_a_network_in_which_nothing_is_sent(tmp_path: Path) -> None:
    found = routes(traffic().assign(bytes_per_s=0.0), tmp_path, "--policy", "all")
    np.testing.assert_allclose(found.groupby(["timestamp", "source", "target"])["share"].sum(), 1.0)
    assert summary(tmp_path)["headline"]["mean_worst"] == 0.0


def test_what_no_link_leads_to_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = topology(tmp_path, nodes=[*({"id": name} for name in NODES), {"id": "island"}])
    data = pd.concat([traffic(), pd.DataFrame([(START, "a", "island", 5.0)], columns=traffic().columns)])
    data.to_parquet(tmp_path / "in.parquet")
    words = ["replay", "traffic", str(tmp_path / "in.parquet"), "--topology", str(net), "--out", str(tmp_path / "out")]
    assert main([*words, "--quiet"]) == 0
    assert "nothing connects 1 pairs, first 'a' to 'island'" in capsys.readouterr().err
    assert "island" not in set(pd.read_parquet(tmp_path / "out" / "routes.parquet")["target"])


def test_a_directed_network_is_used_one_way(tmp_path: Path) -> None:
    both = [edge for a, b in EDGES for edge in ((a, b), (b, a)) if edge != ("c", "b")]
    links = [{"source": a, "target": b, "capacity_bps": 40_000_000, "key": k} for a, b in both for k in range(2)]
    net = topology(tmp_path, directed=True, multigraph=True, edges=links)
    traffic().to_csv(tmp_path / "in.csv", index=False)
    words = ["replay", "traffic", str(tmp_path / "in.csv"), "--topology", str(net), "--out", str(tmp_path / "out")]
    assert main([*words, "--quiet", "--policy", "forestall,hedera"]) == 0
    found = pd.read_parquet(tmp_path / "out" / "routes.parquet")
    hops = {hop for path in found["path"] for hop in pairwise(path)}
    assert ("b", "c") in hops
    assert ("c", "b") not in hops


def test_the_same_again(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        assert replay(traffic(), tmp_path / name) == 0
        files.append((tmp_path / name / "out" / "routes.parquet").read_bytes())
    assert files[0] == files[1]


def test_all_policies_stand_side_by_side(tmp_path: Path) -> None:
    assert replay(traffic(), tmp_path, "--policy", "all") == 0
    points = summary(tmp_path)["policies"]
    assert [point["policy"] for point in points] == list(POLICIES)
    assert min(point["mean_worst"] for point in points) == points[-1]["mean_worst"], "nobody beats who knows the future"
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(f">{name}<" in page for name in POLICIES)


def test_rows_that_say_little_are_left_out_or_put_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = traffic()
    odd = pd.DataFrame(
        [
            (START + 7, "a", "b", 1e6),
            (START + STEP, "a", "a", 5.0),
            (START + STEP, "a", "c", float("nan")),
            (START + 90 * STEP, "a", "c", 1e6),
        ],
        columns=data.columns,
    )
    assert replay(pd.concat([data, odd]), tmp_path) == 0
    said = capsys.readouterr().err
    for text in (
        "1 rows lie between",
        "1 rows are traffic of a node with itself",
        "1 rows say nothing",
        "30 of 91 inter",
    ):
        assert text in said
    assert summary(tmp_path)["headline"]["intervals"] == 49, "what is not known is not scored"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"source": "nobody"}, "row 1, column source: 'nobody' is no node of the topology"),
        ({"bytes_per_s": -1.0}, "row 1, column bytes_per_s: -1 is not a rate"),
        ({"bytes_per_s": float("inf")}, "row 1, column bytes_per_s: inf is not a rate"),
        ({"bytes_per_s": "much"}, "row 1, column bytes_per_s: 'much' is not a number"),
        ({"timestamp": None}, "row 1, column timestamp: is empty"),
    ],
)
def test_bad_rows_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], why: str
) -> None:
    data = traffic().astype(object)
    for column, value in change.items():
        data.loc[0, column] = value
    net = topology(tmp_path)
    data.to_csv(tmp_path / "in.csv", index=False)
    words = ["replay", "traffic", str(tmp_path / "in.csv"), "--topology", str(net), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(why)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"nodes": None}, "it has no list 'nodes'"),
        ({"nodes": [{"name": "a"}]}, "node 1 has no 'id'"),
        ({"edges": []}, "has no list 'edges', or an empty one"),
        ({"edges": [{"source": "a"}]}, "link 1 has no 'source' or no 'target'"),
        ({"edges": [{"source": "a", "target": "b"}]}, "link 1, from 'a' to 'b', has no 'capacity_bps'"),
        ({"edges": [{"source": "a", "target": "z", "capacity_bps": 1}]}, "leads to a node that is not there"),
        ({"edges": [{"source": "a", "target": "b", "capacity_bps": 0}]}, "has no link that carries anything"),
        ({"edges": [{"source": "a", "target": "b", "capacity_bps": -1}]}, "cannot carry -1 bits per second"),
        ({"edges": [{"source": "a", "target": "b", "capacity_bps": 10**400}]}, "cannot carry 1000"),
        ({"edges": [{"source": "c", "target": "<e&>", "capacity_bps": 8}]}, "nothing connects any two nodes"),
    ],
)
def test_bad_topologies_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], why: str
) -> None:
    net = topology(tmp_path, **changed)
    traffic(3).to_parquet(tmp_path / "in.parquet")
    words = ["replay", "traffic", str(tmp_path / "in.parquet"), "--topology", str(net), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line
    assert not (tmp_path / "out").exists()


def test_a_topology_that_is_no_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traffic(3).to_parquet(tmp_path / "in.parquet")
    words = ["replay", "traffic", str(tmp_path / "in.parquet"), "--out", str(tmp_path / "out"), "--topology"]
    for name, why in (("none.json", "No such file"), ("in.parquet", "is not JSON")):
        assert main([*words, str(tmp_path / name)]) == 2
        assert why in capsys.readouterr().err


@pytest.mark.skipif(not DATA.exists(), reason="needs the shared traces")
def test_a_day_of_real_traffic_is_better_spread_than_by_any_peer(tmp_path: Path) -> None:
    data = pd.read_parquet(DATA / "geant.parquet")
    data = data[data["timestamp"] < data["timestamp"].min() + 40 * 3600]
    data.to_parquet(tmp_path / "in.parquet")
    words = ["replay", "traffic", str(tmp_path / "in.parquet"), "--topology", str(DATA / "geant.topology.json")]
    assert main([*words, "--out", str(tmp_path / "out"), "--quiet", "--policy", "forestall,ecmp,robust"]) == 0
    ours, ecmp, robust = summary(tmp_path)["policies"]
    assert ours["mean_worst"] < 0.75 * ecmp["mean_worst"]
    assert ours["mean_worst"] < robust["mean_worst"]
    assert ours["changes"] < 0.5 * robust["changes"]
