"""Parts of the store in files: as finely as can be, within bounds, and not for long."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from forestall.adapters.duckdb.store import DuckdbStore
from forestall.model.errors import BadInput, StoreError, WrongUse
from forestall.model.resources import Resource
from forestall.model.samples import Trace
from forestall.ports.store import SampleBatch
from forestall.replay.trace_reader import read_trace
from forestall.replay.trace_writer import write_trace
from forestall.service import exports as module
from forestall.service.exports import KEPT_SECONDS, MOST_KEPT, Exports

START, STEP, STEPS = 1_772_409_600, 60, 600


@pytest.fixture
def exports(tmp_path: Path) -> Iterator[Exports]:
    store = DuckdbStore(tmp_path / "store.duckdb", step_seconds=STEP)
    limit = np.array([[8.0]])
    store.append(
        [SampleBatch(START + k * STEP, ["a"], [Resource.CPU], np.array([[k / 100]]), limit) for k in range(STEPS)]
    )
    yield Exports(store, tmp_path / "exports", write_trace)
    store.close()


def test_as_sampled_with_what_was_before(exports: Exports) -> None:
    until = START + STEPS * STEP
    found = exports.export(until, 10 * STEP, 5 * STEP)
    trace = read_trace(Path(found["path"]), None, lambda line: None)
    assert (found["since"], found["step_seconds"], found["vms"]) == (until - 10 * STEP, STEP, 1)
    assert (trace.grid.start, trace.grid.steps) == (until - 15 * STEP, 15)


def test_in_means_where_that_would_be_too_much_and_at_all_within_bounds(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = START + STEPS * STEP
    monkeypatch.setattr(module, "LONGEST_RAW_STEPS", 100)
    assert exports.export(until, STEPS * STEP)["step_seconds"] == 300
    monkeypatch.setattr(module, "MOST_CELLS", 50)
    assert exports.export(until, STEPS * STEP)["step_seconds"] == 3_600
    monkeypatch.setattr(module, "MOST_CELLS", 5)
    with pytest.raises(WrongUse, match="10 hours of 1 VMs"):
        exports.export(until, STEPS * STEP)
    with pytest.raises(WrongUse, match="nothing was measured"):
        exports.export(START - 3_600, 60)


def test_few_are_kept_and_not_for_long(exports: Exports, tmp_path: Path) -> None:
    until = START + STEPS * STEP
    paths = [Path(exports.export(until, STEP)["path"]) for _ in range(MOST_KEPT + 2)]
    assert len(list((tmp_path / "exports").iterdir())) == MOST_KEPT
    assert paths[-1].exists()
    old = time.time() - KEPT_SECONDS - 1
    os.utime(paths[-1], (old, old))
    exports.maintain(0)
    assert not paths[-1].exists()


def test_what_cannot_be_written_is_told_in_one_line(exports: Exports) -> None:
    def refuse(trace: Trace, path: Path) -> None:
        raise BadInput("no space left", path=path)

    exports.write = refuse
    with pytest.raises(StoreError, match="no space left"):
        exports.export(START + STEPS * STEP, STEP)
