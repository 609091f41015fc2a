"""Carrying verdicts out: first what gives back, then what takes, and no more than was really given back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from forestall.demand.arbiter import actions_of
from forestall.demand.ruling import Ruled, refit
from forestall.model.decision import Action, Outcome, Result, Ruling
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.ports.hypervisor import Hypervisor

_BAD = (Result.FAILED, Result.REFUSED)


def carry_out(
    host: Hypervisor, ruled: Mapping[Resource, Sequence[Ruled]], capacity: Mapping[Resource, float]
) -> list[Outcome]:
    """Tell the hypervisor; an outcome for each action. Contact lost on the way is a failure of all that is left."""
    backs = [action for mine in ruled.values() for action in actions_of([r.verdict for r in mine])[0]]
    outcomes = apply(host, backs)
    stuck = {(o.action.vm_id, o.action.resource): o for o in outcomes if o.result in _BAD}
    takes: list[Action] = []
    for resource, mine in ruled.items():
        fitted = refit([_as_it_is(r, stuck) for r in mine], capacity[resource]) if stuck else mine
        takes += actions_of([r.verdict for r in fitted])[1]
    return outcomes + apply(host, takes)


def apply(host: Hypervisor, actions: Sequence[Action]) -> list[Outcome]:
    """Apply actions; an error of the whole host becomes a failed outcome of each."""
    if not actions:
        return []
    try:
        return host.apply(actions)
    except HypervisorError as error:
        return [Outcome(action, Result.FAILED, None, str(error)) for action in actions]


def _as_it_is(ruled: Ruled, stuck: Mapping[tuple[str, Resource], Outcome]) -> Ruled:
    """A VM that did not give back holds what it held."""
    verdict = ruled.verdict
    if (verdict.proposal.vm_id, verdict.proposal.resource) not in stuck:
        return ruled
    return replace(ruled, verdict=replace(verdict, granted=verdict.proposal.observed, ruling=Ruling.ACCEPTED))
