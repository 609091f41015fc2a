"""Recording: rows on the grid, gaps as gaps, and a trace that is whole whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.simulated.host import SimulatedHost
from forestall.adapters.simulated.shared_settings import SharedSettings
from forestall.adapters.trace_spool.parts import paths_of, read_part
from forestall.adapters.trace_spool.spool import TraceSpool, folder_beside
from forestall.bootstrap.recording import finish_recording, record_from
from forestall.cli import main
from forestall.cli.parsing import parse_duration
from forestall.model.errors import BadInput, HypervisorError, StoreError, WrongUse
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Observation, Trace
from forestall.ports.store import SampleBatch
from forestall.replay.trace_reader import read_trace
from forestall.replay.trace_writer import write_trace
from forestall.service.recorder import Recorder

START, STEP, STEPS = 1_700_000_000, 10, 40


def made_up(start: int = START, step: int = STEP, steps: int = STEPS, vms: int = 3) -> Trace:
    """VM 2 comes late, VM 1 has a gap; memory, too, and a disk that has no limit."""
    rng = np.random.default_rng(1)
    demand = {r: rng.uniform(0.1, 1.0, (steps, vms)) for r in (Resource.CPU, Resource.MEMORY, Resource.DISK_READ)}
    for values in demand.values():
        values[:5, 2] = np.nan
        values[20:24, 1] = np.nan
    limit = {r: np.full((steps, vms), 2.0 if r.limit_column else np.inf) for r in demand}
    return Trace(Grid(start, step, steps), tuple(f"vm-{i}" for i in range(vms)), demand, limit)


def recorded(path: Path) -> tuple[Trace, list[str]]:
    lines: list[str] = []
    return read_trace(path, warn=lines.append), lines


def test_what_the_vms_demand_is_what_the_trace_says(tmp_path: Path) -> None:
    trace, clock, path = made_up(), VirtualClock(START + 3.0), tmp_path / "t.parquet"
    said = record_from(SimulatedHost(trace, clock), clock, path, STEP, 300.0)
    assert "trace check" in said
    assert main(["trace", "check", str(path)]) == 0
    found, lines = recorded(path)
    assert [line for line in lines if line.startswith("repair")] == []
    assert found.grid == Grid(START + STEP, STEP, 30)
    assert found.vm_ids == trace.vm_ids
    for resource, values in trace.demand.items():
        np.testing.assert_array_equal(found.demand[resource], values[1:31])
    assert not folder_beside(path).exists()


def test_every_observation_is_taken_on_the_grid(tmp_path: Path) -> None:
    clock, looks = VirtualClock(START + 3.7), []

    class Slow(SimulatedHost):
        def observe(self) -> Observation:
            looks.append(clock.now())
            seen = super().observe()
            clock.advance(0.4 * STEP)
            return seen

    record_from(Slow(made_up(), clock), clock, tmp_path / "t.parquet", STEP, 200.0)
    assert [at % STEP for at in looks] == [0.0] * len(looks)
    assert np.diff(looks).tolist() == [STEP] * (len(looks) - 1)


def test_lost_contact_is_a_gap_and_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock, path = VirtualClock(START), tmp_path / "t.parquet"
    host = SimulatedHost(made_up(), clock)

    class Flaky:
        def __getattr__(self, name: str) -> object:
            if name == "observe":
                (host.lose_contact if 100 <= clock.now() - START < 140 else host.regain_contact)()
            return getattr(host, name)

    record_from(Flaky(), clock, path, STEP, 250.0)  # type: ignore[arg-type]
    assert [line.split(": ", 2)[2] for line in capsys.readouterr().err.splitlines()] == [
        "gap: connection lost",
        "contact is back",
    ]
    found, _ = recorded(path)
    cpu = found.demand[Resource.CPU][:, 0]
    gap = [found.grid.at(i) - START for i in np.flatnonzero(np.isnan(cpu))]
    assert gap == [90, 100, 110, 120, 130]  # four that could not be seen, and one whose counters reach over the silence


def test_a_host_that_is_a_little_too_slow_still_gives_most_intervals(tmp_path: Path) -> None:
    kept = _kept_with_looks_of(1.2 * STEP, tmp_path)
    assert kept >= 0.7


def test_a_host_that_is_much_too_slow_gives_gaps_and_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HypervisorError, match="nothing was recorded"):
        _kept_with_looks_of(2.5 * STEP, tmp_path)
    assert "take a longer one" in capsys.readouterr().err


def _kept_with_looks_of(seconds: float, folder: Path) -> float:
    clock, path = VirtualClock(START), folder / "t.parquet"

    class Slow(SimulatedHost):
        def observe(self) -> Observation:
            seen = super().observe()
            clock.advance(seconds)
            return seen

    record_from(Slow(made_up(steps=100), clock), clock, path, STEP, 900.0)
    found, _ = recorded(path)
    return float(1 - np.isnan(found.demand[Resource.CPU][:, 0]).mean())


def test_a_clock_that_is_set_back_repeats_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock, path = VirtualClock(START), tmp_path / "t.parquet"
    host, looks = SimulatedHost(made_up(), clock), 0

    class Watched:
        def __getattr__(self, name: str) -> object:
            nonlocal looks
            if name == "observe":
                looks += 1
                if looks == 10:
                    clock.set(clock.now() - 50)
            return getattr(host, name)

    record_from(Watched(), clock, path, STEP, 250.0)  # type: ignore[arg-type]
    assert "set back" in capsys.readouterr().err
    found, lines = recorded(path)
    assert [line for line in lines if line.startswith("repair")] == []
    np.testing.assert_array_equal(found.demand[Resource.CPU][:, 0], made_up().demand[Resource.CPU][1:21, 0])


def test_a_clock_that_is_set_forward_leaves_a_gap(tmp_path: Path) -> None:
    clock, path = VirtualClock(START), tmp_path / "t.parquet"
    host, looks = SimulatedHost(made_up(), clock), 0

    class Watched:
        def __getattr__(self, name: str) -> object:
            nonlocal looks
            if name == "observe":
                looks += 1
                if looks == 10:
                    clock.set(clock.now() + 50)
            return getattr(host, name)

    record_from(Watched(), clock, path, STEP, 250.0)  # type: ignore[arg-type]
    found, _ = recorded(path)
    assert np.isnan(found.demand[Resource.CPU][:, 0]).sum() == 5


def test_an_existing_trace_is_not_overwritten_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_text("mine")
    clock = VirtualClock(START)
    with pytest.raises(BadInput, match="--force"):
        record_from(SimulatedHost(made_up(), clock), clock, path, STEP, 50.0)
    assert path.read_text() == "mine"
    record_from(SimulatedHost(made_up(), clock), clock, path, STEP, 50.0, overwrite=True)
    assert recorded(path)[0].grid.steps == 5


def test_a_trace_that_appears_meanwhile_is_kept_and_so_is_the_recording(tmp_path: Path) -> None:
    clock, path = VirtualClock(START), tmp_path / "t.parquet"
    host = SimulatedHost(made_up(), clock)

    class Late(SimulatedHost):
        def observe(self) -> Observation:
            path.write_text("mine")
            return host.observe()

    with pytest.raises(BadInput, match=r"is kept in .*t.parquet.recording"):
        record_from(Late(made_up(), clock), clock, path, STEP, 50.0)
    assert path.read_text() == "mine"
    finish_recording(path, overwrite=True)
    assert recorded(path)[0].grid.steps == 5


def test_nothing_recorded_leaves_nothing_behind(tmp_path: Path) -> None:
    clock = VirtualClock(START - 1000)
    with pytest.raises(HypervisorError, match="nothing was recorded"):
        record_from(SimulatedHost(made_up(), clock), clock, tmp_path / "t.parquet", STEP, 50.0)
    assert list(tmp_path.iterdir()) == []


def batch(at: int, value: float = 1.0, vms: int = 2) -> SampleBatch:
    numbers = np.full((vms, 2), value)
    limit = np.tile([4.0, np.inf], (vms, 1))
    return SampleBatch(at, [f"vm-{i}" for i in range(vms)], (Resource.CPU, Resource.NET_RX), numbers, limit)


def test_full_parts_and_the_growing_one_become_one_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    spool = TraceSpool(path, 1, most_rows=6)
    for i in range(10):
        spool.append(batch(START + i, float(i)))
    assert [p.suffix for p in paths_of(spool.folder)] == [".parquet", ".parquet", ".parquet", ".arrows"]
    assert spool.publish({}) == 20
    spool.close()
    found, lines = recorded(path)
    assert lines == []
    assert found.demand[Resource.NET_RX][:, 1].tolist() == [float(i) for i in range(10)]


@pytest.mark.parametrize("cut", [1, 7, 100, 1000, 5000])
def test_a_part_that_was_cut_off_is_read_up_to_there(cut: int, tmp_path: Path) -> None:
    spool = TraceSpool(tmp_path / "t.parquet", 1)
    for i in range(10):
        spool.append(batch(START + i, float(i)))
    spool.close()
    (part,) = paths_of(spool.folder)
    part.write_bytes(part.read_bytes()[:-cut])
    again = TraceSpool(tmp_path / "t.parquet", 1)
    held = again.held_rows()
    assert held % 2 == 0
    assert held < 20 or cut == 1 or cut == 7
    again.append(batch(START + 20))
    assert again.publish({}) == held + 2
    again.close()


def test_a_part_whose_turning_into_parquet_was_cut_off_counts_once(tmp_path: Path) -> None:
    spool = TraceSpool(tmp_path / "t.parquet", 1, most_rows=6)
    for i in range(3):
        spool.append(batch(START + i))
    (part,) = paths_of(spool.folder)
    part.with_suffix(".arrows").write_bytes(b"half gone")
    part.with_suffix(".tmp").write_bytes(b"half gone")
    assert spool.held_rows() == 6
    assert spool.publish({}) == 6
    spool.close()


def test_a_process_that_ended_between_naming_and_cleaning_up(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    spool = TraceSpool(path, 1)
    spool.append(batch(START))
    spool.close()
    folder, kept = spool.folder, tmp_path / "kept"
    os.rename(folder, kept)
    spool = TraceSpool(path, 1)
    spool.append(batch(START))
    spool.publish({})
    spool.close()
    os.rename(kept, folder)
    os.link(path, folder / "whole.parquet")
    assert "rows: 2" in finish_recording(path)
    assert not folder.exists()
    assert recorded(path)[0].grid.steps == 1


def test_another_step_is_refused(tmp_path: Path) -> None:
    spool = TraceSpool(tmp_path / "t.parquet", 5)
    spool.append(batch(START))
    spool.close()
    with pytest.raises(WrongUse, match="--step-seconds 5"):
        TraceSpool(tmp_path / "t.parquet", 1)


def test_two_recorders_of_one_trace_are_refused(tmp_path: Path) -> None:
    spool = TraceSpool(tmp_path / "t.parquet", 5)
    with pytest.raises(StoreError, match="another process"):
        TraceSpool(tmp_path / "t.parquet", 5)
    spool.close()


def test_nothing_to_finish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", str(tmp_path / "t.parquet"), "--finish"]) == 2
    assert "there is no recording to finish" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be"):
        TraceSpool(tmp_path / "file" / "t.parquet", 5)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("7d", 604800)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text, what="--duration") == seconds


@pytest.mark.parametrize("text", ["", "0", "-1h", "1w", "h", "1 h 3", "inf", "nan", "9" * 30, "١h"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(WrongUse, match="--duration"):
        parse_duration(text, what="--duration")


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    spool = TraceSpool(tmp_path / "t.parquet", 1, most_rows=100)
    clock = VirtualClock(START)
    trace = made_up(step=1, steps=2000)
    recorder = Recorder(SimulatedHost(trace, clock), clock, spool, 1, print)
    recorder.run(1500)
    assert recorder.recorded.rows == sum(len(p) for p in _tables(spool))
    assert max(len(p) for p in _tables(spool)) <= 102
    spool.close()


def _tables(spool: TraceSpool) -> list[list[object]]:
    return [table.column("vm_id").to_pylist() for p in paths_of(spool.folder) if (table := read_part(p)) is not None]


FORESTALL = Path(sys.executable).with_name("forestall")


def _recording_process(path: Path) -> subprocess.Popen[str]:
    """``forestall record`` on a simulated host whose state is kept beside the trace."""
    source, configuration = path.with_name("source.parquet"), path.with_name("forestall.toml")
    if not source.exists():
        write_trace(made_up(step=1, steps=1000), source)
        (path.parent / "state").mkdir()
        resources = [r.value for r in made_up().resources]
        configuration.write_text(f"state_folder = '{path.parent / 'state'}'\nresources = {resources}\n")
    words = ["record", str(path), "--connect", f"simulated:{source}", "--config", str(configuration)]
    return subprocess.Popen([FORESTALL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _truth(folder: Path, trace: Trace) -> dict[Resource, np.ndarray]:
    """What the simulated host played at the intervals of ``trace``."""
    start = SharedSettings(folder / "state" / "simulated-host.json").read().start
    assert start is not None
    offset = trace.grid.start - int(start)
    rows = slice(offset, offset + trace.grid.steps)
    return {r: values[rows] for r, values in made_up(step=1, steps=1000).demand.items()}


def _wait_for_rows(path: Path, bytes_more: int, process: subprocess.Popen[str]) -> None:
    """Wait until the newest part has grown, with a deadline."""
    deadline, last = time.monotonic() + 30, None
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        sizes = sum(p.stat().st_size for p in paths_of(folder_beside(path)))
        last = sizes if last is None else last
        if sizes >= last + bytes_more and sizes > bytes_more:
            return
        time.sleep(0.02)
    raise AssertionError("nothing is recorded")


@pytest.mark.slow
def test_kill_9_loses_nothing_and_the_next_recording_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    first = _recording_process(path)
    try:
        _wait_for_rows(path, 2500, first)
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert not path.exists()
    with closing(TraceSpool(path, 1)) as spool:
        held = spool.held_rows()
    assert held >= 3

    second = _recording_process(path)
    try:
        _wait_for_rows(path, 1500, second)
    finally:
        second.send_signal(signal.SIGTERM)
        out, err = second.communicate(timeout=30)
    assert second.returncode == 0, err
    assert f"rows so far: {held}" in err
    assert "trace check" in out
    assert main(["trace", "check", str(path)]) == 0
    found, lines = recorded(path)
    assert [line for line in lines if line.startswith("repair")] == []
    for resource, values in _truth(tmp_path, found).items():
        seen = ~np.isnan(found.demand[resource])
        assert seen.sum() > held
        np.testing.assert_array_equal(found.demand[resource][seen], values[seen])


@pytest.mark.slow
def test_kill_9_and_finish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.parquet"
    process = _recording_process(path)
    try:
        _wait_for_rows(path, 2500, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert main(["record", str(path), "--finish"]) == 0
    assert "rows: " in capsys.readouterr().out
    assert main(["trace", "check", str(path)]) == 0
    assert not folder_beside(path).exists()


def test_a_host_that_cannot_be_reached_is_an_error_at_once(tmp_path: Path) -> None:
    host = SimulatedHost(made_up(), VirtualClock(START))
    host.lose_contact("nobody there")
    with pytest.raises(HypervisorError, match="nobody there"):
        record_from(host, VirtualClock(START), tmp_path / "t.parquet", STEP, 50.0)
    assert list(tmp_path.iterdir()) == []


def test_less_than_an_interval(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="less than an interval"):
        record_from(SimulatedHost(made_up(), VirtualClock(START)), VirtualClock(START), tmp_path / "t.parquet", 10, 5.0)
