"""``forestall replay anomaly``: one causal score for each row, peers beside it, bad input refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forestall.cli import main
from forestall.replay.scores.anomaly import alarmed, benchmark, score_anomalies

NAB = Path(__file__).parents[3] / "shared" / "data" / "anomaly" / "nab.parquet"


def frame(seed: int = 0) -> pd.DataFrame:
    """Two series of different length, one with a fault that is labelled, one with a date as timestamp's origin."""
    generator = np.random.default_rng(seed)
    parts = []
    for name, rows in (("web", 1500), ("db", 900)):
        value = 10 + np.sin(np.arange(rows) * 2 * np.pi / 288) + generator.normal(0, 0.3, rows)
        window = np.zeros(rows, bool)
        if name == "web":
            value[1000:1040] += 12
            window[960:1060] = True
        at = 1_700_000_000 + 300 * np.arange(rows)
        parts.append(pd.DataFrame({"series": name, "timestamp": at, "value": value, "in_window": window}))
    return pd.concat(parts, ignore_index=True)


def run(*arguments: str) -> int:
    return main(list(arguments))


def scores(data: pd.DataFrame, folder: Path, *arguments: str) -> pd.DataFrame:
    folder.mkdir(parents=True, exist_ok=True)
    data.to_parquet(folder / "in.parquet")
    assert (
        run("replay", "anomaly", str(folder / "in.parquet"), "--out", str(folder / "out"), "--quiet", *arguments) == 0
    )
    return pd.read_parquet(folder / "out" / "scores.parquet")


def test_one_score_for_each_row_in_the_order_of_the_input(tmp_path: Path) -> None:
    data = frame()
    shuffled = data.sample(frac=1, random_state=1).reset_index(drop=True)
    found = scores(shuffled, tmp_path)
    assert list(found.columns) == ["series", "timestamp", "score"]
    assert found[["series", "timestamp"]].equals(shuffled[["series", "timestamp"]])
    assert found.score.between(0, 1).all()
    web = found[found.series == "web"].sort_values("timestamp").score.to_numpy()
    evidence = -np.log1p(-web)
    assert evidence[1000:1040].max() > 2 * evidence[300:1000].max(), "the fault stands out"


def test_a_score_depends_on_earlier_rows_alone(tmp_path: Path) -> None:
    data = frame()
    whole = scores(data, tmp_path / "whole").set_index(["series", "timestamp"]).score
    cut = scores(data[data.timestamp < 1_700_000_000 + 300 * 700], tmp_path / "cut")
    cut = cut.set_index(["series", "timestamp"]).score
    assert (whole.loc[cut.index] == cut).all()


def test_dates_and_seconds_give_the_same_scores(tmp_path: Path) -> None:
    data = frame()
    dated = data.assign(timestamp=pd.to_datetime(data.timestamp, unit="s"))
    found = scores(dated, tmp_path / "dates")
    assert found.timestamp.equals(dated.timestamp)
    assert (found.score == scores(data, tmp_path / "seconds").score).all()


def test_all_peers_side_by_side_with_their_scores(tmp_path: Path) -> None:
    scores(frame(), tmp_path, "--policy", "all")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    found = summary["policies"]
    assert set(found) == {"forestall", "half_space_trees", "robust_z", "seasonal_residual", "ewma", "random"}
    assert found["forestall"]["auc_pr"] > 4 * found["random"]["auc_pr"]
    assert found["forestall"]["nab"] > found["random"]["nab"]


def test_without_labels_scores_are_written_and_nothing_is_judged(tmp_path: Path) -> None:
    found = scores(frame().drop(columns="in_window"), tmp_path, "--policy", "robust_z")
    assert len(found) == 2400
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "auc_pr" not in summary["policies"]["robust_z"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d.drop(columns="value"), "column value: is missing"),
        (
            lambda d: d.assign(value=d.value.astype(str).where(d.index != 7, "high")),
            "row 8, column value: 'high' is not a number",
        ),
        (lambda d: d.assign(series=d.series.where(d.index != 3, None)), "row 4, column series: is empty"),
        (lambda d: d.iloc[:0], "has no rows"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, capsys, spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    spoil(frame()).to_csv(tmp_path / "in.csv", index=False)
    assert run("replay", "anomaly", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out")) == 2
    err = capsys.readouterr().err.strip()
    assert said in err
    assert "in.csv" in err
    assert not (tmp_path / "out").exists()
    assert run("replay", "anomaly", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out"), "--policy", "ewm") == 2
    assert "did you mean 'ewma'" in capsys.readouterr().err


def test_infinite_values_are_left_out_and_said(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    data = frame()
    data.loc[5, "value"] = np.inf
    assert scores(data, tmp_path).score.notna().all()
    assert "row 6, column value: infinite" in capsys.readouterr().err


def test_labels_that_are_not_understood_are_said(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    data = frame()
    data["in_window"] = pd.to_datetime(data.timestamp, unit="s")
    assert len(scores(data, tmp_path)) == len(data)
    assert "column in_window: holds timestamp[ns], not true and false: nothing is judged" in capsys.readouterr().err


def test_the_benchmark_by_hand() -> None:
    labels = np.zeros(100, bool)
    labels[50:60] = True
    first, late, none = (np.zeros(100, bool) for _ in range(3))
    first[50] = late[59] = True
    assert benchmark(first, labels) == pytest.approx(1.0)
    assert 0 < benchmark(late, labels) < 0.5
    assert benchmark(none, labels) == -1.0
    false = none.copy()
    false[10] = True
    assert benchmark(false, labels) == pytest.approx(-1.11)
    assert alarmed(np.arange(200.0)).sum() == 2
    perfect = score_anomalies([(labels.astype(float), labels)])
    assert perfect.auc_pr == 1.0


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not NAB.exists(), reason="the development traces are not here")
def test_better_than_each_peer_on_real_series(tmp_path: Path) -> None:
    assert run("replay", "anomaly", str(NAB), "--out", str(tmp_path / "out"), "--policy", "all", "--quiet") == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["policies"]
    mine = found.pop("forestall")
    assert mine["auc_pr"] > 1.3 * max(peer["auc_pr"] for peer in found.values())
    assert mine["nab"] > max(2.0, *(peer["nab"] for peer in found.values()))
