"""Companions: who moves together is found, with the lag, and what those who move first have done is told."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.model.samples import FloatArray
from forestall.profiling.companions import ACCOMPANIED, NOBODY, Companions
from forestall.profiling.trust import TrustGroups
from forestall.profiling.window import Window

STEP, DAY = 300, 288


def demand(steps: int = 3 * DAY, vms: int = 8, seed: int = 3) -> FloatArray:
    """VM 1 does what VM 0 did two steps before; VM 3 does what VM 2 does; the others go their own ways."""
    generator = np.random.default_rng(seed)
    values = 2.0 + generator.gamma(1.0, 1.0, (steps, vms))
    values[2:, 1] = 0.5 * values[:-2, 0] + 1.0
    values[:, 3] = 3.0 * values[:, 2] + generator.normal(0, 0.2, steps)
    return values


def observed(values: FloatArray) -> tuple[Companions, Window]:
    window, companions = Window(STEP, 1e-3), Companions()
    for row in values:
        window.push(row, np.full(len(row), 100.0))
        companions.observe(window)
    return companions, window


def test_those_who_move_together_are_found_with_their_lag() -> None:
    companions, _ = observed(demand())
    assert (companions.who[0, 1], companions.lag[0, 1]) == (0, 2)
    assert (companions.who[0, 2], companions.lag[0, 2]) == (3, 0)
    assert (companions.who[0, 3], companions.lag[0, 3]) == (2, 0)
    assert companions.correlation[0, 1] > 0.9
    assert (companions.who[0, 4:] == NOBODY).all()


def test_what_those_who_move_first_did_tells_what_comes() -> None:
    values = demand(3 * DAY + 40)
    companions, window = observed(values[: 3 * DAY])
    said, came = [], []
    for i in range(3 * DAY, 3 * DAY + 39):
        window.push(values[i], np.full(8, 100.0))
        companions.observe(window)
        said.append(companions.figures(window)[0, 1] * window.scale()[1])
        came.append(values[i + 1, 1] - values[i, 1])
    assert np.corrcoef(said, came)[0, 1] > 0.9


def test_who_is_behind_is_told_too() -> None:
    companions, window = observed(demand())
    row = demand()[-1].copy()
    row[2] += 5.0  # and VM 3 has not followed
    window.push(row, np.full(8, 100.0))
    behind = companions.figures(window)[1]
    assert behind[3] > 0.3
    assert behind[4] == 0


def test_retired_vms_are_nobodys_companions() -> None:
    companions, window = observed(demand())
    rows = np.array([1, 2, 3, 5])
    companions.keep(rows)
    window.keep(rows)
    assert companions.who[0].tolist() == [NOBODY, 2, 1, NOBODY]
    assert companions.correlation[0, 0] == 0
    assert companions.figures(window).shape == (ACCOMPANIED, 4)


@pytest.mark.parametrize("vms", [1, 2])
def test_few_idle_and_unseen_vms_are_borne(vms: int) -> None:
    values = np.zeros((DAY, vms))
    values[:, -1] = np.nan
    companions, window = observed(values)
    assert (companions.who == NOBODY).all()
    assert np.isfinite(companions.figures(window)).all()


def test_of_a_large_fleet_a_part_is_tried_and_who_was_found_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forestall.profiling.companions.MOST_TRIED", 6)
    companions, _ = observed(demand(20 * DAY, vms=12))
    assert (companions.who[0, 1], companions.lag[0, 1]) == (0, 2)
    assert companions.who[0, 3] == 2


def test_companions_are_of_the_same_trust_group() -> None:
    trust, values = TrustGroups(), demand()
    trust.assign(["a", "b", "a", "a", "b", "b", "a", "b"])
    window, companions = Window(STEP, 1e-3), Companions(trust)
    for row in values:
        window.push(row, np.full(len(row), 100.0))
        companions.observe(window)
    assert companions.who[0, 1] == NOBODY
    assert companions.who[0, 2] == 3
    trust.assign(["a", "a", "a", "b", "b", "b", "a", "b"])
    companions.observe(window)
    assert (companions.who[:, 2:4] == NOBODY).all(), "and no longer once they are strangers"
    assert (companions.figures(window)[:, 2] == 0).all()


def test_groups_have_all_who_are_tied_and_the_first_at_the_front() -> None:
    """VM 2 follows VM 1, which follows VM 0: one group, in this order."""
    generator = np.random.default_rng(5)
    values = 2.0 + generator.gamma(1.0, 1.0, (4 * DAY, 7))
    values[1:, 1] = values[:-1, 0] + generator.normal(0, 0.1, len(values) - 1)
    values[2:, 2] = values[:-2, 1] + generator.normal(0, 0.1, len(values) - 2)
    values[:, 5] = 2.0 * values[:, 4] + generator.normal(0, 0.1, len(values))
    groups = observed(values)[0].groups()
    assert [group.vms.tolist() for group in groups] == [[0, 1, 2], [4, 5]]
    assert [group.lag.tolist() for group in groups] == [[0, 1, 3], [0, 0]]
    assert min(group.correlation for group in groups) > 0.8


def test_who_moves_against_another_is_not_together_with_it() -> None:
    values = demand()
    values[:, 3] = 20.0 - values[:, 2]
    assert [group.vms.tolist() for group in observed(values)[0].groups()] == [[0, 1]]


def test_nobody_is_in_a_group_before_anything_is_known() -> None:
    assert Companions().groups() == []
