"""A trace at a longer step and with its days stretched: means, gaps, alignment, and causality."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import CASES, good_file
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.cli import main
from forestall.model.errors import WrongUse
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, Trace
from forestall.replay.generator import Workload, generate
from forestall.replay.resampling import coarsen, stretch
from forestall.replay.trace_reader import read_trace
from forestall.replay.trace_writer import write_trace

RESOURCES = (Resource.CPU, Resource.NET_RX)


def trace_of(cpu: FloatArray, start: int = 0, step: int = 1, limit: FloatArray | None = None) -> Trace:
    """A trace of CPU alone, VMs named by their position."""
    limit = np.where(np.isnan(cpu), np.nan, 2.0) if limit is None else limit
    names = tuple(f"vm-{i}" for i in range(cpu.shape[1]))
    return Trace(Grid(start, step, len(cpu)), names, {Resource.CPU: cpu}, {Resource.CPU: limit})


def column(*values: float) -> FloatArray:
    return np.array(values, dtype=np.float64)[:, None]


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """A few VMs with gaps, those that come late last; every VM has a sample."""
    steps, vms, step = draw(st.integers(1, 40)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 10]))
    start = draw(st.integers(0, 2 * 10**9))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    values = {r: rng.uniform(0, 4, (steps, vms)) for r in RESOURCES}
    missing = rng.random((steps, vms)) < draw(st.sampled_from([0.0, 0.2, 0.6]))
    missing |= np.arange(steps)[:, None] < np.sort(rng.integers(0, steps, vms))
    missing[-1] = False
    for array in values.values():
        array[missing] = np.nan
    limit = {Resource.CPU: rng.choice([0.0, 2.0, 4.0], (steps, vms)), Resource.NET_RX: np.full((steps, vms), np.inf)}
    limit[Resource.CPU][missing] = np.nan
    peak = values[Resource.CPU] + rng.uniform(0, 1, (steps, vms)) if draw(st.booleans()) else None
    names = np.array([f"vm-{i}" for i in range(vms)])
    order = np.lexsort((names, (~missing).argmax(axis=0)))
    return Trace(
        Grid(start, step, steps),
        tuple(str(n) for n in names[order]),
        {r: v[:, order] for r, v in values.items()},
        {r: v[:, order] for r, v in limit.items()},
        None if peak is None else peak[:, order],
    )


def coarse(trace: Trace, step: int) -> Trace | None:
    """The trace at a longer step, None if nothing but gaps is left."""
    try:
        return coarsen(trace, step)
    except WrongUse:
        return None


def rows_in(trace: Trace, at: int, step: int) -> slice:
    """Rows of the trace that start in [at, at + step)."""
    return slice(trace.grid.index(at), trace.grid.index(at + step))


# Coarser ---------------------------------------------------------------------------------------------------


@given(traces(), st.sampled_from([1, 2, 3, 7]))
@settings(max_examples=80)
def test_every_interval_says_what_its_rows_say(trace: Trace, size: int) -> None:
    step = trace.grid.step_seconds * size
    made = coarse(trace, step)
    if made is None:
        return
    assert made.grid.step_seconds == step
    assert made.grid.start % step == 0
    for vm, name in enumerate(made.vm_ids):
        own = trace.vm_ids.index(name)
        for i in range(made.grid.steps):
            rows = rows_in(trace, made.grid.at(i), step)
            for resource in RESOURCES:
                samples = trace.demand[resource][rows, own]
                samples = samples[~np.isnan(samples)]
                mean = samples.mean() if 2 * len(samples) >= size else np.nan
                assert made.demand[resource][i, vm] == pytest.approx(mean, nan_ok=True)
                limits = trace.limit[resource][rows, own]
                known = limits[~np.isnan(limits)]
                assert made.limit[resource][i, vm] == pytest.approx(known[-1] if len(known) else np.nan, nan_ok=True)


@given(traces(), st.sampled_from([2, 3, 7]))
@settings(max_examples=60)
def test_the_sum_of_whole_intervals_is_kept(trace: Trace, size: int) -> None:
    whole = {r: np.nan_to_num(v) for r, v in trace.demand.items()}
    trace = replace(trace, demand=whole, grid=replace(trace.grid, start=0))
    made = coarse(trace, trace.grid.step_seconds * size)
    if made is None:
        return
    rows = trace.grid.steps // size * size
    for resource in RESOURCES:
        total = made.demand[resource][: rows // size].sum() * size
        assert total == pytest.approx(trace.demand[resource][:rows].sum())


@given(traces(), st.sampled_from([2, 3, 7]))
@settings(max_examples=60)
def test_the_peak_is_above_every_mean_and_no_higher_than_what_was_seen(trace: Trace, size: int) -> None:
    made = coarse(trace, trace.grid.step_seconds * size)
    if made is None:
        return
    assert made.cpu_peak is not None
    seen = ~np.isnan(made.demand[Resource.CPU])
    assert (np.isnan(made.cpu_peak) == ~seen).all()
    assert (made.cpu_peak[seen] >= made.demand[Resource.CPU][seen] - 1e-9).all()
    highest = np.nanmax(trace.demand[Resource.CPU] if trace.cpu_peak is None else trace.cpu_peak)
    assert made.cpu_peak[seen].max() <= highest


@given(traces(), st.sampled_from([1, 2, 3, 7]), st.integers(1, 40))
@settings(max_examples=80)
def test_cutting_the_trace_changes_no_interval_that_was_over(trace: Trace, size: int, rows: int) -> None:
    step = trace.grid.step_seconds * size
    cut = replace(
        trace,
        grid=replace(trace.grid, steps=min(rows, trace.grid.steps)),
        demand={r: v[:rows] for r, v in trace.demand.items()},
        limit={r: v[:rows] for r, v in trace.limit.items()},
        cpu_peak=None if trace.cpu_peak is None else trace.cpu_peak[:rows],
    )
    whole, part = coarse(trace, step), coarse(cut, step)
    if whole is None or part is None:
        return
    end = cut.grid.at(cut.grid.steps)
    over = [i for i in range(part.grid.steps) if part.grid.at(i + 1) <= end]
    vms = [vm for vm, name in enumerate(part.vm_ids) if name in whole.vm_ids]
    same = [whole.vm_ids.index(part.vm_ids[vm]) for vm in vms]
    shift = (part.grid.start - whole.grid.start) // step
    there = [i for i in over if not np.isnan(part.demand[Resource.CPU][i, vms]).all()]
    for resource in RESOURCES:
        for mine, theirs in ((part.demand, whole.demand), (part.limit, whole.limit)):
            expected = theirs[resource][np.ix_([i + shift for i in there], same)]
            np.testing.assert_array_equal(mine[resource][np.ix_(there, vms)], expected)


@given(traces(), st.sampled_from([2, 3, 7]))
@settings(max_examples=40)
def test_vms_stand_in_the_order_of_their_first_sample(trace: Trace, size: int) -> None:
    made = coarse(trace, trace.grid.step_seconds * size)
    if made is None:
        return
    first = made.first_seen().tolist()
    assert list(zip(first, made.vm_ids, strict=True)) == sorted(zip(first, made.vm_ids, strict=True))
    assert max(first) < made.grid.steps
    assert first[0] == 0


def test_an_interval_with_fewer_than_half_of_its_samples_is_a_gap() -> None:
    nan = np.nan
    made = coarsen(trace_of(column(1, 3, 2, nan, nan, 5, nan, nan, 1, 1, nan, nan)), 4)
    np.testing.assert_array_equal(made.demand[Resource.CPU][:, 0], [2.0, nan, 1.0])


def test_intervals_start_at_multiples_of_the_step_on_the_clock() -> None:
    made = coarsen(trace_of(column(*range(10)), start=1_000_003), 5)
    assert made.grid == Grid(1_000_005, 5, 2), "of the first interval only two seconds in five were seen"
    np.testing.assert_array_equal(made.demand[Resource.CPU][:, 0], [4.0, 8.0])


def test_the_limit_is_the_last_known_one() -> None:
    limit = column(2, 4, np.nan, 0)
    made = coarsen(trace_of(column(1, 1, 1, 0), limit=limit), 2)
    np.testing.assert_array_equal(made.limit[Resource.CPU][:, 0], [4.0, 0.0])


@given(traces())
@settings(max_examples=40)
def test_the_own_step_changes_nothing(trace: Trace) -> None:
    trace = replace(trace, grid=replace(trace.grid, start=trace.grid.start // 10 * 10))
    first = int(trace.first_seen().min())
    made = coarsen(trace, trace.grid.step_seconds)
    assert (made.vm_ids, made.grid.start) == (trace.vm_ids, trace.grid.at(first))
    for resource in RESOURCES:
        np.testing.assert_array_equal(made.demand[resource], trace.demand[resource][first:])
        np.testing.assert_array_equal(made.limit[resource], trace.limit[resource][first:])
    assert (made.cpu_peak is None) == (trace.cpu_peak is None)


@pytest.mark.parametrize("step", [5, 15, 25])
def test_a_step_that_is_no_multiple_is_refused(step: int) -> None:
    with pytest.raises(WrongUse, match="not a multiple of the trace's own step of 10 s"):
        coarsen(trace_of(column(1, 2, 3), step=10), step)


def test_a_step_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(WrongUse, match="no interval has half of its samples"):
        coarsen(trace_of(column(1, 2, 3)), 60)


# Stretched -------------------------------------------------------------------------------------------------


@given(traces(), st.integers(2, 1000), st.integers(-(10**9), 2 * 10**9))
@settings(max_examples=60)
def test_stretching_moves_instants_alone(trace: Trace, factor: int, midnight: int) -> None:
    made = stretch(trace, factor, midnight)
    assert made.grid.step_seconds == factor * trace.grid.step_seconds
    assert made.grid.steps == trace.grid.steps
    assert 0 <= made.grid.start < 86_400, "the first day is day 0"
    assert not made.calendar
    assert (made.grid.start - (trace.grid.start - midnight) * factor) % 86_400 == 0, "the hour is that of the short day"
    for resource in RESOURCES:
        assert made.demand[resource] is trace.demand[resource]


def test_a_recorded_midnight_is_a_midnight() -> None:
    midnight = 1_795_668_070
    trace = trace_of(np.ones((1300, 1)), start=midnight)
    made = stretch(trace, 144, midnight)
    assert made.grid.start == 0
    assert [made.grid.at(i) for i in (600, 1200)] == [86_400, 2 * 86_400]
    afternoon = stretch(trace_of(np.ones((9, 1)), start=midnight + 600 * 7 + 400), 144, midnight)
    assert afternoon.grid.start == 16 * 3600


def test_a_factor_of_one_changes_nothing(tmp_path: Path) -> None:
    trace = read_trace(good_file(tmp_path))
    assert stretch(trace, 1) is trace


# The command -----------------------------------------------------------------------------------------------


def test_the_command_writes_a_trace_that_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "lab.parquet", tmp_path / "long.parquet"
    write_trace(trace_of(np.ones((60, 2)) * [1.0, 0.5], start=1_795_668_000), source)
    words = ["trace", "resample", str(source), "--out", str(out), "--step-seconds", "5"]
    assert main([*words, "--stretch", "144", "--midnight", "1795667995"]) == 0
    assert capsys.readouterr().out == f"{out}: 2 VMs, 12 intervals of 720 s\n"
    made = read_trace(out)
    assert (made.grid, made.calendar) == (Grid(720, 720, 12), False)
    assert made.vm_ids == ("vm-0", "vm-1")
    assert main(words) == 0
    assert read_trace(out).grid == Grid(1_795_668_000, 5, 12)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--step-seconds", "450"], "not a multiple of the trace's own step of 300 s"),
        (["--step-seconds", "0"], "--step-seconds"),
        (["--step-seconds", "604800"], "no interval has half of its samples"),
        (["--step-seconds", "600", "--stretch", "0"], "--stretch"),
        (["--step-seconds", "600", "--stretch", "1.5"], "--stretch"),
        (["--step-seconds", "600", "--midnight", "7"], "without --stretch"),
        ([], "--step-seconds"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], text: str
) -> None:
    out = tmp_path / "out.parquet"
    assert main(["trace", "resample", str(good_file(tmp_path)), "--out", str(out), *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert text in lines[0]
    assert not out.exists()


def test_a_bad_trace_is_refused_as_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = next(c for c in CASES if c.exit_code == 2)
    bad = case.write(tmp_path)
    assert main(["trace", "resample", str(bad), "--out", str(tmp_path / "o.parquet"), "--step-seconds", "600"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_users_are_written_read_and_brought_to_a_longer_step(tmp_path: Path) -> None:
    trace = generate(Workload(vms=8, days=1, short_lived_share=0.0), 3)
    write_trace(trace, tmp_path / "trace.parquet")
    again = read_trace(tmp_path / "trace.parquet")
    assert trace.active_users is not None
    np.testing.assert_array_equal(again.active_users, trace.active_users)
    longer = coarsen(again, 900).active_users
    assert longer is not None
    known = ~np.isnan(trace.active_users).any(axis=0)
    assert known.any()
    np.testing.assert_allclose(longer[:, known], trace.active_users[:, known].reshape(-1, 3, known.sum()).mean(axis=1))
