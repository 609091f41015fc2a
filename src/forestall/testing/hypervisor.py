"""Contract of a hypervisor."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from forestall.model.decision import Action, Result
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.ports.hypervisor import EventKind, Hypervisor, VmSettings

NOBODY = "no-such-vm-8d1f"


class HypervisorContract:
    """Subclass, and give a fixture ``hypervisor`` with at least one VM that has run for a sampling step.

    ``settle`` waits until every move has had its effect, without asking ``follow_up``. Tests move what the VM holds by
    halving it and put it back, so that they can run on a real host.
    """

    @pytest.fixture
    def hypervisor(self) -> Hypervisor:
        """The host under test."""
        raise NotImplementedError

    @pytest.fixture
    def settle(self) -> Callable[[], None]:
        """Lets the longest lead time pass."""
        return lambda: None

    @pytest.fixture
    def movable(self, hypervisor: Hypervisor) -> tuple[str, Resource, float]:
        """A VM, a resource of it that can be moved, and how much of it is in force."""
        for vm_id in hypervisor.vm_ids():
            held = hypervisor.in_force(vm_id)
            for resource, capability in hypervisor.capabilities(vm_id).items():
                if not capability.refusal and 0 < held[resource] < math.inf:
                    return vm_id, resource, held[resource]
        pytest.skip("nothing can be moved on this host")

    def test_every_vm_answers(self, hypervisor: Hypervisor) -> None:
        vm_ids = hypervisor.vm_ids()
        assert vm_ids
        assert len(set(vm_ids)) == len(vm_ids)
        for vm_id in vm_ids:
            for resource, capability in hypervisor.capabilities(vm_id).items():
                assert capability.step >= 0
                assert capability.lead_seconds >= 0
                assert capability.refusal or resource in hypervisor.in_force(vm_id)

    def test_an_observation_has_a_row_for_each_vm(self, hypervisor: Hypervisor) -> None:
        seen, axes = hypervisor.observe(), hypervisor.resources()
        assert len(set(axes)) == len(axes) > 0
        assert seen.demand.shape == seen.limit.shape == (len(seen.vm_ids), len(axes))
        assert not (seen.demand < 0).any()
        assert set(hypervisor.vm_ids()) & set(seen.vm_ids)

    def test_processes_are_those_of_vms_that_were_observed(self, hypervisor: Hypervisor) -> None:
        seen, processes = set(hypervisor.observe().vm_ids), hypervisor.processes()
        assert processes.keys() <= seen
        assert len({process.pid for process in processes.values()}) == len(processes)
        for vm_id, process in processes.items():
            assert process.incarnation == hypervisor.settings(vm_id).incarnation

    def test_taps_are_those_of_vms_that_were_observed(self, hypervisor: Hypervisor) -> None:
        seen, taps = set(hypervisor.observe().vm_ids), hypervisor.taps()
        assert taps.keys() <= seen
        assert all(mine.devices and mine.identity for mine in taps.values())
        assert len({mine.identity for mine in taps.values()}) == len(taps)

    def test_the_inventory_holds_something(self, hypervisor: Hypervisor) -> None:
        for inventory in hypervisor.inventory().values():
            assert 0 <= inventory.reserved <= inventory.total
            assert inventory.allocation_ratio > 0

    def test_an_unknown_vm_is_an_error(self, hypervisor: Hypervisor) -> None:
        for ask in (hypervisor.capabilities, hypervisor.in_force, hypervisor.settings):
            with pytest.raises(HypervisorError, match=NOBODY):
                ask(NOBODY)

    def test_an_action_is_read_back_and_repeating_it_is_harmless(
        self, hypervisor: Hypervisor, settle: Callable[[], None], movable: tuple[str, Resource, float]
    ) -> None:
        vm_id, resource, held = movable
        step = hypervisor.capabilities(vm_id)[resource].step
        try:
            for _ in range(2):
                (outcome,) = hypervisor.apply([Action(vm_id, resource, held / 2)])
                assert outcome.result in (Result.DONE, Result.PENDING), outcome.reason
                assert outcome.action == Action(vm_id, resource, held / 2)
                settle()
                assert hypervisor.in_force(vm_id)[resource] == pytest.approx(held / 2, abs=step)
            (outcome,) = hypervisor.apply([Action(vm_id, resource, held / 2)])
            assert outcome.result is Result.DONE
            assert outcome.read_back == hypervisor.in_force(vm_id)[resource]
        finally:
            hypervisor.apply([Action(vm_id, resource, held)])
            settle()
        assert hypervisor.in_force(vm_id)[resource] == pytest.approx(held, abs=step)

    def test_what_cannot_be_is_refused_with_a_reason(
        self, hypervisor: Hypervisor, movable: tuple[str, Resource, float]
    ) -> None:
        vm_id, resource, held = movable
        impossible = [Action(NOBODY, resource, held), Action(vm_id, resource, -1.0), Action(vm_id, resource, math.nan)]
        if resource in hypervisor.inventory():
            impossible.append(Action(vm_id, resource, hypervisor.inventory()[resource].capacity * 2 + held))
        outcomes = hypervisor.apply(impossible)
        assert [o.action for o in outcomes] == impossible
        assert [o.result for o in outcomes] == [Result.REFUSED] * len(impossible)
        assert all(o.reason for o in outcomes)
        assert hypervisor.in_force(vm_id)[resource] == held

    def test_one_failing_action_does_not_stop_the_others(
        self, hypervisor: Hypervisor, movable: tuple[str, Resource, float]
    ) -> None:
        vm_id, resource, held = movable
        outcomes = hypervisor.apply([Action(NOBODY, resource, 1.0), Action(vm_id, resource, held)])
        assert outcomes[0].result is Result.REFUSED
        assert outcomes[1].result in (Result.DONE, Result.PENDING)

    def test_no_action_no_outcome(self, hypervisor: Hypervisor) -> None:
        assert hypervisor.apply([]) == []

    def test_a_slow_action_is_followed_up_once(
        self, hypervisor: Hypervisor, settle: Callable[[], None], movable: tuple[str, Resource, float]
    ) -> None:
        vm_id, resource, held = movable
        hypervisor.follow_up()
        action = Action(vm_id, resource, held / 2)
        try:
            (outcome,) = hypervisor.apply([action])
            settle()
            ended = hypervisor.follow_up()
            expected = [(action, Result.DONE)] if outcome.result is Result.PENDING else []
            assert [(o.action, o.result) for o in ended] == expected
            assert all(o.read_back == hypervisor.in_force(vm_id)[resource] for o in ended)
            assert hypervisor.follow_up() == []
        finally:
            hypervisor.apply([Action(vm_id, resource, held)])
            settle()
            hypervisor.follow_up()

    def test_settings_are_plain_values_that_stay_the_same(self, hypervisor: Hypervisor) -> None:
        for vm_id in hypervisor.vm_ids():
            settings = hypervisor.settings(vm_id)
            assert settings.vm_id == vm_id
            assert settings.incarnation
            assert json.loads(json.dumps(dict(settings.values))) == dict(settings.values)
            assert hypervisor.settings(vm_id) == settings

    def test_what_was_changed_is_put_back_once(
        self, hypervisor: Hypervisor, settle: Callable[[], None], movable: tuple[str, Resource, float]
    ) -> None:
        vm_id, resource, held = movable
        step = hypervisor.capabilities(vm_id)[resource].step
        settings = hypervisor.settings(vm_id)
        assert hypervisor.put_back(settings) == []
        hypervisor.apply([Action(vm_id, resource, held / 2)])
        settle()
        outcomes = hypervisor.put_back(settings)
        assert resource in [o.action.resource for o in outcomes]
        assert all(o.result in (Result.DONE, Result.PENDING) for o in outcomes)
        settle()
        assert hypervisor.in_force(vm_id)[resource] == pytest.approx(held, abs=step)
        assert hypervisor.settings(vm_id) == settings
        assert hypervisor.put_back(settings) == []
        hypervisor.follow_up()

    def test_settings_of_another_run_are_not_put_back(
        self, hypervisor: Hypervisor, settle: Callable[[], None], movable: tuple[str, Resource, float]
    ) -> None:
        vm_id, resource, held = movable
        settings = hypervisor.settings(vm_id)
        try:
            hypervisor.apply([Action(vm_id, resource, held / 2)])
            settle()
            changed = hypervisor.in_force(vm_id)[resource]
            assert hypervisor.put_back(replace(settings, incarnation="another")) == []
            assert hypervisor.put_back(VmSettings(NOBODY, settings.incarnation, settings.values)) == []
            settle()
            assert hypervisor.in_force(vm_id)[resource] == changed
        finally:
            hypervisor.put_back(settings)
            settle()
            hypervisor.follow_up()

    def test_events_are_told_once_and_in_order(self, hypervisor: Hypervisor) -> None:
        told = hypervisor.events()
        assert all(isinstance(event.kind, EventKind) for event in told)
        assert [event.at for event in told] == sorted(event.at for event in told)
        assert set(hypervisor.events()).isdisjoint(told)

    def test_closing_twice_is_harmless(self, hypervisor: Hypervisor) -> None:
        hypervisor.close()
        hypervisor.close()
