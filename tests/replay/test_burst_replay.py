"""``forestall replay burst``: the whole command, causal to the byte, the same again, and nothing half-written."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_burst import services
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forestall.cli import main
from forestall.learning.peaks import model
from forestall.learning.peaks.model import PeakModel
from forestall.replay.burst.peers import PEERS
from forestall.replay.burst.windows import decisions_in

PRIMARIES = Path(__file__).parents[3] / "shared" / "data" / "burst" / "primaries.parquet"
SHORT = ("--history-seconds", "3")
LATE = {"db": 1.21, "cache": 4.33}


def replay(trace: Path, out: Path, *options: str) -> int:
    return main(["replay", "burst", str(trace), "--out", str(out), "--quiet", *options])


def grants(data: pd.DataFrame, folder: Path, *options: str) -> pd.DataFrame:
    folder.mkdir(parents=True, exist_ok=True)
    data.to_parquet(folder / "in.parquet")
    assert replay(folder / "in.parquet", folder / "out", *SHORT, *options) == 0
    return pd.read_parquet(folder / "out" / "grants.parquet")


def summary(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("pool", [(), ("--pool",)])
def test_one_row_for_each_known_vm_and_window(tmp_path: Path, pool: tuple[str, ...]) -> None:
    found = grants(services(late=LATE), tmp_path, *pool)
    assert {name: str(kind) for name, kind in found.dtypes.items()} == {
        "vm_id": "object",
        "time_us": "int64",
        "window_us": "int64",
        "granted_cores": "float64",
    }
    assert (found.window_us == 100_000).all()
    # 320 windows are 80 decisions, and one more begins where the trace ends.
    assert list(found.time_us.unique()) == [25_000 + 100_000 * i for i in range(81)]
    assert list(found.vm_id[found.time_us == 8_025_000]) == ["web", "db", "cache"]
    first = found.groupby("vm_id").time_us.min().to_dict()
    # The first window that begins after a VM's first row.
    assert first == {"web": 25_000, "db": 1_225_000 + 100_000, "cache": 4_325_000 + 100_000}
    assert found.granted_cores.between(0, 1 + 1e-9).all(), "a host of one core: one VM at the start"
    assert np.isfinite(found.granted_cores).all()
    assert found.groupby("time_us").granted_cores.sum().max() <= 1 + 1e-9


@pytest.mark.parametrize("options", [("--pool",), (), ("--pool", "--cores", "2"), ("--policy", "smartharvest")])
def test_cutting_the_trace_changes_nothing_before(tmp_path: Path, options: tuple[str, ...]) -> None:
    """At windows and between, within the history and after it, with the size of the host said and not."""
    data = services(late=LATE)
    data["cpu_cores"] *= 2.5  # so that the history calls for a larger host
    whole = grants(data, tmp_path / "whole", *options)
    for at in (425_000, 1_200_000, 1_325_000, 2_950_000, 3_025_000, 4_425_000, 4_449_000, 6_600_000):
        again = grants(data[data.time_us <= at], tmp_path / str(at), *options)
        mine, theirs = (frame[frame.time_us <= at].reset_index(drop=True) for frame in (again, whole))
        assert mine.equals(theirs), at
        assert mine.time_us.max() > at - 100_000, "up to the cut"


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), rows=st.integers(60, 400), window=st.sampled_from([10, 20]), pool=st.booleans())
def test_cutting_any_trace_anywhere(tmp_path: Path, seed: int, rows: int, window: int, pool: bool) -> None:
    data = services(5.0, window, ("a", "b"), seed, {"b": 2.0}).sample(frac=0.97, random_state=seed).sort_index()
    at = int(data.time_us.iloc[min(rows, len(data) - 1)])
    options = ("--pool",) if pool else ()
    whole = grants(data, tmp_path / "whole", *options)
    again = grants(data[data.time_us <= at], tmp_path / "cut", *options)
    assert again[again.time_us <= at].equals(whole[whole.time_us <= at])


def test_the_same_again(tmp_path: Path) -> None:
    data = services(6.0)
    for name in ("one", "two"):
        grants(data, tmp_path / name, "--pool", "--policy", "forestall,ewma,oracle")
    one, two = (tmp_path / name / "out" for name in ("one", "two"))
    assert (one / "grants.parquet").read_bytes() == (two / "grants.parquet").read_bytes()
    found = [summary(folder) for folder in (one, two)]
    for each in found:
        for took in ("wall_seconds", "peak_memory_bytes"):
            assert each["header"].pop(took) > 0
        each["header"].pop("command")
    assert found[0] == found[1]


@pytest.mark.parametrize("pool", [(), ("--pool",)])
def test_a_budget_is_the_same_alone_and_beside_another(tmp_path: Path, pool: tuple[str, ...]) -> None:
    data = services(12.0)
    alone = grants(data, tmp_path, *pool, "--violation-budget", "0.2", "--cores", "4")
    out = tmp_path / "several"
    options = ("--violation-budget", "0.2,0.01", "--cores", "4", "--policy", "forestall,fixed")
    assert replay(tmp_path / "in.parquet", out, *SHORT, *pool, *options) == 0
    assert sorted(p.name for p in out.iterdir()) == ["budget-0.01", "budget-0.2", "report.html", "summary.json"]
    tables = {b: pd.read_parquet(out / f"budget-{b}" / "grants.parquet") for b in ("0.2", "0.01")}
    assert tables["0.2"].equals(alone)
    scored = [t[t.time_us >= 3_025_000].granted_cores.sum() for t in tables.values()]
    assert scored[0] < scored[1], "the smaller budget reserves more"
    whole, part = summary(out), summary(out / "budget-0.01")
    assert [row["knob"] for row in whole["headlines"]] == [0.2, 0.01]
    assert part["headlines"] == whole["headlines"][1:]
    assert part["header"]["budgets"] == [0.01]
    assert {row["budget"] for row in part["at_budget"]} == {0.01}


def test_all_policies_side_by_side(tmp_path: Path) -> None:
    ours = grants(services(), tmp_path, "--pool", "--policy", "all", "--cores", "2")
    found = summary(tmp_path / "out")
    assert list(dict.fromkeys(row["policy"] for row in found["policies"])) == ["forestall", *PEERS]
    for name, peer in PEERS.items():
        mine = {row["knob"] for row in found["policies"] if row["policy"] == name}
        assert mine >= {*peer.knobs, peer.shipped}
    shipped = {row["policy"]: row["knob"] for row in found["policies"] if row["variant"] == "shipped"}
    assert shipped == {name: peer.shipped for name, peer in PEERS.items() if name != "oracle"}
    best = {row["policy"]: row for row in found["at_budget"]}
    assert [row["in_hindsight"] for row in best.values()] == [False] + [True] * len(PEERS)
    for name, row in best.items():
        kept = [
            r["lent_share"] for r in found["policies"] if r["policy"] == name and r["violation_share"] <= 0.01 + 1e-12
        ]
        if name == "forestall":
            assert row["knob"] == 0.01
            assert row["lent_share"] == found["headlines"][0]["lent_share"]
        elif kept:
            assert row["lent_share"] == max(kept)
        else:
            assert "lent_share" not in row
    assert len(found["headlines"]) == 1
    alone = grants(services(), tmp_path / "alone", "--pool", "--cores", "2")
    assert alone.equals(ours), "grants are those of the first policy"


def test_a_peer_alone_as_it_is_shipped(tmp_path: Path) -> None:
    data = services()
    found = grants(data, tmp_path, "--pool", "--policy", "last_peak", "--cores", "2")
    total = found.groupby("time_us").granted_cores.sum()
    use = data.groupby("time_us").cpu_cores.sum().to_numpy().reshape(80, 4)
    assert total.to_numpy()[1:] == pytest.approx(np.minimum(1.2 * use.max(axis=1), 2.0))
    assert total.iloc[0] == pytest.approx(2.0)
    scores = summary(tmp_path / "out")
    assert len(scores["policies"]) == 1, "nothing to compare with, nothing swept"
    assert scores["header"]["policy"] == "last_peak"
    assert scores["experts"] == {}
    from_30 = total.to_numpy()[30:80]
    assert scores["policies"][0]["violation_share"] == pytest.approx((use.max(axis=1)[30:] > from_30).mean())
    assert scores["policies"][0]["decisions"] == 50


@pytest.mark.parametrize("pool", [(), ("--pool",)])
def test_no_policy_reserves_more_than_the_host_has(tmp_path: Path, pool: tuple[str, ...]) -> None:
    data = services(late=LATE)
    grants(data, tmp_path, *pool, "--policy", "all", "--cores", "1")
    rows = summary(tmp_path / "out")["policies"]
    assert max(row["mean_reserved_cores"] for row in rows) <= 1 + 1e-9
    assert max(row["worst_violation_share"] for row in rows if row["policy"] == "fixed" and row["knob"] == 1.0) > 0
    wide = grants(data, tmp_path, *pool, "--policy", "fixed", "--cores", "1")
    totals = wide.groupby("time_us").granted_cores.sum()
    assert totals.max() <= 1 + 1e-9
    # Half of the host for each of three VMs is more than there is.
    assert totals.iloc[-1] == pytest.approx(0.5 if pool else 1.0)


def test_the_model_is_named_with_what_it_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = PeakModel.shipped()
    grants(services(2.0), tmp_path)
    named = summary(tmp_path / "out")["header"]["model"]
    assert named == {**shipped.about, "sha256": sha256(shipped.graph).hexdigest()}
    assert named["sha256"] in (tmp_path / "out" / "report.html").read_text()
    assert "no recurrent model" not in capsys.readouterr().err
    monkeypatch.setattr(model, "SHIPPED", "nowhere")
    grants(services(2.0), tmp_path)
    assert summary(tmp_path / "out")["header"]["model"] is None
    assert "no recurrent model of peaks is here; forecasts do without it" in capsys.readouterr().err


def test_the_first_policy_makes_the_headline(tmp_path: Path) -> None:
    first = grants(services(), tmp_path, "--pool", "--policy", "oracle,last_peak", "--cores", "2")
    found = summary(tmp_path / "out")
    assert [(row["policy"], row["knob"]) for row in found["headlines"]] == [("oracle", 0.0)]
    use = services().groupby("time_us").cpu_cores.sum().to_numpy().reshape(80, 4)
    assert first.groupby("time_us").granted_cores.sum().to_numpy()[:80] == pytest.approx(use.max(axis=1))


def test_scores_are_those_of_what_was_written(tmp_path: Path) -> None:
    data = services()
    found = grants(data, tmp_path, "--cores", "2")
    table = found.pivot_table(index="time_us", columns="vm_id", values="granted_cores").to_numpy()[30:80]
    use = data.pivot_table(index="time_us", columns="vm_id", values="cpu_cores").to_numpy().reshape(80, 4, 3)[30:]
    scores = summary(tmp_path / "out")["headlines"][0]
    missed = (use.max(axis=1) > table + 1e-9).mean(axis=0)
    assert scores["violation_share"] == pytest.approx(missed.mean())
    assert scores["worst_violation_share"] == pytest.approx(missed.max())
    idle = 2.0 - use.sum(axis=2)
    lent = np.minimum(idle, 2.0 - table.sum(axis=1)[:, None])
    assert scores["lent_share"] == pytest.approx(lent.sum() / idle.sum())


def test_sharing_lends_more(tmp_path: Path) -> None:
    data = services(20.0, names=tuple("abcdef"))
    lent = {}
    for pool in ((), ("--pool",)):
        grants(data, tmp_path, *pool, "--cores", "6")
        lent[pool] = summary(tmp_path / "out")["headlines"][0]["lent_share"]
    assert lent["--pool",] > lent[()] + 0.02


@pytest.mark.parametrize("window_ms", [5, 10, 20])
def test_windows_of_any_length(tmp_path: Path, window_ms: int) -> None:
    found = grants(services(4.0, window_ms), tmp_path, "--window-ms", "100")
    assert list(found.time_us.unique()) == [25_000 + 100_000 * i for i in range(41)]


def test_one_vm(tmp_path: Path) -> None:
    data = services(names=("only",))
    shared, own = (grants(data, tmp_path / str(len(pool)), *pool) for pool in ((), ("--pool",)))
    for found in (shared, own):
        assert set(found.vm_id) == {"only"}
        assert found.granted_cores.between(0, 1 + 1e-9).all()


def test_the_size_of_the_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = services()
    grants(data, tmp_path)
    assert summary(tmp_path / "out")["header"]["cores"] == 3
    assert "--cores is not given: a host of 3, as many as VMs at the start" in capsys.readouterr().err
    data["cpu_cores"] *= 4
    grants(data, tmp_path)
    history = data[data.time_us < 3_025_000].groupby("time_us").cpu_cores.sum().max()
    assert summary(tmp_path / "out")["header"]["cores"] == np.ceil(history) > 3
    assert "after the first 3 s a host of" in capsys.readouterr().err
    found = grants(data, tmp_path, "--cores", "1.5")
    header = summary(tmp_path / "out")["header"]
    assert header["cores"] == 1.5
    assert found.groupby("time_us").granted_cores.sum().max() <= 1.5 + 1e-9
    assert any("more than the host's 1.5" in line for line in header["warnings"])


def test_a_trace_that_is_shorter_than_a_decision_or_its_history(tmp_path: Path) -> None:
    data = services(names=("a", "b"))[:6]
    found = grants(data, tmp_path, "--policy", "all")
    assert list(found.vm_id) == ["a", "b"]
    assert list(found.time_us) == [25_000, 25_000]
    assert summary(tmp_path / "out")["headlines"][0]["violation_share"] is None
    longer = grants(services(2.0), tmp_path, "--policy", "all", "--pool")
    assert len(longer.time_us.unique()) == 21
    assert "nothing was scored" in (tmp_path / "out" / "report.html").read_text()
    assert any("nothing is scored" in line for line in summary(tmp_path / "out")["header"]["warnings"])


def test_gaps_twice_and_out_of_order(tmp_path: Path) -> None:
    data = services()
    spoiled = pd.concat([data.drop(index=range(100, 160)), data.loc[30:40].assign(cpu_cores=0.0), data.loc[30:40]])
    mixed = spoiled.drop_duplicates(["vm_id", "time_us"], keep="last").sample(frac=1, random_state=2)
    assert grants(spoiled, tmp_path / "a").equals(grants(mixed, tmp_path / "b"))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--window-ms", "110"), "--window-ms 110: not a multiple of the trace's windows of 25 ms"),
        (("--policy", "smartharvst"), "no policy is called 'smartharvst'; did you mean 'smartharvest'?"),
        (("--policy", "x"), "no policy is called 'x'; known: forestall, fixed,"),
        (("--cores", "0"), "--cores 0: must be above 0"),
        (("--cores", "nan"), "--cores nan: must be above 0"),
        (("--violation-budget", "0.05,2"), "2 is not between 0 and 0.5"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], line: str
) -> None:
    services(1.0).to_parquet(tmp_path / "in.parquet")
    assert replay(tmp_path / "in.parquet", tmp_path / "new" / "out", *options) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert line in said
    assert [p.name for p in tmp_path.iterdir()] == ["in.parquet"]


def test_bad_input_leaves_what_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = grants(services(1.0), tmp_path)
    capsys.readouterr()
    data = services(1.0)
    data.assign(cpu_cores=["much" if i == 6 else "0.1" for i in range(len(data))]).to_csv(tmp_path / "bad.csv")
    assert replay(tmp_path / "bad.csv", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        f"forestall: {tmp_path}/bad.csv: row 7, column cpu_cores: 'much' is not a number\n"
    )
    assert pd.read_parquet(tmp_path / "out" / "grants.parquet").equals(before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.csv", "in.parquet", "out"]


def test_what_an_earlier_run_wrote_is_gone(tmp_path: Path) -> None:
    grants(services(1.0), tmp_path, "--violation-budget", "0.1")
    assert replay(tmp_path / "in.parquet", tmp_path / "out", "--violation-budget", "0.1,0.05") == 0
    assert not (tmp_path / "out" / "grants.parquet").exists()


def test_the_history_ends_with_a_window() -> None:
    class Trace:
        window_us = 25_000

    assert [decisions_in(Trace(), 4, us) for us in (0, 1, 100_000, 100_001)] == [0, 1, 1, 2]  # type: ignore[arg-type]


@pytest.mark.data
@pytest.mark.skipif(not PRIMARIES.exists(), reason="needs the development trace primaries.parquet")
def test_real_services_share_two_cores(tmp_path: Path) -> None:
    options = ("--pool", "--cores", "2", "--policy", "all", "--violation-budget", "0.05,0.01")
    assert replay(PRIMARIES, tmp_path / "out", *options) == 0
    found = summary(tmp_path / "out")
    loose, tight = found["headlines"]
    assert loose["violation_share"] < 0.07
    assert tight["violation_share"] < 0.02
    assert loose["lent_share"] > 0.6
    assert tight["lent_share"] > 0.5
    oracle = {row["budget"]: row["lent_share"] for row in found["at_budget"] if row["policy"] == "oracle"}
    assert oracle[0.01] == pytest.approx(0.93, abs=0.01)
    assert oracle[0.05] == pytest.approx(0.94, abs=0.01)
