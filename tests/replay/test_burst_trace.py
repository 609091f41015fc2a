"""The reader of burst traces: on a grid, in any order, and one clear line for what cannot be understood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_burst import services

from forestall.model.errors import BadInput, WrongUse
from forestall.replay.burst.trace import BurstTrace, read_burst_trace
from forestall.replay.burst.windows import cut, known_vms, windows_in


def read(frame: pd.DataFrame, folder: Path, notes: list[str] | None = None) -> BurstTrace:
    frame.to_parquet(folder / "in.parquet")
    return read_burst_trace(folder / "in.parquet", (notes if notes is not None else []).append)


def refused(frame: pd.DataFrame, folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read(frame, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}/")


def test_rows_become_a_grid(tmp_path: Path) -> None:
    data = services()
    trace = read(data, tmp_path)
    assert (trace.start_us, trace.window_us, trace.windows) == (25_000, 25_000, 320)
    assert trace.vm_ids == ("cache", "db", "web"), "those that begin together stand by name"
    expected = data.pivot_table(index="time_us", columns="vm_id", values="cpu_cores")[list(trace.vm_ids)]
    assert np.array_equal(trace.cores, expected.to_numpy())


@pytest.mark.parametrize("window_ms", [5, 10, 20, 25])
def test_windows_of_any_length(tmp_path: Path, window_ms: int) -> None:
    trace = read(services(window_ms=window_ms), tmp_path)
    assert trace.window_us == 1000 * window_ms
    assert windows_in(trace, 100) == 100 // window_ms
    with pytest.raises(WrongUse, match=r"--window-ms 101: not a multiple of the trace's windows"):
        windows_in(trace, 101)


def test_the_order_of_rows_and_where_they_stand_do_not_matter(tmp_path: Path) -> None:
    data = services()
    whole = read(data, tmp_path)
    shuffled = data.sample(frac=1, random_state=1)
    folder = tmp_path / "several"
    folder.mkdir()
    shuffled[:500].to_csv(folder / "a.csv", index=False)
    shuffled[500:].to_parquet(folder / "b.parquet")
    again = read_burst_trace(folder, pytest.fail)
    assert again.vm_ids == whole.vm_ids
    assert np.allclose(again.cores, whole.cores)
    assert read(shuffled, tmp_path).digest == whole.digest


def test_vms_that_come_later_stand_last(tmp_path: Path) -> None:
    trace = read(services(late={"cache": 2.0, "db": 1.0}), tmp_path)
    assert trace.vm_ids == ("web", "db", "cache")
    assert list(trace.first) == [0, 39, 79]
    # Known when decided on: those that had a row before the window began.
    assert list(known_vms(trace, 4)[[0, 9, 10, 19, 20]]) == [1, 1, 2, 2, 3]
    assert trace.head(79).vm_ids == ("web", "db")
    assert np.array_equal(trace.head(79).cores, trace.cores[:79, :2], equal_nan=True)


def test_gaps_use_nothing_and_of_two_rows_the_last_counts(tmp_path: Path) -> None:
    data = services(names=("web",))
    twice = pd.concat([data.drop(index=[10, 11]), data.loc[[20]].assign(cpu_cores=7.0)])
    notes: list[str] = []
    trace = read(twice, tmp_path, notes)
    assert np.isnan(trace.cores[10:12]).all()
    assert (trace.known[10:12] == 0).all()
    assert trace.cores[20, 0] == 7.0
    assert notes == [
        f"repair: {tmp_path}/in.parquet: column time_us: 1 rows share a window, the last one counts",
    ]


def test_what_is_impossible_is_a_gap_and_said(tmp_path: Path) -> None:
    data = services(names=("web",))
    data.loc[[5, 9], "cpu_cores"] = [-1.0, np.inf]
    notes: list[str] = []
    trace = read(data, tmp_path, notes)
    assert np.isnan(trace.cores[[5, 9]]).all()
    assert "row 6, column cpu_cores: not possible, treated as a gap (2 in all)" in notes[0]


def test_late_rows_change_no_early_sum_of_the_pool(tmp_path: Path) -> None:
    names = tuple(f"vm{i:02}" for i in range(20))
    late = dict.fromkeys(names[9:], 4.0)
    whole = read(services(names=names, late=late), tmp_path)
    early = whole.head(150)
    assert len(early.vm_ids) == 9
    pools = [cut(trace, 4, 8.0, 0, pooled=True).use[:37] for trace in (whole, early)]
    assert pools[0].tobytes() == pools[1].tobytes()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda d: d.drop(columns="cpu_cores"), "in.parquet: column cpu_cores: is missing"),
        (lambda d: d.assign(time_us=d.time_us - 30_000), "row 1, column time_us: -5000 is negative"),
        (lambda d: d.assign(time_us=d.time_us + 0.5), "row 1, column time_us: 25000.5 is not a whole number"),
        (
            lambda d: d.assign(cpu_cores=["0.5"] * 3 + ["much"] + ["0"] * (len(d) - 4)),
            "row 4, column cpu_cores: 'much'",
        ),
        (lambda d: d.assign(vm_id=[""] + ["web"] * (len(d) - 1)), "row 1, column vm_id: is empty"),
        (lambda d: d[:0], "in.parquet: has no rows"),
        (lambda d: d[:3], "column time_us: no VM has two rows"),
        (lambda d: d.assign(time_us=d.time_us * 1000), "column time_us: windows of 25000000 µs; expected 1000 to"),
        (
            lambda d: d.assign(time_us=[*d.time_us[:-1], 10**13]),
            "column time_us: 400000000 windows of 25000 µs for 3 VMs: is a clock wrong?",
        ),
    ],
)
def test_what_cannot_be_understood(tmp_path: Path, change, line: str) -> None:  # type: ignore[no-untyped-def]
    assert line in refused(change(services()), tmp_path)
