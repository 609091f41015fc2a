"""The recording that comes with Forestall: what it promises, and that it is in the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

from forestall.model.resources import Resource
from forestall.model.samples import Trace
from forestall.replay.recorded.lab import RECORDED_DAY_SECONDS, RECORDED_MIDNIGHT, RECORDING, lab_days
from forestall.replay.trace_reader import read_trace
from forestall.replay.trace_summary import summarise

ROOT = Path(__file__).parents[2]
GUESTS = ("batch", "database", "idle", "redis", "web")


@pytest.fixture(scope="module")
def recording() -> Trace:
    lines: list[str] = []
    with resources.as_file(resources.files("forestall.replay.recorded") / "lab.parquet") as path:
        trace = read_trace(path, warn=lines.append)
    assert lines == []
    return trace


def test_the_recording_is_an_hour_of_five_guests_every_second(recording: Trace) -> None:
    summary = summarise(recording)
    assert recording.vm_ids == GUESTS
    assert recording.grid.step_seconds == 1
    assert recording.grid.steps >= 3_600
    assert recording.resources == tuple(Resource)
    assert [r.vms for r in summary.resources] == [len(GUESTS)] * len(Resource)
    assert summary.gap_ratio < 0.03
    assert recording.calendar
    assert RECORDING.stat().st_size < 5_000_000


def test_the_guests_really_worked(recording: Trace) -> None:
    mean = {r: dict(zip(GUESTS, np.nanmean(v, axis=0), strict=True)) for r, v in recording.demand.items()}
    for guest in ("batch", "database", "redis", "web"):
        assert mean[Resource.CPU][guest] > 1.3 * mean[Resource.CPU]["idle"]
    assert mean[Resource.NET_TX]["web"] > 10 * mean[Resource.NET_TX]["batch"]
    assert mean[Resource.DISK_WRITE]["database"] > mean[Resource.DISK_WRITE]["idle"]


def test_its_days_have_their_own_hours(recording: Trace) -> None:
    days = lab_days()
    assert (days.grid.step_seconds, days.calendar, days.vm_ids) == (720, False, GUESTS)
    assert days.grid.start % 720 == 0
    begun = (recording.grid.start - RECORDED_MIDNIGHT) / RECORDED_DAY_SECONDS * 86_400
    assert abs(days.grid.start - begun) <= 720
    hour = (days.grid.start + 720 * np.arange(days.grid.steps)) // 3600 % 24
    at_night = hour < 4
    cpu = days.demand[Resource.CPU]
    batch, database = GUESTS.index("batch"), GUESTS.index("database")
    assert np.nanmean(cpu[at_night, batch]) > 2 * np.nanmean(cpu[~at_night, batch])
    assert np.nanmean(cpu[at_night, database]) < np.nanmean(cpu[~at_night, database])


def test_the_recording_is_in_the_wheel() -> None:
    inside = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"forestall/replay/recorded/lab.parquet", "forestall/replay/recorded/README.md"} <= inside
