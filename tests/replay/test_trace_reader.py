"""Reading and writing demand traces: round trips, causality, and the grid."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bad_inputs import START, STEP, good_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.model.errors import BadInput
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace
from forestall.replay.trace_reader import read_trace
from forestall.replay.trace_writer import write_trace

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "demand"


def quiet(_: str) -> None:
    """Take no notice of repairs."""


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Rows of a few VMs on a grid, with gaps in rows and in values; the first VM has its first three."""
    steps, vms = draw(st.integers(3, 12)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    step = draw(st.sampled_from([1, 25, 60, 300, 3600]))
    at = draw(st.integers(0, 2 * 10**9)) + step * np.arange(steps)
    frame = pd.DataFrame(
        {
            "vm_id": np.repeat([f"vm {'dabc'[v]}" for v in range(vms)], steps),
            "timestamp": np.tile(at, vms),
            "cpu_cores": rng.uniform(0, 4, steps * vms),
            "cpu_limit_cores": rng.choice([0.0, 2.0, 4.0], steps * vms),
            "mem_bytes": rng.uniform(0, 1e10, steps * vms),
            "mem_limit_bytes": 1e10,
            "disk_read_bytes_per_s": rng.uniform(0, 1e6, steps * vms),
        }
    )
    for column in frame.columns[2:]:
        frame.loc[rng.random(len(frame)) < 0.2, column] = np.nan
    keep = rng.random(len(frame)) < 0.8
    keep[:3] = True
    frame.loc[:2, ["cpu_cores", "cpu_limit_cores", "mem_limit_bytes"]] = [1.0, 2.0, 1e10]
    return frame[keep].reset_index(drop=True)


def read_frame(frame: pd.DataFrame, folder: Path, name: str = "t.parquet") -> Trace:
    path = folder / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
    return read_trace(path, warn=quiet)


@given(frames())
@settings(max_examples=60)
def test_what_is_written_is_read_back(frame: pd.DataFrame) -> None:
    with tempfile.TemporaryDirectory() as name:
        trace = read_frame(frame, Path(name))
        write_trace(trace, Path(name) / "again.parquet")
        again = read_trace(Path(name) / "again.parquet", warn=quiet)
        assert sorted(p.name for p in Path(name).iterdir()) == ["again.parquet", "t.parquet"]
    assert (again.digest, again.grid, again.vm_ids) == (trace.digest, trace.grid, trace.vm_ids)
    assert again.resources == trace.resources
    for resource in trace.resources:
        np.testing.assert_array_equal(again.demand[resource], trace.demand[resource])
        np.testing.assert_array_equal(again.limit[resource], trace.limit[resource])


@given(frames(), st.integers(0, 100))
@settings(max_examples=40)
def test_the_order_of_rows_and_the_kind_of_file_change_nothing(frame: pd.DataFrame, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        trace = read_frame(frame, Path(name))
        shuffled = read_frame(frame.sample(frac=1, random_state=seed), Path(name), "s.csv")
    assert shuffled.digest == trace.digest


@given(frames(), st.data())
@settings(max_examples=60)
def test_cutting_a_trace_changes_nothing_before_the_cut(frame: pd.DataFrame, data: st.DataObject) -> None:
    instants = np.unique(frame.timestamp)
    cut = int(data.draw(st.sampled_from(list(instants[1:]))))
    with tempfile.TemporaryDirectory() as name:
        trace = read_frame(frame, Path(name))
        part = read_frame(frame[frame.timestamp <= cut], Path(name))
    assert_is_beginning(part, trace)


def assert_is_beginning(part: Trace, whole: Trace) -> None:
    """Assert that ``part`` is what ``whole`` looked like when it had got so far."""
    n, vms = part.grid.steps, len(part.vm_ids)
    assert part.grid == Grid(whole.grid.start, whole.grid.step_seconds, n)
    assert part.vm_ids == whole.vm_ids[:vms]
    for resource in part.resources:
        np.testing.assert_array_equal(part.demand[resource], whole.demand[resource][:n, :vms])
        assert np.isnan(whole.demand[resource][:n, vms:]).all()
        np.testing.assert_array_equal(part.limit[resource], whole.limit[resource][:n, :vms])


def test_cutting_a_trace_with_jitter_changes_neither_step_nor_phase(tmp_path: Path) -> None:
    frame = good_frame()
    frame.timestamp += np.random.default_rng(4).integers(-20, 21, len(frame))
    whole = read_frame(frame, tmp_path)
    assert whole.grid == Grid(START, STEP, 120)
    for cut in (40, 80, 110):
        assert_is_beginning(read_frame(frame[frame.timestamp <= START + STEP * cut + 150], tmp_path), whole)


@pytest.mark.parametrize("stray", [20, 150])
def test_the_step_survives_gaps_and_stray_rows(tmp_path: Path, stray: int) -> None:
    frame = good_frame()
    frame = frame[np.random.default_rng(5).random(len(frame)) < 0.4]
    extra = frame.iloc[[5]].assign(timestamp=frame.timestamp.iloc[5] + stray)
    assert read_frame(pd.concat([frame, extra]), tmp_path).grid.step_seconds == STEP


def test_vms_stand_in_the_order_of_their_first_sample_then_by_name(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "vm_id": ["z", "z", "b", "a", "m", "m"],
            "timestamp": [0, 300, 300, 300, 0, 600],
            "cpu_cores": [1.0, 1.0, 1.0, 1.0, np.nan, 1.0],
            "cpu_limit_cores": 2.0,
        }
    )
    trace = read_frame(frame, tmp_path)
    assert trace.vm_ids == ("z", "a", "b", "m")
    assert list(trace.first_seen()) == [0, 1, 1, 2]
    assert not trace.calendar


def test_any_type_of_vm_id_and_of_timestamp_is_understood(tmp_path: Path) -> None:
    frame = good_frame()
    frame["vm_id"] = frame.vm_id.map({"a": 1, "b": 2})
    expected = read_frame(frame, tmp_path)
    assert expected.vm_ids == ("1", "2")
    dated = frame.assign(timestamp=pd.to_datetime(frame.timestamp, unit="s", utc=True))
    for other in (
        frame.assign(timestamp=frame.timestamp.astype(float)),
        frame.assign(timestamp=frame.timestamp.astype(str)),
        frame.assign(vm_id=frame.vm_id.astype(str).astype("category")),
        dated,
        dated.assign(timestamp=dated.timestamp.dt.tz_localize(None)),
        dated.assign(timestamp=dated.timestamp.dt.strftime("%Y-%m-%dT%H:%M:%SZ")),
    ):
        assert read_frame(other, tmp_path).digest == expected.digest
        assert read_frame(other, tmp_path, "t.csv").digest == expected.digest


def test_a_folder_is_one_trace_and_a_later_file_wins(tmp_path: Path) -> None:
    frame = good_frame()
    whole = read_frame(frame, tmp_path, "whole.parquet")
    folder = tmp_path / "parts"
    folder.mkdir()
    frame[:100].assign(cpu_cores=9.0).to_csv(folder / "1.csv.gz", index=False)
    frame[:130].to_parquet(folder / "2.parquet")
    frame[130:].to_csv(folder / "3.csv", index=False)
    (folder / "notes.txt").write_text("not a trace")
    trace = read_trace(folder, warn=quiet)
    assert trace.digest == whole.digest
    assert trace.name == "parts"


def test_rows_in_one_interval_are_averaged_and_the_last_limit_counts(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "vm_id": "a",
            "timestamp": [0, 300, 600, 640, 900, 1200],
            "cpu_cores": [1.0, 1.0, 2.0, 4.0, 1.0, 1.0],
            "cpu_peak_cores": [1.0, 1.0, 5.0, 4.0, 1.0, 1.0],
            "cpu_limit_cores": [8.0, 8.0, 8.0, 4.0, 8.0, 8.0],
        }
    )
    trace = read_frame(frame, tmp_path)
    assert trace.demand[Resource.CPU][2, 0] == 3.0
    assert trace.limit[Resource.CPU][2, 0] == 4.0
    assert trace.cpu_peak is not None
    assert trace.cpu_peak[2, 0] == 5.0


def test_a_gap_in_one_resource_leaves_the_others_alone(tmp_path: Path) -> None:
    frame = good_frame()
    frame.loc[3, "cpu_cores"] = np.nan
    trace = read_frame(frame, tmp_path)
    assert np.isnan(trace.demand[Resource.CPU][3, 0])
    assert trace.demand[Resource.MEMORY][3, 0] == frame.mem_bytes[3]
    assert np.isnan(trace.demand[Resource.CPU]).sum() == 1


def test_resources_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    good_frame().assign(net_tx_bytes_per_s=np.nan).to_parquet(path)
    assert read_trace(path).resources == (Resource.CPU, Resource.MEMORY, Resource.NET_RX)
    only = read_trace(path, [Resource.NET_RX])
    assert only.resources == (Resource.NET_RX,)
    assert np.isinf(only.limit[Resource.NET_RX]).all()
    with pytest.raises(BadInput, match="disk_read_bytes_per_s: is missing"):
        read_trace(path, [Resource.DISK_READ])
    with pytest.raises(BadInput, match="has no demand"):
        read_trace(path, [Resource.NET_TX])
    with pytest.raises(BadInput, match="net_tx_bytes_per_s: has no values"):
        read_trace(path, [Resource.CPU, Resource.NET_TX])


def test_zero_limits_and_values_above_the_limit_are_kept(tmp_path: Path) -> None:
    frame = good_frame()
    frame.loc[[5, 6], "cpu_limit_cores"] = [0.0, 0.01]
    trace = read_frame(frame, tmp_path)
    assert list(trace.limit[Resource.CPU][5:7, 0]) == [0.0, 0.01]
    assert trace.demand[Resource.CPU][6, 0] == frame.cpu_cores[6]


def test_a_trace_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    trace = read_frame(good_frame(), tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(BadInput, match="cannot be written"):
        write_trace(trace, tmp_path / "there")
    with pytest.raises(BadInput, match="cannot be written"):
        write_trace(trace, tmp_path / "no" / "folder.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.parquet", "there"]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "vms", "steps", "resources"), [("bitbrains", 150, 17568, 2), ("azure_avg", 100, 8004, 1)]
)
def test_the_development_traces_need_no_repair(name: str, vms: int, steps: int, resources: int) -> None:
    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip("the development traces are not here")
    lines: list[str] = []
    trace = read_trace(path, list(Resource)[:resources], warn=lines.append)
    assert lines == []
    assert (len(trace.vm_ids), trace.grid.steps, len(trace.resources)) == (vms, steps, resources)
    assert trace.calendar == (name == "bitbrains")
