"""Vectors of behaviour: means, peaks, the mix of operations, the rhythm; NaN where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.ports.guest_channel import LONG_FIELDS, OPERATIONS, SHORT_FIELDS, GuestWindow
from forestall.ports.vectors import VectorBatch
from forestall.profiling.behaviour import BAND_WINDOWS, NAMES, Behaviour, rhythm


def window(vm: str = "a", seconds: float = 0.1, operations: tuple = (), **values: float) -> GuestWindow:
    told = np.array([values.get(name, 0.0) for name in SHORT_FIELDS])
    return GuestWindow(vm, 0.0, seconds, False, told, operations)


def feature(batch: VectorBatch, name: str, row: int = 0) -> float:
    return float(batch.values[row, NAMES.index(name)])


def test_names_are_unique_and_fit_a_frame() -> None:
    assert len(set(NAMES)) == len(NAMES) <= 256
    assert max(map(len, NAMES)) <= 64


def test_a_vector_has_means_over_time_and_peaks() -> None:
    behaviour = Behaviour()
    behaviour.observe(
        [
            window(seconds=0.1, cpu_user_cores=1.0, cpu_system_cores=0.5, faults_per_s=10.0),
            window(seconds=0.3, cpu_user_cores=0.2, faults_per_s=np.nan),
        ]
    )
    batch = behaviour.vectors(1000)
    assert (batch.vm_ids, batch.at.tolist()) == (("a",), [1000])
    assert feature(batch, "cpu_user_cores") == pytest.approx(0.4)
    assert feature(batch, "peak_cpu") == pytest.approx(1.5)
    assert feature(batch, "faults_per_s") == pytest.approx(10.0)
    assert feature(batch, "peak_faults_per_s") == pytest.approx(10.0)
    assert np.isnan(feature(batch, "memory_available_bytes"))


def test_operations_are_counted_by_how_often_and_how_large() -> None:
    read, fork = OPERATIONS.index("read"), OPERATIONS.index("fork")
    behaviour = Behaviour()
    behaviour.observe([window(operations=((read, 2),)), window(operations=((read, 4), (fork, 1))), window(), window()])
    batch = behaviour.vectors(0)
    assert (feature(batch, "often_read"), feature(batch, "class_read")) == (0.5, 3.0)
    assert (feature(batch, "often_fork"), feature(batch, "often_write")) == (0.25, 0.0)


def test_long_windows_give_what_is_slow() -> None:
    slow = np.zeros(len(LONG_FIELDS))
    slow[LONG_FIELDS.index("memory_available_bytes")] = 5e8
    behaviour = Behaviour()
    behaviour.observe([GuestWindow("a", 0.0, 1.0, True, slow, ()), window()])
    assert feature(behaviour.vectors(0), "memory_available_bytes") == pytest.approx(5e8)


def test_a_guest_that_says_nothing_has_no_vector_and_is_forgotten() -> None:
    behaviour = Behaviour()
    behaviour.observe([window("a"), window("b")])
    assert set(behaviour.vectors(0).vm_ids) == {"a", "b"}
    behaviour.observe([window("b")])
    assert behaviour.vectors(10).vm_ids == ("b",)
    assert len(behaviour.vectors(20)) == 0
    assert behaviour.vectors(20).values.shape == (0, len(NAMES))


@pytest.mark.parametrize(("period", "band"), [(200, 0), (60, 1), (20, 2), (4, 3)])
def test_the_rhythm_tells_periods_apart(period: int, band: int) -> None:
    shares = rhythm(np.sin(2 * np.pi * np.arange(512) / period))
    assert shares[: len(BAND_WINDOWS) - 1].argmax() == band
    assert shares[band] > 0.9
    assert shares[: len(BAND_WINDOWS) - 1].sum() == pytest.approx(1.0)


def test_the_rhythm_of_what_is_constant_short_or_full_of_gaps_is_sound() -> None:
    assert rhythm(np.ones(512)).tolist() == [0.0] * 9
    assert np.isnan(rhythm(np.ones(5))).all()
    gaps = np.sin(np.arange(512) / 3)
    gaps[::3] = np.nan
    assert np.isfinite(rhythm(gaps)).all()
