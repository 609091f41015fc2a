"""What is heard of a VM's traffic when one listens for a moment: which protocols it speaks, and how much of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol


@dataclass(frozen=True)
class Taps:
    """The taps of one VM: their names, the network namespace (None: ours), and what identifies the VM."""

    devices: tuple[str, ...]
    namespace: Path | None
    identity: str


class Flow(NamedTuple):
    """One flow, of which no payload is kept.

    Attributes
    ----------
    protocol, category
        As deep packet inspection calls them; empty where it recognised nothing.
    serves
        Whether the VM is the side that serves.
    transport, port
        Number of the transport protocol, and port of the side that serves.
    bytes, packets
        In both directions, as far as they were heard.
    name
        What the other side asked for by name (host of HTTP, server name of TLS), hashed with the key of the VM's trust
        group; empty for none.
    """

    protocol: str
    category: str
    serves: bool
    transport: int
    port: int
    bytes: int
    packets: int
    name: str = ""


class TrafficEar(Protocol):
    """Listens to VMs. Errors are :class:`~forestall.model.errors.HypervisorError`."""

    def listen(self, taps: Mapping[str, Taps], keys: Mapping[str, bytes]) -> Mapping[str, Sequence[Flow]]:
        """Flows of some VMs, heard for a few seconds; a VM whose taps cannot be heard is left out.

        Parameters
        ----------
        taps
            Of each VM.
        keys
            With what the names are hashed that each VM is asked for: 16 to 64 bytes.
        """
        ...
