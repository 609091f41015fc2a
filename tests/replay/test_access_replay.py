"""``forestall replay access``: the whole command, causal to the byte, the same again, scored as a plain cache would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_accesses_trace import ROWS, accesses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forestall.cli import main
from forestall.replay.access.cache import LATE, REDUNDANT, UNUSED, USED, farthest, serve
from forestall.replay.access.peers.registry import PEERS
from forestall.replay.access.trace import read_access_trace

DATA = Path(__file__).parents[3] / "shared" / "data" / "access"


def replay(trace: Path, out: Path, *options: str) -> int:
    return main(["replay", "access", str(trace), "--out", str(out), "--quiet", "--cache-items", "120", *options])


def fetched(data: pd.DataFrame, folder: Path, *options: str) -> pd.DataFrame:
    folder.mkdir(parents=True, exist_ok=True)
    data.to_parquet(folder / "in.parquet")
    assert replay(folder / "in.parquet", folder / "out", *options) == 0
    return pd.read_parquet(folder / "out" / "prefetches.parquet")


def summary(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def served(data: pd.DataFrame, found: pd.DataFrame, capacity: int = 120, delay: int = 0) -> np.ndarray:
    """Which accesses hit, by the rules of the contract, the plain way."""
    from collections import OrderedDict

    cache: OrderedDict[tuple[str, str, int], None] = OrderedDict()

    def put(key: tuple[str, str, int]) -> None:
        cache[key] = None
        cache.move_to_end(key)
        if len(cache) > capacity:
            cache.popitem(last=False)

    index = {int(sequence): i for i, sequence in enumerate(data.sequence)}
    coming = [
        (index[int(row.sequence)] + delay, (row.vm_id, row.resource_type, int(row.resource_id)))
        for row in found.itertuples()
    ]
    hits, at = np.zeros(len(data), bool), 0
    for i, row in enumerate(data.itertuples()):
        while at < len(coming) and coming[at][0] < i:
            if coming[at][1] not in cache:
                put(coming[at][1])
            at += 1
        key = (row.vm_id, row.resource_type, int(row.resource_id))
        hits[i] = key in cache
        put(key)
    return hits


@pytest.mark.parametrize("delay", [0, 12])
def test_what_is_written_and_what_it_is_worth(tmp_path: Path, delay: int) -> None:
    data = accesses()
    found = fetched(data, tmp_path, "--arrival-delay", str(delay))
    assert {name: str(kind) for name, kind in found.dtypes.items()} == {
        "sequence": "int64",
        "vm_id": "object",
        "resource_type": "object",
        "resource_id": "uint64",
        "probability": "float64",
    }
    assert found.sequence.is_monotonic_increasing
    assert set(found.sequence) <= set(data.sequence)
    assert found.probability.between(0, 1).all()
    assert set(zip(found.vm_id, found.resource_type, strict=True)) == {("web", "block"), ("db", "page")}
    told = summary(tmp_path / "out")
    first = int(0.2 * ROWS)
    ours, plain = served(data, found, delay=delay)[first:], served(data, found[:0])[first:]
    scores = told["headline"]
    assert scores["misses"] == (~ours).sum()
    assert scores["plain_misses"] == (~plain).sum()
    assert scores["removed_share"] == pytest.approx(1 - (~ours).sum() / (~plain).sum())
    assert scores["pollution"] == pytest.approx((~ours & plain).sum() / (~plain).sum())
    assert scores["issued"] == (found.sequence >= data.sequence[first]).sum()
    assert scores["removed_share"] > (0.75 if delay == 0 else 0.4)
    assert told["header"]["model_bytes"] > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "of the misses of a cache of 120 items" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("Content-Security-Policy", "").replace(
        "http-equiv", ""
    )


@pytest.mark.parametrize(
    "options", [(), ("--arrival-delay", "16"), ("--threshold", "0.3"), ("--policy", "domino"), ("--policy", "markov_1")]
)
def test_cutting_the_trace_changes_nothing_before(tmp_path: Path, options: tuple[str, ...]) -> None:
    data = accesses(late=3000)
    whole = fetched(data, tmp_path / "whole", *options)
    for at in (10, 610, 9010, 9013, 15_001):
        again = fetched(data[data.sequence <= at], tmp_path / str(at), *options)
        assert again.equals(whole[whole.sequence <= at].reset_index(drop=True)), at


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), at=st.integers(20, 4000), delay=st.sampled_from(["0", "3", "40"]))
def test_cutting_any_trace_anywhere(tmp_path: Path, seed: int, at: int, delay: str) -> None:
    data = accesses(1500, seed, late=200)
    whole = fetched(data, tmp_path / "whole", "--arrival-delay", delay)
    again = fetched(data[data.sequence <= at], tmp_path / "cut", "--arrival-delay", delay)
    assert again.equals(whole[whole.sequence <= at].reset_index(drop=True))


def test_the_same_again_and_in_any_order_of_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = accesses(3000)
    one, two = (
        fetched(each, tmp_path / name) for name, each in (("one", data), ("two", data.sample(frac=1, random_state=1)))
    )
    assert one.equals(two)
    assert "column sequence: rows are out of order, sorted" in capsys.readouterr().err
    found = [summary(tmp_path / name / "out") for name in ("one", "two")]
    for each in found:
        for took in ("wall_seconds", "peak_memory_bytes", "command", "accesses_per_s", "warnings"):
            each["header"].pop(took)
    assert found[0] == found[1]


def test_all_policies_side_by_side(tmp_path: Path) -> None:
    data = accesses(4000)
    ours = fetched(data, tmp_path, "--policy", "all")
    told = summary(tmp_path / "out")
    assert list(dict.fromkeys(row["policy"] for row in told["policies"])) == ["forestall", *PEERS, "belady"]
    by_name = {row["policy"]: row for row in told["policies"] if row["variant"] != "tuned"}
    assert by_name["none"]["removed_share"] == 0.0
    assert by_name["none"]["issued"] == 0
    assert by_name["belady"]["misses"] <= by_name["none"]["misses"]
    for name, peer in PEERS.items():
        assert sum(row["policy"] == name for row in told["policies"]) == len(peer.knobs)
    alone = fetched(data, tmp_path / "alone")
    assert alone.equals(ours), "what is written is of the first policy"
    text = (tmp_path / "out" / "report.html").read_text()
    assert all(name in text for name in by_name)


def test_a_peer_alone(tmp_path: Path) -> None:
    data = accesses(2000)
    found = fetched(data, tmp_path, "--policy", "readahead_1")
    assert found.probability.isna().all()
    told = summary(tmp_path / "out")
    assert len(told["policies"]) == 1
    assert told["calibration"] is None
    first = int(0.2 * len(data))
    assert told["headline"]["misses"] == (~served(data, found)[first:]).sum()


def test_numbers_up_to_the_last_and_across_the_end(tmp_path: Path) -> None:
    data = accesses(600)
    data["resource_id"] = (np.uint64(2**64 - 300) + np.arange(600, dtype=np.uint64) // np.uint64(2)).astype(np.uint64)
    found = fetched(data, tmp_path)
    assert found.resource_id.max() > 2**64 - 17, "up to the end, and what lies beyond it is not taken for the beginning"
    told = served(data, found)
    assert (~told[120:]).sum() < 20


def test_numbers_of_64_bits_come_through_text(tmp_path: Path) -> None:
    """And a later row changes nothing before: not even how numbers are read."""
    data = accesses(1200)
    data["resource_id"] += np.uint64((1 << 63) - (1 << 62))
    data.loc[1100:, "resource_id"] += np.uint64(1 << 63)
    assert data.resource_id.max() > 1 << 63
    whole = fetched(data, tmp_path / "parquet")
    for name, part in (("whole", data), ("cut", data[:1000])):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
        assert replay(tmp_path / f"{name}.csv", tmp_path / name) == 0
        found = pd.read_parquet(tmp_path / name / "prefetches.parquet")
        expected = whole[whole.sequence <= part.sequence.max()].reset_index(drop=True)
        assert found.equals(expected)


def test_accesses_that_share_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = accesses(2000)
    data["resource_id"] = np.arange(2000, dtype=np.uint64)
    data[["vm_id", "resource_type"]] = "web", "block"
    data["sequence"] //= 300
    fetched(data, tmp_path)
    assert "accesses share a number; what is staged after them helps later numbers only" in capsys.readouterr().err
    assert summary(tmp_path / "out")["headline"]["removed_share"] < 0.3, "a hundred accesses at once: few can be helped"


def test_what_another_replay_left_is_removed(tmp_path: Path) -> None:
    fetched(accesses(300), tmp_path)
    (tmp_path / "out" / "mine.txt").write_text("kept")
    pages = pd.DataFrame({"sequence": range(50), "vm_id": "a", "page": range(50)})
    pages.to_parquet(tmp_path / "pages.parquet")
    assert main(["replay", "memory", str(tmp_path / "pages.parquet"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"staging.parquet", "summary.json", "report.html", "mine.txt"}


@settings(max_examples=60)
@given(
    item=st.lists(st.integers(0, 8), min_size=1, max_size=60), capacity=st.integers(1, 6), delay=st.integers(0, 4),
    asked=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 10)), max_size=30),
)  # fmt: skip
def test_the_cache_that_scores_is_a_plain_one(
    item: list[int], capacity: int, delay: int, asked: list[tuple[int, int]]
) -> None:
    asked = sorted((at, what) for at, what in asked if at < len(item))
    at, wanted = (np.array([pair[k] for pair in asked], np.int64) for k in range(2))
    outcome = serve(np.array(item, np.int32), capacity, at, wanted.astype(np.int32), delay)
    held: list[int] = []
    hits, fate, coming = [], [UNUSED] * len(asked), list(range(len(asked)))
    owner: dict[int, int] = {}
    for i, now in enumerate(item):
        while coming and asked[coming[0]][0] + delay < i:
            k = coming.pop(0)
            issued, what = asked[k]
            late = what in item[issued + 1 : i]
            if what in held:
                fate[k] = LATE if late else REDUNDANT
            else:
                fate[k] = LATE if late else UNUSED
                held.append(what)
                owner[what] = k
                for gone in held[:-capacity]:
                    owner.pop(gone, None)
                held = held[-capacity:]
        hits.append(now in held)
        if now in held:
            held.remove(now)
            if now in owner:
                fate[owner.pop(now)] = USED
        held.append(now)
        for gone in held[:-capacity]:
            owner.pop(gone, None)
        held = held[-capacity:]
    assert outcome.hit.tolist() == hits
    assert outcome.fate.tolist() == fate


@settings(max_examples=40)
@given(item=st.lists(st.integers(0, 5), min_size=1, max_size=9), capacity=st.integers(1, 3))
def test_belady_misses_least(item: list[int], capacity: int) -> None:
    """No choice of who goes misses less; tried out in full."""

    def fewest(i: int, held: frozenset[int]) -> int:
        if i == len(item):
            return 0
        if item[i] in held:
            return fewest(i + 1, held)
        more = held | {item[i]}
        if len(more) <= capacity:
            return 1 + fewest(i + 1, more)
        return 1 + min(fewest(i + 1, more - {gone}) for gone in more)

    assert (~farthest(np.array(item, np.int32), capacity)).sum() == fewest(0, frozenset())


WRONG = {
    "no column": (lambda d: d.drop(columns="resource_id"), "column resource_id: is missing"),
    "kind": (lambda d: d.assign(resource_type="tape"),
             "row 1, column resource_type: 'tape' is none of block, page, connection"),
    "op": (lambda d: d.assign(op=["r"] * 5 + ["q"] + ["w"] * (len(d) - 6)), "row 6, column op: 'q' is none of r, w, x"),
    "empty vm": (lambda d: d.assign(vm_id=[None, *d.vm_id[1:]]), "row 1, column vm_id: is empty"),
    "negative": (lambda d: d.assign(resource_id=[*([3] * 8), -2, *([3] * (len(d) - 9))]),
                 "row 9, column resource_id: '-2' is not a whole number from 0 to 2**64 - 1"),
    "text": (lambda d: d.assign(resource_id=d.resource_id.astype(str).replace({str(d.resource_id[4]): "x"})),
             "row 5, column resource_id: 'x' is not a whole number from 0 to 2**64 - 1"),
    "no rows": (lambda d: d[:0], "has no rows"),
    "superscript": (lambda d: d.assign(resource_id=["²", *d.resource_id[1:].astype(str)]),
                    "row 1, column resource_id: '²' is not a whole number"),
    "double": (lambda d: d.assign(resource_id=[1.0, 2.0**53, *([3.0] * (len(d) - 2))]),
               "row 2, column resource_id: 9007199254740992.0 is not a whole number below 2**53"),
    "lists": (lambda d: d.assign(resource_id=[[1]] * len(d)), "column resource_id: holds list"),
    "list of programs": (lambda d: d.assign(program_id=[["x"]] * len(d)), "column program_id: holds list"),
    "dates": (lambda d: d.assign(sequence=["2026-01-01"] * len(d)),
              "row 1, column sequence: '2026-01-01' is not a whole"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_clear_line(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, text = WRONG[case]
    change(accesses(200)).to_parquet(tmp_path / "in.parquet")
    assert replay(tmp_path / "in.parquet", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert text in said
    assert str(tmp_path / "in.parquet") in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--policy", "dominos"), "did you mean 'domino'?"),
        (("--threshold", "1"), "a threshold of 1: must be between 0 and 1"),
        (("--history-share", "1"), "a history of 1 of the trace: must be from 0 to below 1"),
    ],
)
def test_wrong_use(tmp_path: Path, options: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    accesses(200).to_parquet(tmp_path / "in.parquet")
    assert replay(tmp_path / "in.parquet", tmp_path / "out", *options) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_optional_may_be_missing(tmp_path: Path) -> None:
    data = accesses(1500)
    whole = fetched(data, tmp_path / "whole")
    bare = fetched(data[["sequence", "vm_id", "resource_type", "resource_id", "program_id"]], tmp_path / "bare")
    assert bare.equals(whole)
    data.to_csv(tmp_path / "in.csv", index=False)
    trace = read_access_trace(tmp_path / "in.csv", pytest.fail)
    assert set(trace.spaces) == {("web", "block"), ("db", "page")}
    assert trace.spaces[0] == (data.vm_id[0], data.resource_type[0]), "in order of appearance"
    assert set(trace.streams) == {("web", "nginx", "block"), ("web", "cron", "block"), ("db", "", "page")}
    assert trace.digest == read_access_trace(tmp_path / "whole" / "in.parquet", pytest.fail).digest
    assert trace.items == len(data.drop_duplicates(["vm_id", "resource_type", "resource_id"]))


BARS = {
    "lirs_multi1": (0.79, 0.60), "lirs_multi2": (0.70, 0.55), "lirs_sprite": (0.62, 0.10),
    "pages_redis": (0.46, 0.22), "pages_gcc_cc1": (0.41, 0.04),
}  # fmt: skip
"""Least shares of misses removed at once and 16 accesses later; figures are in docs/evaluation.md."""


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", BARS)
@pytest.mark.skipif(not DATA.exists(), reason="the development traces are not here")
def test_real_traces(tmp_path: Path, name: str) -> None:
    trace = DATA / f"{name}.parquet"
    items = pd.read_parquet(trace, columns=["resource_id"]).resource_id.nunique()
    for delay, least in zip(("0", "16"), BARS[name], strict=True):
        options = ("--cache-items", str(items // 20), "--arrival-delay", delay)
        assert replay(trace, tmp_path / delay, *options) == 0
        assert summary(tmp_path / delay)["headline"]["removed_share"] > least
