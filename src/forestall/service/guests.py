"""What runs inside VMs, beside the loop: who is there to be followed, and what each is told after a cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from forestall.demand.view import VmView
from forestall.model.errors import GuestError
from forestall.ports.guest_channel import Busiest, GuestChannel
from forestall.service.profiling import Profiling

OFF = "channels to guests are switched off: [guests] channel"


class Addressed(Protocol):
    """Knows the host's end of each VM's port."""

    def guest_addresses(self) -> Mapping[str, str]:
        """For each VM that has a port for our agent, the host's end of it."""
        ...


class Guests:
    """Follows the agents of a host's VMs.

    Parameters
    ----------
    channel
        To the agents.
    host
        Knows where they are.
    views
        What the loop says of each VM and resource.
    now
        The host's clock.
    profiling
        Takes in what they say.
    """

    def __init__(
        self,
        channel: GuestChannel,
        host: Addressed,
        views: Callable[[], Iterable[VmView]],
        now: Callable[[], float],
        profiling: Profiling,
    ) -> None:
        self._channel, self._host, self._views, self._now = channel, host, views, now
        self._profiling = profiling
        self._busiest: dict[str, Busiest] = {}

    def turn(self) -> None:
        """After a cycle: follow the VMs that are there now, and tell each what is expected of it and in force."""
        addresses = self._host.guest_addresses()
        self._channel.follow(addresses)
        known = self._busiest | {busiest.vm_id: busiest for busiest in self._channel.busiest()}
        self._busiest = {vm_id: busiest for vm_id, busiest in known.items() if vm_id in addresses}
        for vm_id, hint in hints(self._views(), self._now(), self._channel.states()).items():
            self._channel.tell(vm_id, hint)

    def speaking(self) -> frozenset[str]:
        """VMs whose agent speaks."""
        return frozenset(vm_id for vm_id, state in self._channel.states().items() if state.speaking)

    def states(self) -> list[dict[str, Any]]:
        """How it stands with each VM."""
        return [{"vm_id": vm_id, **asdict(state)} for vm_id, state in sorted(self._channel.states().items())]

    def ask(self, vm_id: str, what: str, argument: Any) -> Any:
        """Ask a guest; see :class:`~forestall.ports.guest_channel.GuestChannel`."""
        return self._channel.ask(vm_id, what, argument)

    def busiest(self, vm_id: str) -> Mapping[str, Any]:
        """The busiest processes and control groups of a VM, as it said last."""
        found = self._busiest.get(vm_id)
        if found is None:
            raise GuestError(
                f"{vm_id}: no agent has told of its processes (one that spends its budget leaves them out)"
            )
        return found._asdict()

    def sequences(self, vm_id: str) -> Mapping[str, Any]:
        """What is known of the sequences of operations of a VM."""
        found = self._profiling.sequences(vm_id)
        if found is None:
            raise GuestError(f"{vm_id}: no agent has said anything yet")
        return found

    def patterns(self, vm_id: str) -> Mapping[str, Any]:
        """What a VM does again and again, and which of it now."""
        found = self._profiling.patterns(vm_id)
        if found is None:
            raise GuestError(f"{vm_id}: no vector was made yet")
        return found

    def close(self) -> None:
        """Hang up; what was seen since the last vector makes one more."""
        self._profiling.close()
        self._channel.close()


def hints(views: Iterable[VmView], at: float, listening: Iterable[str]) -> dict[str, dict[str, Any]]:
    """For each VM that listens: by resource, what is in force, what it is predicted to need, and the risk."""
    known = set(listening)
    told: dict[str, dict[str, Any]] = {}
    for view in views:
        if view.vm_id in known:
            numbers = {"in_force": view.in_force, "risk": view.risk, **view.quantiles}
            finite = {name: round(value, 6) for name, value in numbers.items() if abs(value) < float("inf")}
            told.setdefault(view.vm_id, {"at": at})[view.resource.value] = finite
    return told


class NoGuests:
    """Follows nobody: channels are switched off."""

    def turn(self) -> None:
        """Do nothing."""

    def speaking(self) -> frozenset[str]:
        """Nobody."""
        return frozenset()

    def states(self) -> list[dict[str, Any]]:
        """Nobody."""
        return []

    def ask(self, vm_id: str, what: str, argument: Any) -> Any:
        """Refuse."""
        raise GuestError(OFF)

    def busiest(self, vm_id: str) -> Mapping[str, Any]:
        """Refuse."""
        raise GuestError(OFF)

    def sequences(self, vm_id: str) -> Mapping[str, Any]:
        """Refuse."""
        raise GuestError(OFF)

    def patterns(self, vm_id: str) -> Mapping[str, Any]:
        """Refuse."""
        raise GuestError(OFF)

    def close(self) -> None:
        """Do nothing."""
