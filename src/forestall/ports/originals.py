"""Original settings of VMs, kept before the first change, so that all of it can be undone."""

from __future__ import annotations

from typing import Protocol

from forestall.ports.hypervisor import VmSettings


class Originals(Protocol):
    """Durable memory of how VMs were set. Errors are :class:`~forestall.model.errors.StoreError`.

    A VM that has an entry may have been changed; one that has none has not been.
    """

    def keep(self, settings: VmSettings) -> VmSettings:
        """Keep how a VM is set, unless this incarnation of it has an entry already; what is kept is returned.

        Durable on return. If it raises, the VM must not be changed.
        """
        ...

    def kept(self) -> tuple[VmSettings, ...]:
        """Every entry, by name of the VM."""
        ...

    def forget(self, vm_id: str) -> None:
        """Drop a VM's entry, after everything was put back; harmless if there is none."""
        ...
