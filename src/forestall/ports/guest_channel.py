"""The channel to what runs inside VMs: profiles up; requests, predictions and hints down.

What a guest says is a hint, never an authority. It is bounded in size and rate before anyone sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from forestall.guest.looks import LONG_FIELDS as LONG_FIELDS
from forestall.guest.looks import SHORT_FIELDS as SHORT_FIELDS
from forestall.guest.operations import OPERATIONS as OPERATIONS
from forestall.model.samples import FloatArray


class GuestWindow(NamedTuple):
    """What a guest says of a span of time.

    Attributes
    ----------
    vm_id
        Who says it.
    at
        End of the span, seconds of the host's clock.
    seconds
        Its length: 0.1 as a rule, 1 for a long one.
    long
        Whether it is a long one.
    values
        Array (field,) in the order of :data:`SHORT_FIELDS` or :data:`LONG_FIELDS`; NaN where the guest cannot tell.
    operations
        (position in :data:`OPERATIONS`, class of size) pairs; none in a long window.
    """

    vm_id: str
    at: float
    seconds: float
    long: bool
    values: FloatArray
    operations: tuple[tuple[int, int], ...]


class Busiest(NamedTuple):
    """The busiest processes and control groups of a guest, each with its rates, at an instant of the host's clock."""

    vm_id: str
    at: float
    processes: tuple[Mapping[str, Any], ...]
    groups: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class ChannelState:
    """How it stands with the channel of one VM.

    Attributes
    ----------
    connected, speaking
        Whether the port is open, and whether an agent has said hello on it.
    agent, kernel
        Version of what it speaks, and kernel of the guest, as told.
    windows_per_s
        Short windows that came in the last ten seconds, a second.
    age_seconds
        Since the last window; infinite before the first.
    round_trip_seconds
        Median and 99th percentile of the last round trips; NaN before the first.
    lost
        Frames that the guest could not send.
    dropped
        What was dropped here, by reason.
    agent_cpu_cores, agent_memory_bytes
        What the agent says that it costs.
    """

    connected: bool = False
    speaking: bool = False
    agent: int = 0
    kernel: str = ""
    windows_per_s: float = 0.0
    age_seconds: float = float("inf")
    round_trip_seconds: tuple[float, float] = (float("nan"), float("nan"))
    lost: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    agent_cpu_cores: float = float("nan")
    agent_memory_bytes: float = float("nan")


class GuestChannel(Protocol):
    """Channels of all VMs of a host. Errors are :class:`~forestall.model.errors.GuestError`."""

    def follow(self, addresses: Mapping[str, str]) -> None:
        """Speak to these VMs from now on, at these addresses, and to no others; cheap when nothing has changed."""
        ...

    def windows(self) -> Sequence[GuestWindow]:
        """Windows that came since the last call, in order of each VM; the oldest are lost where nobody asks."""
        ...

    def busiest(self) -> Sequence[Busiest]:
        """What came since the last call of processes and control groups."""
        ...

    def ask(self, vm_id: str, what: str, argument: Any = None, patience_seconds: float = 5.0) -> Any:
        """Ask a guest to do or say something, and wait; its refusal is an error, as is silence."""
        ...

    def tell(self, vm_id: str, hint: Mapping[str, Any]) -> None:
        """Leave a hint with a guest, if it listens; a newer one replaces it."""
        ...

    def states(self) -> Mapping[str, ChannelState]:
        """How it stands with each VM that is followed."""
        ...

    def close(self) -> None:
        """Hang up everywhere."""
        ...
