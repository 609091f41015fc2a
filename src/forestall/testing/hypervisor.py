"""Contract of a hypervisor."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from forestall.model.decision import Action, Result
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.ports.hypervisor import Hypervisor

NOBODY = "no-such-vm-8d1f"


class HypervisorContract:
    """Subclass, and give a fixture ``hypervisor`` with at least one VM that has run for a sampling step.

    ``settle`` waits until every move has had its effect. Tests move what the VM holds by halving it and put
    it back, so that they can run on a real host.
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

    def test_the_inventory_holds_something(self, hypervisor: Hypervisor) -> None:
        for inventory in hypervisor.inventory().values():
            assert 0 <= inventory.reserved <= inventory.total
            assert inventory.allocation_ratio > 0

    def test_an_unknown_vm_is_an_error(self, hypervisor: Hypervisor) -> None:
        for ask in (hypervisor.capabilities, hypervisor.in_force):
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
