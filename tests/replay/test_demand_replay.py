"""``forestall replay demand`` on a small generated trace: what it writes, that it is causal, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from bad_inputs import CASES, BadInputCase, good_file

from forestall.cli import main
from forestall.demand.explain import reproduce
from forestall.model.forecast import LEVELS
from forestall.replay import workers
from forestall.replay.decision_file import read_decisions
from forestall.replay.generator import Workload, generate
from forestall.replay.trace_writer import write_trace

VMS, STEPS, STEP = 14, 180, 300
START = Workload().start
LATE_VM, LATE_STEP = "vm-0099", 170
CUTS = (60, 150, 166)
"""Before the boosted model's first training, just after it, and just before the late VM appears."""


class InlineExecutor:
    """Runs tasks at once in this process: starting others would take longer than the tasks."""

    def __init__(
        self, *_: object, initializer: Callable[..., None], initargs: tuple[object, ...], **__: object
    ) -> None:
        initializer(*initargs)

    def submit(self, task: Callable[..., object], *arguments: object) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(task(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_: object) -> None:
        """Nothing runs any more."""


@pytest.fixture(autouse=True, scope="module")
def inline() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "ProcessPoolExecutor", InlineExecutor)
        yield patch


COLUMNS = ["vm_id", "timestamp", "cpu_cores", "cpu_limit_cores", "mem_bytes", "mem_limit_bytes"]


def _small(folder: Path, vms: int = 4, steps: int = 60) -> Path:
    path = folder / f"small-{vms}-{steps}.parquet"
    write_trace(generate(Workload(vms=vms, days=steps / 288, short_lived_share=0.0), 5), path)
    pq.write_table(pq.read_table(path, columns=COLUMNS), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replay")


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    return _small(folder)


@pytest.fixture(scope="module")
def rows(folder: Path) -> pd.DataFrame:
    """CPU and memory of VMs with gaps and short lives, and of one that comes at the end."""
    path = folder / "whole.parquet"
    write_trace(generate(Workload(vms=VMS, days=STEPS / 288, short_lived_share=0.15), 3), path)
    frame = pq.read_table(path).to_pandas()
    frame = frame[COLUMNS]
    late = frame[(frame.vm_id == "vm-0001") & (frame.timestamp >= START + LATE_STEP * STEP)].assign(vm_id=LATE_VM)
    return pd.concat([frame, late], ignore_index=True)


def _replay(trace: Path, out: Path, *options: str, expect: int = 0) -> Path:
    assert main(["replay", "demand", str(trace), "--out", str(out), "--quiet", *options]) == expect
    return out


def _cut(rows: pd.DataFrame, folder: Path, after: int) -> Path:
    """The trace without the rows after interval ``after``."""
    path = folder / f"cut-{after}.parquet"
    rows[rows.timestamp <= START + after * STEP].to_parquet(path)
    return path


def _allocations(folder: Path, until: int | None = None, resource: str = "cpu") -> pd.DataFrame:
    frame = pq.read_table(folder / "allocations.parquet").to_pandas()
    frame = frame.astype({"vm_id": str, "resource": str})
    frame = frame[(frame.resource == resource) & ~(frame.timestamp > (until or 2**60))]
    return frame.sort_values(["vm_id", "timestamp"], ignore_index=True)


def _same_bytes(a: pd.DataFrame, b: pd.DataFrame) -> None:
    assert len(a) > 0
    assert a.vm_id.tolist() == b.vm_id.tolist()
    assert a.timestamp.to_numpy().tobytes() == b.timestamp.to_numpy().tobytes()
    assert a.allocated.to_numpy().tobytes() == b.allocated.to_numpy().tobytes()


POOLED = ("--violation-budget", "0.05,0.01", "--vms-per-host", "5", "--overcommit", "4")


@pytest.fixture(scope="module")
def full(rows: pd.DataFrame, folder: Path) -> Path:
    """Two budgets, tight pools, everything written."""
    path = folder / "full.parquet"
    rows.to_parquet(path)
    return _replay(path, folder / "full", *POOLED, "--decisions", "--forecasts")


# What it writes --------------------------------------------------------------------------------------------


def test_several_budgets_have_folders_of_their_own(full: Path) -> None:
    assert sorted(p.name for p in full.iterdir()) == ["budget-0.01", "budget-0.05", "report.html", "summary.json"]
    for budget in ("budget-0.01", "budget-0.05"):
        assert sorted(p.name for p in (full / budget).iterdir()) == [
            "allocations.parquet",
            "decisions.parquet",
            "forecasts.parquet",
            "report.html",
            "risk.parquet",
            "summary.json",
        ]
    tight, loose = (_allocations(full / b).allocated.sum() for b in ("budget-0.05", "budget-0.01"))
    assert tight < loose


def test_there_is_one_allocation_for_each_vm_interval_and_resource(full: Path, rows: pd.DataFrame) -> None:
    table = pq.read_table(full / "budget-0.01" / "allocations.parquet")
    assert table.column_names == ["vm_id", "timestamp", "resource", "allocated"]
    assert str(table.schema.field("timestamp").type) == "int64"
    assert str(table.schema.field("allocated").type) == "double"
    frame = table.to_pandas()
    assert not frame.duplicated(["vm_id", "timestamp", "resource"]).any()
    assert frame.resource.astype(str).unique().tolist() == ["cpu", "memory"]
    assert (frame.allocated >= 0).all()
    assert np.isfinite(frame.allocated).all()
    end = START + STEPS * STEP
    assert frame.timestamp.max() == end, "the interval after the end was decided too"
    for resource, column in (("cpu", "cpu_cores"), ("memory", "mem_bytes")):
        mine = frame[frame.resource == resource].set_index(["vm_id", "timestamp"]).allocated
        seen = rows[rows[column].notna()]
        first = seen.groupby("vm_id").timestamp.min()
        after = seen[seen.timestamp > seen.vm_id.map(first)]
        assert mine.index.is_unique
        assert pd.MultiIndex.from_frame(after[["vm_id", "timestamp"]]).isin(mine.index).all()
        for vm, at in first.items():
            assert mine.loc[vm].index.tolist() == list(range(at + STEP, end + 1, STEP))


def test_allocations_stay_within_limits_and_pools(full: Path, rows: pd.DataFrame) -> None:
    limit = rows.groupby("vm_id").cpu_limit_cores.max()
    mine = _allocations(full / "budget-0.01")
    assert (mine.allocated <= mine.vm_id.map(limit) * (1 + 1e-9)).all()
    prices = pq.read_table(full / "budget-0.01" / "decisions.parquet").to_pandas().price
    assert (prices > 0).mean() > 0.05, "the pools are tight now and then"


def test_forecasts_risk_and_summary(full: Path) -> None:
    forecasts = pq.read_table(full / "budget-0.01" / "forecasts.parquet").to_pandas()
    assert list(forecasts.columns) == ["vm_id", "issued_at", "target_at", "resource", "quantile", "value"]
    assert {0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99} <= set(forecasts["quantile"]) == set(LEVELS)
    leads = (forecasts.target_at - forecasts.issued_at) // STEP
    assert set(leads) == {1, 3, 12}
    keys = ["vm_id", "issued_at", "target_at", "resource"]
    ordered = forecasts.astype({"vm_id": str, "resource": str}).sort_values([*keys, "quantile"])
    assert not ordered.duplicated([*keys, "quantile"]).any()
    inside = ordered.value.diff()[ordered.duplicated(keys)]
    assert (inside >= -1e-6 * ordered.value.abs().max()).all()
    risk = pq.read_table(full / "budget-0.01" / "risk.parquet").to_pandas()
    assert list(risk.columns) == ["vm_id", "issued_at", "horizon_seconds", "resource", "limit", "probability"]
    assert set(risk.horizon_seconds) == {300, 600, 900, 3600}
    assert risk.probability.between(0, 1).all()
    summary = json.loads((full / "budget-0.01" / "summary.json").read_text())
    header = summary["header"]
    assert (header["seed"], header["lead_steps"], header["vms"], header["intervals"]) == (0, 1, VMS + 1, STEPS)
    assert header["wall_seconds"] > 0
    assert header["peak_memory_bytes"] > 0
    assert len(header["digest"]) == 64
    assert header["version"]
    assert [p["setting"] for p in summary["resources"]["cpu"]] == [0.01]
    for key in ("violation_share", "severity", "slack", "reclaimed_share", "changes_per_vm_hour"):
        assert key in summary["resources"]["cpu"][0]
    assert not re.search(r"(src|href)=.?http", (full / "report.html").read_text()), "needs no network"


def test_every_decision_written_can_be_reproduced(full: Path) -> None:
    frame = pq.read_table(full / "budget-0.01" / "decisions.parquet").to_pandas()
    mine = _allocations(full / "budget-0.01").set_index(["vm_id", "timestamp"]).allocated
    for vm in ("vm-0001", "vm-0005", LATE_VM):
        times = frame[(frame.vm_id == vm) & (frame.resource == "cpu")].in_force_at
        for at in (times.min(), *times.iloc[:: max(len(times) // 4, 1)], times.max()):
            decision = next(d for d in read_decisions(full / "budget-0.01", vm, int(at)) if d.resource == "cpu")
            assert decision.in_force_at == at
            assert decision.allocated == mine[vm, at]
            assert reproduce(decision) == pytest.approx(decision.allocated, rel=1e-9)


def test_explain_prints_one_decision(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["--from", str(full / "budget-0.01")]
    assert main(["explain", "vm-0003", *source]) == 0
    assert "vm-0003" in capsys.readouterr().out
    at = START + 100 * STEP + 17
    assert main(["explain", "vm-0003", "--at", str(at), "--json", *source]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert [d["resource"] for d in told] == ["cpu", "memory"]
    assert all(d["in_force_at"] == START + 100 * STEP for d in told)
    assert all(d["reproduced"] == pytest.approx(d["allocated"], rel=1e-9) for d in told)
    for wrong in (["nobody", *source], ["vm-0003", "--at", "5", *source], ["vm-0003", "--from", str(full)]):
        assert main(["explain", *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


# Causal and repeatable -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", CUTS)
def test_cutting_the_trace_changes_no_decision_before(full: Path, rows: pd.DataFrame, folder: Path, after: int) -> None:
    out = _replay(_cut(rows, folder, after), folder / f"cut-{after}", "--resources", "cpu", *POOLED)
    until = START + (after + 1) * STEP
    for budget in ("budget-0.01", "budget-0.05"):
        cut = _allocations(out / budget)
        assert cut.timestamp.max() == until
        _same_bytes(cut, _allocations(full / budget, until))


HOSTS = """
[[host]]
name = "h1"
vms = ["vm-000[1-6]"]
cpu_cores = 4
[[host]]
name = "h2"
vms = ["vm-0*"]
cpu_cores = 3.5
allocation_ratio = 2.0
"""
FROM = str(START + 100 * STEP)


@pytest.fixture(scope="module")
def late_lead(rows: pd.DataFrame, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Lead 3 on two hosts, the first 100 intervals only history."""
    hosts = folder / "hosts.toml"
    hosts.write_text(HOSTS)
    options = ("--resources", "cpu", "--lead-steps", "3", "--evaluate-from", FROM, "--hosts", str(hosts))
    return _replay(_cut(rows, folder, STEPS), folder / "late", *options), options


@pytest.mark.parametrize("after", CUTS[1:])
def test_the_same_with_lead_history_and_hosts(
    late_lead: tuple[Path, tuple[str, ...]], rows: pd.DataFrame, folder: Path, after: int
) -> None:
    whole, options = late_lead
    out = _replay(_cut(rows, folder, after), folder / f"late-{after}", *options)
    until = START + (after + 3) * STEP
    cut = _allocations(out)
    assert (cut.timestamp.min(), cut.timestamp.max()) == (int(FROM), until)
    _same_bytes(cut, _allocations(whole, until))
    assert _allocations(whole).timestamp.max() == START + (STEPS + 2) * STEP
    sums = _allocations(whole)[lambda f: f.vm_id.str.fullmatch("vm-000[1-6]")].groupby("timestamp").allocated.sum()
    assert (sums <= 4 * (1 + 1e-9)).all()


def test_the_same_seed_gives_the_same_bytes_in_processes_of_their_own(
    late_lead: tuple[Path, tuple[str, ...]], rows: pd.DataFrame, folder: Path, inline: pytest.MonkeyPatch
) -> None:
    whole, options = late_lead
    with pytest.MonkeyPatch.context() as patch:
        from concurrent.futures import ProcessPoolExecutor

        patch.setattr(workers, "ProcessPoolExecutor", ProcessPoolExecutor)
        again = _replay(_cut(rows, folder, STEPS), folder / "again", *options)
    for name in ("allocations.parquet", "risk.parquet"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


# Policies and options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [1, 2])
def test_a_peer_writes_the_same_table(small: Path, tmp_path: Path, lead: int) -> None:
    out = _replay(small, tmp_path / "vpa", "--policy", "vpa", "--resources", "cpu,memory", "--lead-steps", str(lead))
    frame = pq.read_table(out / "allocations.parquet").to_pandas()
    assert set(frame.resource) == {"cpu", "memory"}
    assert frame.timestamp.max() == START + (60 + lead - 1) * STEP
    assert not frame.duplicated(["vm_id", "timestamp", "resource"]).any()
    assert sorted(p.name for p in out.iterdir()) == ["allocations.parquet", "report.html", "summary.json"]


def test_all_policies_side_by_side(folder: Path, tmp_path: Path) -> None:
    out = _replay(_small(folder, 3, 40), tmp_path / "all", "--policy", "all", "--resources", "cpu")
    told = json.loads((out / "summary.json").read_text())["policies"]
    assert {"forestall", "static", "vpa", "oracle", "reactive"} <= {p["policy"] for p in told}
    shares = {(p["policy"], p["variant"]): p["violation_share"] for p in told}
    assert shares["static", "shipped"] == 0
    assert len(_allocations(out)) > 0


def test_policies_bind(small: Path, tmp_path: Path) -> None:
    policies = tmp_path / "p.toml"
    policies.write_text(
        '[[rule]]\nname = "gold"\nvms = ["vm-0001"]\nweight = 4\nfloor_ratio = 0.9\n'
        '[[rule]]\nname = "cheap"\nvms = ["vm-0002"]\nceiling_ratio = 0.25\n'
    )
    out = _replay(small, tmp_path / "p", "--policies", str(policies), "--resources", "cpu", "--decisions")
    limit = pq.read_table(small).to_pandas().groupby("vm_id").cpu_limit_cores.max()
    mine = _allocations(out).groupby("vm_id").allocated
    assert mine.min()["vm-0001"] >= 0.9 * limit["vm-0001"] * (1 - 1e-9)
    assert mine.max()["vm-0002"] <= 0.25 * limit["vm-0002"] * (1 + 1e-9)
    assert [d.policies for d in read_decisions(out, "vm-0001", None)] == [("gold",)]


def test_changes_are_as_rare_as_asked(folder: Path, tmp_path: Path) -> None:
    steps = 150
    trace = _small(folder, 5, steps)
    free = _replay(trace, tmp_path / "free", "--resources", "cpu")
    rare = _replay(trace, tmp_path / "rare", "--resources", "cpu", "--max-changes-per-vm-hour", "1")
    changes = {}
    for name, out in (("free", free), ("rare", rare)):
        moved = _allocations(out).groupby("vm_id").allocated.apply(lambda a: (a.pct_change().abs() > 0.01).sum())
        changes[name] = moved.to_numpy()
    assert (changes["rare"] <= steps / 12 + 4).all()
    assert changes["rare"].sum() < 0.5 * changes["free"].sum()
    summary = json.loads((rare / "summary.json").read_text())
    assert summary["resources"]["cpu"][0]["changes_per_vm_hour"] <= 1 + 4 / (steps / 12)


def test_history_before_the_evaluation_teaches(folder: Path, tmp_path: Path) -> None:
    trace = _small(folder, 5, 150)
    out = _replay(trace, tmp_path / "o", "--resources", "cpu", "--evaluate-from", str(START + 120 * STEP))
    mine = _allocations(out)
    assert mine.timestamp.min() == START + 120 * STEP
    assert mine.groupby("vm_id").size().tolist() == [31] * 5


# What it refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--policy", "vpq"], "vpq"),
        (["--policy", "proxmox", "--resources", "cpu"], "memory"),
        (["--resources", "gpu"], "gpu"),
        (["--resources", "disk_read,"], "--resources"),
        (["--violation-budget", "0"], "between 0 and 0.5"),
        (["--violation-budget", "0.01,0.01"], "twice"),
        (["--violation-budget", "one"], "not a number"),
        (["--violation-budget", "nan"], "between"),
        (["--lead-steps", "0"], "lead-steps"),
        (["--evaluate-from", "9999999999"], "after the trace's last interval"),
        (["--vms-per-host", "2", "--overcommit", "0"], "overcommit"),
        (["--max-changes-per-vm-hour", "0"], "must be above 0"),
        (["--max-changes-per-vm-hour", "nan"], "must be above 0"),
        (["--hosts", "nowhere.toml"], "nowhere.toml"),
        (["--policies", "nowhere.toml"], "nowhere.toml"),
        (["--colour"], "No such option"),
    ],
)
def test_wrong_use_is_one_line(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], text: str
) -> None:
    _replay(small, tmp_path / "out", *options, expect=2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert text in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_resource_that_the_trace_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _replay(good_file(tmp_path), tmp_path / "out", "--resources", "disk_read", expect=2)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "[[host]]\nname = 'a'\n",
        "[[host]]\nname = 'a'\nvms = 'x'\n",
        "[[host]]\nname = 'a'\nvms = []\ncpu = 3\n",
        "[[host]]\nname = 'a'\nvms = ['*']\ncpu_cores = -1\n",
        "[[host]]\nname = 'a'\nvms = ['*']\ncpu_cores = nan\n",
        "[[host]]\nname = 'a'\nvms = ['*']\nallocation_ratio = 0\n",
        "[[host]]\nname = 'a'\nvms = []\n[[host]]\nname = 'a'\nvms = []\n",
        "",
    ],
)
def test_a_bad_hosts_file_is_one_line(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    hosts = tmp_path / "hosts.toml"
    hosts.write_text(text)
    _replay(small, tmp_path / "out", "--hosts", str(hosts), expect=2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "hosts.toml" in lines[0]
    assert not (tmp_path / "out").exists()


def test_hosts_in_two_ways_at_once(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hosts.toml").write_text(HOSTS)
    _replay(small, tmp_path / "out", "--hosts", str(tmp_path / "hosts.toml"), "--vms-per-host", "3", expect=2)
    assert "exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["write_risk", "assemble", "replay_demand"])
def test_a_run_that_fails_leaves_the_folder_as_it_was(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "allocations.parquet").write_bytes(b"of an earlier run")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(f"forestall.bootstrap.replay.{where}", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        main(["replay", "demand", str(small), "--out", str(out), "--resources", "cpu", "--quiet"])
    assert (out / "allocations.parquet").read_bytes() == b"of an earlier run"
    assert [p.name for p in out.iterdir()] == ["allocations.parquet"]
    assert list(tmp_path.iterdir()) == [out], "nothing partial is left"


def test_a_task_that_fails_in_its_process_fails_the_run(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in a process")

    monkeypatch.setattr("forestall.replay.demand_replay.run_resource", fail)
    with pytest.raises(RuntimeError, match="in a process"):
        main(["replay", "demand", str(small), "--out", str(tmp_path / "out"), "--quiet"])
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_is_a_file(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("mine")
    _replay(small, tmp_path / "out", expect=2)
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("case", [c for c in CASES if c.exit_code], ids=str)
def test_a_bad_trace_is_refused_in_one_line(
    case: BadInputCase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    out = tmp_path / "out"
    _replay(case.write(source), out, expect=2)
    told, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert all(text in lines[0] for text in case.texts), err
    assert lines[0].startswith("forestall: ")
    assert told == ""
    assert list(tmp_path.iterdir()) == [source]


DIFFERENT = (
    "a single row",
    "a VM without a limit",
    "a VM without a sample",
    "an outlier a million times too high",
    "an outlier where there is no limit",
    "limits in other units",
)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in DIFFERENT], ids=str)
def test_what_can_be_repaired_is_replayed(
    case: BadInputCase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = _replay(case.write(tmp_path), tmp_path / "out")
    err = capsys.readouterr().err
    assert all(any(text in line for line in err.splitlines()) for text in case.texts), err
    summary = json.loads((out / "summary.json").read_text())
    assert summary["header"]["warnings"]
    frame = pq.read_table(out / "allocations.parquet").to_pandas()
    assert np.isfinite(frame.allocated).all()


def test_every_case_is_named() -> None:
    assert {c.name for c in CASES if not c.exit_code} >= set(DIFFERENT)


BITBRAINS = Path(__file__).parents[3] / "shared/data/demand/bitbrains.parquet"


@pytest.mark.data
@pytest.mark.skipif(not BITBRAINS.exists(), reason="needs the development trace bitbrains.parquet")
def test_a_slice_of_a_real_trace(tmp_path: Path) -> None:
    table = pq.read_table(BITBRAINS, columns=["vm_id", "timestamp", "cpu_cores", "cpu_limit_cores"]).to_pandas()
    names = sorted(table.vm_id.unique())[100:105]
    mine = table[table.vm_id.isin(names)]
    mine = mine[mine.timestamp < mine.timestamp.min() + 3 * 86_400]
    mine.to_parquet(tmp_path / "slice.parquet")
    out = _replay(tmp_path / "slice.parquet", tmp_path / "out", "--violation-budget", "0.05")
    scores = json.loads((out / "summary.json").read_text())["resources"]["cpu"][0]
    assert scores["violation_share"] < 0.08
    assert scores["reclaimed_share"] > 0.1
