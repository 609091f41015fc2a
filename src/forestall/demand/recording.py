"""Which decisions are worth a row of the journal: all that change something, the others now and then.

A loop of 10 s takes 8,640 decisions a day for each VM and resource, most of which say "as before". A decision holds
until the next one that differs, so that leaving out repetitions loses nothing that was done, only forecasts in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from forestall.model.decision import Decision, Ruling
from forestall.model.resources import Resource


@dataclass(frozen=True)
class _Last:
    at: int
    allocated: float
    ruling: Ruling


class Recording:
    """Remembers what was recorded last, for each VM and resource.

    Parameters
    ----------
    repeat_seconds
        A decision that is as the last one is recorded again after so long.
    change_ratio
        An amount that differs by no more than this share is as before.
    """

    def __init__(self, repeat_seconds: int = 300, change_ratio: float = 0.02) -> None:
        self._repeat_seconds, self._change_ratio = repeat_seconds, change_ratio
        self._last: dict[tuple[str, Resource], _Last] = {}

    def worth(self, decision: Decision, *, moves: bool) -> bool:
        """Whether to record a decision; ``moves`` says that something is about to be changed because of it."""
        key = decision.vm_id, decision.resource
        last = self._last.get(key)
        same = (
            last is not None
            and not moves
            and last.ruling is decision.ruling
            and 0 <= decision.in_force_at - last.at < self._repeat_seconds
            and not abs(decision.allocated - last.allocated) > self._change_ratio * abs(last.allocated)
        )
        if not same:
            self._last[key] = _Last(decision.in_force_at, decision.allocated, decision.ruling)
        return not same

    def forget(self, vm_ids: Iterable[str]) -> None:
        """Forget VMs that are gone."""
        gone = set(vm_ids)
        self._last = {key: last for key, last in self._last.items() if key[0] not in gone}
