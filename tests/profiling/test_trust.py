"""Trust groups: sums within a group, and what is given back to its VMs."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.profiling.trust import TrustGroups


@pytest.fixture
def trust() -> TrustGroups:
    groups = TrustGroups()
    groups.assign(["", "blue", "blue", "", "red"])
    return groups


def test_without_a_word_all_are_one_group() -> None:
    trust = TrustGroups()
    values = np.arange(6.0).reshape(3, 2)
    assert trust.of(3).tolist() == [0, 0, 0]
    assert trust.totals(values, 0).tolist() == [[6.0, 9.0]]
    np.testing.assert_array_equal(
        np.broadcast_to(trust.spread(np.array([[6.0, 9.0]]), 3, 0), (3, 2)), [[6, 9], [6, 9], [6, 9]]
    )


def test_sums_are_of_the_group_alone(trust: TrustGroups) -> None:
    values = np.array([[1.0, 2.0, 4.0, 8.0, 16.0], [10.0, 20.0, 40.0, 80.0, 160.0]])
    assert trust.totals(values, 1).tolist() == [[9.0, 90.0], [6.0, 60.0], [16.0, 160.0]]
    assert {group: vms.tolist() for group, vms in trust.members(5)} == {0: [0, 3], 1: [1, 2], 2: [4]}


def test_each_vm_gets_what_its_group_has(trust: TrustGroups) -> None:
    np.testing.assert_array_equal(trust.spread(np.array([5.0, 6.0, 7.0]), 5, 0), [5, 6, 6, 5, 7])
    assert trust.spread(np.zeros((3, 4, 2)), 5, 1).shape == (4, 5, 2)


def test_vms_that_came_later_are_in_no_group(trust: TrustGroups) -> None:
    assert trust.of(7).tolist() == [0, 1, 1, 0, 2, 0, 0]
    assert trust.of(2).tolist() == [0, 1]


def test_what_the_forgotten_leave_stays_in_their_group(trust: TrustGroups) -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    assert trust.left_behind(values, np.array([0, 2]), 0).tolist() == [8.0, 2.0, 16.0]
    trust.keep(np.array([0, 2]))
    assert trust.of(2).tolist() == [0, 1]
    assert trust.count == 3, "and what was learned of a group that is empty now has its place"


def test_there_is_room_for_groups_that_are_new(trust: TrustGroups) -> None:
    assert trust.room(np.ones((1, 2))).tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


def test_a_group_is_known_by_its_name_whatever_its_place_in_the_file(trust: TrustGroups) -> None:
    trust.assign(["green", "red", "blue", "", "red"])
    assert trust.of(5).tolist() == [3, 2, 1, 0, 2], "green comes new, and gets nothing of what the others learned"
    trust.assign(["blue"])
    assert trust.of(1).tolist() == [1]


def test_places_are_told_among_some_vms(trust: TrustGroups) -> None:
    assert {group: places.tolist() for group, places in trust.among(np.array([1, 3, 2]))} == {0: [1], 1: [0, 2]}
    assert list(trust.among(np.zeros(0, np.int64))) == []
