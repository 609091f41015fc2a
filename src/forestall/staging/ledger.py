"""What staging has brought each trust group, and what it has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from forestall.staging.shadow import Seen
from forestall.staging.worth import Worth


@dataclass(frozen=True)
class GroupView:
    """A trust group's account since the loop began; pages.

    Attributes
    ----------
    vms, staged_bytes
        VMs that are shadowed, and what is staged for them now: what the host holds.
    hits, real_hits, misses
        Pages that VMs took: those that were staged, or would have been where it is only followed; those that were;
        and others.
    staged, wasted, returned
        Pages that were staged, or would have been; of these given back because nobody touched them in time; and given
        back for any reason.
    precision
        Of the pages staged of late, the share that was touched; None while nothing is known.
    coverage
        Hits among the pages that VMs took; None while they took none.
    threshold
        What is touched with at least this probability is staged.
    pays
        Whether staging is worth it; if not, it is only followed what would come of it.
    faults_saved_seconds
        Time that it took us to populate the pages that were really hit; without that the VMs would have waited for it.
    stood_seconds, stops
        For how long VMs stood still so that pages could be given back, and how often.
    """

    vms: int = 0
    staged_bytes: int = 0
    hits: int = 0
    real_hits: int = 0
    misses: int = 0
    staged: int = 0
    wasted: int = 0
    returned: int = 0
    precision: float | None = None
    coverage: float | None = None
    threshold: float = 0.0
    pays: bool = True
    faults_saved_seconds: float = 0.0
    stood_seconds: float = 0.0
    stops: int = 0


class Account:
    """What is known of one group."""

    def __init__(self, least_precision: float) -> None:
        self.worth = Worth(least_precision)
        self._hits = self._real_hits = self._misses = 0
        self._staged = self._wasted = self._returned = self._stops = 0
        self._populate_seconds = self._stood_seconds = 0.0
        self._populated = 0

    def took(self, seen: Seen) -> None:
        """VMs took pages."""
        self._hits += seen.hits
        self._real_hits += seen.real_hits
        self._misses += seen.misses
        self.worth.came_of(seen.hits, 0)

    def staged(self, pages: int, populated: int = 0, seconds: float = 0.0) -> None:
        """Pages were staged; so many of them really, which took so long."""
        self._staged += pages
        self._populated += populated
        self._populate_seconds += seconds

    def returned(self, pages: int, *, wasted: bool) -> None:
        """Pages were given back; ``wasted``: because nobody touched them."""
        self._returned += pages
        if wasted:
            self._wasted += pages
            self.worth.came_of(0, pages)

    def stood(self, seconds: float) -> None:
        """A VM stood still."""
        self._stops += 1
        self._stood_seconds += seconds

    def view(self, staged_bytes: Sequence[int]) -> GroupView:
        """Everything; ``staged_bytes`` of each VM now."""
        took, precision = self._hits + self._misses, self.worth.precision
        return GroupView(
            vms=len(staged_bytes),
            staged_bytes=sum(staged_bytes),
            hits=self._hits,
            real_hits=self._real_hits,
            misses=self._misses,
            staged=self._staged,
            wasted=self._wasted,
            returned=self._returned,
            precision=None if precision != precision else precision,
            coverage=self._hits / took if took else None,
            threshold=self.worth.threshold,
            pays=self.worth.pays,
            faults_saved_seconds=self._real_hits * self._populate_seconds / max(self._populated, 1),
            stood_seconds=self._stood_seconds,
            stops=self._stops,
        )


class Group(NamedTuple):
    """A trust group: its name, and which one of that name."""

    name: str
    generation: str


class Ledger:
    """The accounts of all groups."""

    def __init__(self, least_precision: float) -> None:
        self._least_precision = least_precision
        self._accounts: dict[Group, Account] = {}

    def of(self, group: Group) -> Account:
        """A group's account."""
        if group not in self._accounts:
            self._accounts[group] = Account(self._least_precision)
        return self._accounts[group]

    def forget(self, group: Group) -> None:
        """A group is gone."""
        self._accounts.pop(group, None)

    def views(self, staged_bytes: Mapping[Group, Sequence[int]]) -> dict[str, GroupView]:
        """Every group's account by name, with what is staged now for each of its VMs."""
        return {group.name: self.of(group).view(staged_bytes.get(group, ())) for group in sorted(self._accounts)}
