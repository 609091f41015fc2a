"""A look at everything that a window tells."""

from __future__ import annotations

from pathlib import Path

from forestall.guest.counters import QUIET_SWITCHES, fast_sources, slow_sources
from forestall.guest.meter import Meter


class FastLook:
    """What is looked at for every short window.

    Attributes
    ----------
    names
        Of the values.
    busy
        Whether somebody but the agent did something in the window.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._stat, others = fast_sources(root)
        self._first = Meter(self._stat)
        self._others = [Meter(source) for source in others]
        self.names: tuple[str, ...] = sum((m.names for m in (self._first, *self._others)), ())
        self.busy = True

    def look(self, now: float, everything: bool) -> list[float]:
        """Values over the time since the last look; at ``everything``, or only at what can have moved."""
        values = self._first.look(now)
        hints = self._stat.hints
        forced = everything or not hints
        self.busy = forced or hints[0] > QUIET_SWITCHES or hints[1] > 0
        for meter in self._others:
            values = values + (meter.look(now) if forced or meter.source.moved(hints) else meter.still())
        return values

    def longer(self) -> list[float]:
        """Values over the time since this was asked before, up to the last look, which was at everything."""
        return [value for meter in (self._first, *self._others) for value in meter.longer()]

    def close(self) -> None:
        """Let go of the files."""
        for meter in (self._first, *self._others):
            meter.source.close()


class SlowLook:
    """What is looked at once a second; ``names`` and ``look`` as for a :class:`Meter`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._meters = [Meter(source) for source in slow_sources(root)]
        self.names: tuple[str, ...] = sum((m.names for m in self._meters), ())

    def look(self, now: float) -> list[float]:
        """Values over the time since the last look."""
        return [value for meter in self._meters for value in meter.look(now)]

    def close(self) -> None:
        """Let go of the files."""
        for meter in self._meters:
            meter.source.close()


OWN_FIELDS = ("agent_cpu_cores", "agent_memory_bytes", "late_windows")
"""What an agent says of itself: its cost, and windows that it could not look at in time."""
SHORT_FIELDS = FastLook().names
"""Values of a short window."""
LONG_FIELDS = (*SHORT_FIELDS, *SlowLook().names, *OWN_FIELDS)
"""Values of a long window."""
