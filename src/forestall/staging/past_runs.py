"""What followed the last time: the orders in which the runs of a trust group first touched their pages.

A run is the life of a VM from its beginning. While a VM touches pages in the order of an earlier run of its group, what
came next there comes next here. How often that was right of late is its trust; nothing is expected of a past that is
not trusted. Runs of other groups are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

AHEAD = 32
"""So many pages of the past run are expected at a time."""
BEHIND = 64
"""So far the order may differ."""
TRUST_RATE, TRUSTED = 0.1, 0.6
MOST_PAGES = 1 << 20
"""Of each group's past as much is kept, the latest."""


@dataclass
class _Group:
    """The pages of all runs of a group, one run after the other as they came, and where each page stands last.

    Runs of VMs that live at the same time stand apart: each has a log of its own until it ends or begins anew.
    """

    logs: dict[int, list[int]] = field(default_factory=dict)
    where: dict[int, tuple[int, int]] = field(default_factory=dict)
    pages: int = 0


@dataclass
class _Follower:
    """One VM: its own run, and the place in a past one where it seems to be."""

    group: int
    run: int
    log: Sequence[int] = ()
    place: int = 0
    trust: float = 0.0
    right: bool = False


class PastRuns:
    """The past of all groups, and where each VM is in it."""

    def __init__(self) -> None:
        self._groups: dict[int, _Group] = {}
        self._followers: dict[int, _Follower] = {}
        self._runs = 0

    def follow(self, vm: int, group: int, page: int) -> list[int]:
        """Take in the first touch of a page, and name the pages that followed then, if that is to be trusted."""
        past = self._groups.setdefault(group, _Group())
        follower = self._followers.get(vm)
        if follower is None or follower.group != group:  # what it did in another group stays there
            follower = self._followers[vm] = self._new_run(group, past)
        self._move(follower, past, page)
        self._write_down(past, follower.run, page)
        return self.expected(vm, AHEAD)

    def remember(self, group: int, touches: Iterable[tuple[str, int]]) -> None:
        """Take in first touches of before, in their order, as names of VMs of the group and pages: a run for each."""
        past, runs = self._groups.setdefault(group, _Group()), dict[str, int]()
        for name, page in touches:
            if name not in runs:
                runs[name] = self._new_run(group, past).run
            self._write_down(past, runs[name], page)

    def expected(self, vm: int, most: int) -> list[int]:
        """The pages that followed then, so many at most, if that is to be trusted."""
        follower = self._followers.get(vm)
        if follower is None or follower.trust < TRUSTED:
            return []
        return list(follower.log[follower.place : follower.place + most])

    def trusted(self, vm: int) -> tuple[bool, bool]:
        """Whether what followed then has been right of late, and was right now."""
        follower = self._followers[vm]
        return follower.trust >= TRUSTED, follower.right

    def begin_anew(self, vm: int) -> None:
        """A VM's run has ended; it remains as a past one."""
        self._followers.pop(vm, None)

    def forget_group(self, group: int) -> None:
        """A trust group is gone, with its past."""
        self._groups.pop(group, None)
        self._followers = {vm: one for vm, one in self._followers.items() if one.group != group}

    def _new_run(self, group: int, past: _Group) -> _Follower:
        self._runs += 1
        past.logs[self._runs] = []
        return _Follower(group, self._runs)

    @staticmethod
    def _move(follower: _Follower, past: _Group, page: int) -> None:
        """Find the page in the past run, near where one is, or else in the latest other run that has it."""
        near = follower.log[max(follower.place - BEHIND, 0) : follower.place + AHEAD]
        follower.right = page in near
        follower.trust += TRUST_RATE * (follower.right - follower.trust)
        if follower.right:
            follower.place = max(follower.place, max(follower.place - BEHIND, 0) + near.index(page) + 1)
            return
        run, place = past.where.get(page, (follower.run, 0))
        if run != follower.run and follower.trust < TRUSTED:
            follower.log, follower.place = past.logs.get(run, ()), place + 1

    @staticmethod
    def _write_down(past: _Group, run: int, page: int) -> None:
        log = past.logs.get(run)
        if log is None:
            return  # so many came after it that its beginning is not kept
        while past.pages >= MOST_PAGES:
            oldest = next((other for other in past.logs if other != run), None)
            if oldest is None:
                return  # the rest of a run that is longer than all that is kept
            forgotten = past.logs.pop(oldest)
            past.pages -= len(forgotten)
            for other in forgotten:
                if past.where.get(other, (run,))[0] == oldest:
                    del past.where[other]
        past.where[page] = run, len(log)
        log.append(page)
        past.pages += 1
