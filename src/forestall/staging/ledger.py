"""What staging has brought each trust group, and what it has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forestall.staging.worth import Worth


@dataclass(frozen=True)
class GroupView:
    """A trust group's account since the loop began; pages.

    Attributes
    ----------
    vms, staged_bytes
        VMs that are shadowed, and what is staged for them now.
    hits, misses
        Pages that VMs took: staged ones, and others.
    staged, wasted, returned
        Pages that were staged; of these given back because nobody touched them in time; and given back for any reason.
    precision
        Of the pages staged of late, the share that was touched; None while nothing is known.
    coverage
        Of the pages that VMs took, the share that was staged; None while they took none.
    threshold
        What is touched with at least this probability is staged.
    pays
        Whether staging is worth it; if not, it is only followed what would come of it.
    faults_saved_seconds
        Time that it took us to populate the pages that were hit; without that the VMs would have waited for it.
    stood_seconds, stops
        For how long VMs stood still so that pages could be given back, and how often.
    """

    vms: int
    staged_bytes: int
    hits: int
    misses: int
    staged: int
    wasted: int
    returned: int
    precision: float | None
    coverage: float | None
    threshold: float
    pays: bool
    faults_saved_seconds: float
    stood_seconds: float
    stops: int


class Account:
    """What is known of one group."""

    def __init__(self, least_precision: float) -> None:
        self.worth = Worth(least_precision)
        self._hits = self._misses = self._staged = self._wasted = self._returned = self._stops = 0
        self._populate_seconds = self._stood_seconds = 0.0
        self._populated = 0

    def touched(self, hits: int, misses: int) -> None:
        """VMs took pages."""
        self._hits += hits
        self._misses += misses
        self.worth.came_of(hits, 0)

    def staged(self, pages: int, seconds: float) -> None:
        """Pages were staged; if really, that took so long."""
        self._staged += pages
        if seconds:
            self._populate_seconds += seconds
            self._populated += pages

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
            misses=self._misses,
            staged=self._staged,
            wasted=self._wasted,
            returned=self._returned,
            precision=None if precision != precision else precision,
            coverage=self._hits / took if took else None,
            threshold=self.worth.threshold,
            pays=self.worth.pays,
            faults_saved_seconds=self._hits * self._populate_seconds / max(self._populated, 1),
            stood_seconds=self._stood_seconds,
            stops=self._stops,
        )


class Ledger:
    """The accounts of all groups."""

    def __init__(self, least_precision: float) -> None:
        self._least_precision = least_precision
        self._accounts: dict[str, Account] = {}

    def of(self, group: str) -> Account:
        """A group's account."""
        if group not in self._accounts:
            self._accounts[group] = Account(self._least_precision)
        return self._accounts[group]

    def views(self, staged_bytes: Mapping[str, Sequence[int]]) -> dict[str, GroupView]:
        """Every group's account, with what is staged now for each of its VMs."""
        names = sorted({*self._accounts, *staged_bytes})
        return {name: self.of(name).view(staged_bytes.get(name, ())) for name in names}
