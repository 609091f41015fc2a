"""The resources of a virtual machine, their units and the names of their columns in a trace."""

from __future__ import annotations

from enum import StrEnum


class Resource(StrEnum):
    """A resource that is observed, predicted and allocated.

    CPU is counted in cores, memory in bytes, disk and network in bytes per second.
    """

    CPU = "cpu"
    MEMORY = "memory"
    DISK_READ = "disk_read"
    DISK_WRITE = "disk_write"
    NET_RX = "net_rx"
    NET_TX = "net_tx"

    @property
    def unit(self) -> str:
        """Unit of demand, limit and allocation: ``cores``, ``bytes`` or ``bytes_per_s``."""
        return {"cpu": "cores", "memory": "bytes"}.get(self.value, "bytes_per_s")

    @property
    def demand_column(self) -> str:
        """Column of a demand trace that holds the mean demand of the interval."""
        return {"cpu": "cpu_cores", "memory": "mem_bytes"}.get(self.value, f"{self.value}_bytes_per_s")

    @property
    def limit_column(self) -> str | None:
        """Column that holds what the VM is provisioned with; None where a trace has no limit."""
        return {"cpu": "cpu_limit_cores", "memory": "mem_limit_bytes"}.get(self.value)
