"""How much memory this process took."""

from __future__ import annotations

import resource

_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def peak_memory_bytes() -> int:
    """The most that this process, or any of its children, held at once."""
    return max(resource.getrusage(who).ru_maxrss for who in _PROCESSES) * 1024
