"""Segments: kinds of day are found, today's is told by its hours and its weekday, and the usual is forecast."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.model.samples import FloatArray
from forestall.profiling.segments import SEGMENTED, Segments
from forestall.profiling.window import Window

STEP, DAY = 300, 288
MONDAY = 4 * 86_400


def demand(days: int, holiday: int | None = None, seed: int = 0) -> FloatArray:
    """Cores (time, vm): a VM busy from Monday to Friday by day, one that never changes, one that works at night."""
    generator = np.random.default_rng(seed)
    rows = np.arange(days * DAY)
    hour, day = rows % DAY / 12, rows // DAY
    weekend = (day % 7 >= 5) | (day == (holiday if holiday is not None else -1))
    busy = np.where((hour >= 8) & (hour < 18) & ~weekend, 2.0, 0.2)
    night = np.where(hour < 4, 3.0, 0.3)
    level = np.stack([busy, np.ones(len(rows)), night], axis=1)
    return level * generator.gamma(200.0, 1 / 200.0, level.shape)


def observed(values: FloatArray, start: int = MONDAY) -> tuple[Segments, Window]:
    window, segments = Window(STEP, 1e-3), Segments()
    for i, row in enumerate(values):
        window.push(row, np.full(len(row), 4.0))
        segments.observe(window, start + i * STEP)
    return segments, window


def test_working_days_and_weekends_are_kinds_of_their_own() -> None:
    segments, _ = observed(demand(28))
    monday, saturday = segments.probability(MONDAY + 28 * 86_400), segments.probability(MONDAY + 33 * 86_400)
    work = int(monday[:, 0].argmax())
    assert monday[work, 0] > 0.8
    assert saturday[1 - work, 0] > 0.8
    assert (segments.probability(MONDAY + 28 * 86_400)[0, 1:] == 1).all(), "the others have one kind of day"
    np.testing.assert_allclose(monday.sum(axis=0), 1.0)


def test_a_holiday_is_told_by_its_morning() -> None:
    values = demand(29 + 1, holiday=28)  # the 29th day is a Monday on which nobody works
    segments, window = observed(values[: 28 * DAY + 10 * 12])
    now = MONDAY + 28 * 86_400 + 10 * 3_600
    saturday = int(segments.probability(MONDAY + 33 * 86_400)[:, 0].argmax())
    assert segments.probability(now)[saturday, 0] > 0.9
    assert segments.ahead(window, 12)[0] < 0.4, "so that its afternoon is not expected to be busy"


def test_what_is_usual_is_forecast_a_day_ahead() -> None:
    segments, window = observed(demand(28)[: 27 * DAY + 12])  # Sunday, one o'clock
    ahead = segments.ahead(window, 21 * 12)  # at ten on Sunday
    assert ahead[0] < 0.4
    assert ahead[2] == pytest.approx(0.3, rel=0.2)
    tomorrow = segments.ahead(window, 33 * 12)  # at ten on Monday
    assert tomorrow[0] == pytest.approx(2.0, rel=0.25)
    assert tomorrow[1] == pytest.approx(1.0, rel=0.1)


def test_nothing_is_said_before_a_day_is_over_and_figures_are_bounded() -> None:
    segments, window = observed(demand(1)[:200])
    assert not segments.figures(window).any()
    assert np.isnan(segments.ahead(window, 1)).all()
    segments, window = observed(demand(9))
    figures = segments.figures(window)
    assert figures.shape == (SEGMENTED, 3)
    assert np.isfinite(figures).all()
    assert np.abs(figures).max() <= 4.0


def test_gaps_late_and_retired_vms_do_not_matter_to_the_others() -> None:
    values = demand(6)
    values[DAY : 2 * DAY, 1] = np.nan
    whole, window = observed(values)
    assert np.isfinite(whole.figures(window)).all()
    few_window, few = Window(STEP, 1e-3), Segments()
    for i, row in enumerate(values):
        vms = 2 if i < 700 else 3
        few_window.push(row[:vms], np.full(vms, 4.0))
        few.observe(few_window, MONDAY + i * STEP)
    np.testing.assert_allclose(few.figures(few_window)[:, :2], whole.figures(window)[:, :2])
    few.keep(np.array([0, 2]))
    few_window.keep(np.array([0, 2]))
    np.testing.assert_allclose(few.figures(few_window)[:, 0], whole.figures(window)[:, 0])
