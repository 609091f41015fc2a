"""What has changed since the last look, as events: for pages that are live, and for programs that want to know."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from forestall.model.errors import ForestallError
from forestall.service.access.tokens import Caller
from forestall.service.api.documents import Host, Vm
from forestall.service.api.problems import Refused

_log = logging.getLogger(__name__)
RESET = "reset"
LOOK_SECONDS, HOLDS_SECONDS, KEPT = 1.0, 30.0, 4_096
MOST_LISTENERS, MOST_OF_ONE = 200, 10


@dataclass(frozen=True)
class Event:
    """Something that has changed.

    Attributes
    ----------
    kind
        One of :data:`~forestall.service.api.documents.EventKind`; or ``reset``: events were missed, all is to be looked
        at anew.
    group
        Trust group of the VM that it is about; None: it is about no VM.
    data
        What it says, plain JSON values.
    """

    kind: str
    data: dict[str, Any]
    group: str | None = None


@dataclass(frozen=True)
class Look:
    """What was seen of the site: hosts and VMs by name."""

    hosts: dict[str, Host]
    vms: dict[str, Vm]


def changes(before: Look, after: Look) -> Iterator[Event]:
    """What has changed from one look to the next, VMs before the cycle in which they were seen."""
    for name, vm in after.vms.items():
        old = before.vms.get(name)
        about = {"vm": name, "host": vm.host}
        if old is None:
            yield Event("vm-started", about, vm.trust_group)
        was, is_ = _altered(old), _altered(vm)
        if was != is_:
            yield Event("vm-altered" if is_ else "vm-restored", about, vm.trust_group)
    for name, vm in before.vms.items():
        if name not in after.vms:
            yield Event("vm-stopped", {"vm": name, "host": vm.host}, vm.trust_group)
    for name, host in after.hosts.items():
        known = before.hosts.get(name)
        if known is None or known.mode is not host.mode:
            yield Event("mode", {"host": name, "mode": host.mode.value})
        if (known.fault if known else "") != host.fault:
            yield Event("fault", {"host": name, "fault": host.fault})
        if (known.lost if known else "") != host.lost:
            yield Event("contact", {"host": name, "lost": host.lost})
        if known is None or known.cycles != host.cycles:
            yield Event("cycle", {"host": name, "cycles": host.cycles, "at": host.last_at})


def _altered(vm: Vm | None) -> bool:
    return vm is not None and any(each.altered for each in vm.resources)


@dataclass(frozen=True)
class Sight:
    """Looks at the site; ``hosts`` and ``vms`` ask for all that there is."""

    hosts: Callable[[], Sequence[Host]]
    vms: Callable[[], Sequence[Vm]]

    def look(self, last: Look | None) -> Look:
        """What there is; VMs of a host are as they were as long as it has had no cycle since."""
        hosts = {host.name: host for host in self.hosts()}
        if last is not None and all(
            name in last.hosts and last.hosts[name].cycles == host.cycles for name, host in hosts.items()
        ):
            return Look(hosts, last.vms)
        return Look(hosts, {vm.name: vm for vm in self.vms()})


class News:
    """Looks once a second while anybody listens, and tells all of them.

    Parameters
    ----------
    sight
        Looks.

    Attributes
    ----------
    listeners
        How many listen now, by the name of the caller.
    """

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._kept: deque[tuple[str, Event]] = deque(maxlen=KEPT)
        self._place_of = {secrets.token_hex(8): 0}
        """Ids by chance: that one follows another tells nobody what they do not hear of."""
        self._count = 0
        self._last: Look | None = None
        self.listeners: Counter[str] = Counter()
        self._more = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def heard(
        self, caller: Caller, after: str | None, holds: Callable[[], bool]
    ) -> AsyncIterator[tuple[str, Event]]:
        """Events as they come, with their ids, while the caller may hear them.

        Parameters
        ----------
        caller
            Who listens.
        after
            Id of the last that was heard, if one was.
        holds
            Whether they may still.
        """
        self.listeners[caller.name] += 1
        try:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            place = self._place_of.get(after or "")
            while True:
                if place is None or place < self._count - len(self._kept):
                    place = self._count
                    yield next(reversed(self._place_of)), Event(RESET, {})
                more = self._more
                for name, event in list(islice(self._kept, place - (self._count - len(self._kept)), None)):
                    place += 1
                    if event.group is None or caller.sees(event.group):
                        yield name, event
                with suppress(TimeoutError):
                    await asyncio.wait_for(more.wait(), HOLDS_SECONDS)
                if not await asyncio.to_thread(holds):
                    return
        finally:
            self.listeners[caller.name] -= 1
            self.listeners += Counter()  # without those who have gone

    async def _look(self) -> None:
        """Look while anybody listens; what happens while nobody does is told as a reset."""
        self._last = None
        while self.listeners:
            try:
                found = await asyncio.to_thread(self._sight.look, self._last)
            except (ForestallError, Refused):
                found = None  # the daemon is away: the next look that succeeds tells what has changed since
            except Exception:  # a defect must not leave those who listen without news for good
                _log.exception("the news cannot be looked for")
                found = None
            if found is not None:
                if self._last is None:
                    self._tell([Event(RESET, {})] if self._count else [])
                else:
                    self._tell(list(changes(self._last, found)))
                self._last = found
            await asyncio.sleep(LOOK_SECONDS)

    def _tell(self, events: Sequence[Event]) -> None:
        if not events:
            return
        for event in events:
            self._count += 1
            name = secrets.token_hex(8)
            self._kept.append((name, event))
            self._place_of[name] = self._count
            if len(self._place_of) > KEPT:
                del self._place_of[next(iter(self._place_of))]
        more, self._more = self._more, asyncio.Event()
        more.set()
