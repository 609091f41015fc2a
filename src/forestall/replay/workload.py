"""What a generated workload is made of: its size, and its mixture of archetypes."""

from __future__ import annotations

from dataclasses import dataclass, fields

from forestall.model.errors import BadInput

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Mixture:
    """Shares of the archetypes; they are scaled to sum to 1.

    Attributes
    ----------
    interactive
        People by day, less at weekends.
    batch
        Jobs each night, every 8 hours or every hour.
    bursty
        On and off for heavy-tailed times.
    idle
        Next to nothing, all the time.
    regime
        One habit until a random time, another from then on.
    leak
        Memory grows until a restart.
    correlated
        Groups that follow one load, each VM with its own lag.
    """

    interactive: float = 0.30
    batch: float = 0.18
    bursty: float = 0.14
    idle: float = 0.14
    regime: float = 0.07
    leak: float = 0.05
    correlated: float = 0.12

    @property
    def names(self) -> tuple[str, ...]:
        """Archetypes, in the order of :attr:`shares`."""
        return tuple(f.name for f in fields(self))

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares (archetype,), summing to 1."""
        values = [float(getattr(self, name)) for name in self.names]
        return tuple(value / sum(values) for value in values)


@dataclass(frozen=True)
class Workload:
    """Settings of a generated trace.

    Attributes
    ----------
    vms, days, step_seconds
        Size: virtual machines, length in days, length of an interval in seconds.
    start
        First instant, seconds UTC, a real calendar date: Monday 2 March 2026, 00:00, unless said otherwise.
    mixture
        Shares of the archetypes.
    short_lived_share
        VMs, of any archetype, that appear and disappear inside the trace (an hour to a day and a half).
    group_size
        VMs of a correlated group; its members lag behind the load by up to ``max_lag_steps``.
    gap_ratio
        Share of intervals without a sample; gaps are 3 intervals long on average.
    off_share
        VMs that are switched off for some time (each day at the same hours, or once): their limit is zero.
    resized_share
        VMs whose limits are doubled or halved at a random time.
    over_limit_ratio
        Share of intervals with CPU up to 10 % above the limit, as hypervisors do report.
    noise
        Standard deviation of the AR(1) noise on the logarithm of the load; a VM's own is half to one and a
        half of it. It forgets in 20 minutes.
    """

    vms: int = 100
    days: float = 7.0
    step_seconds: int = 300
    start: int = 1_772_409_600
    mixture: Mixture = Mixture()
    short_lived_share: float = 0.08
    group_size: int = 8
    max_lag_steps: int = 2
    gap_ratio: float = 0.005
    off_share: float = 0.04
    resized_share: float = 0.04
    over_limit_ratio: float = 0.0005
    noise: float = 0.2

    def __post_init__(self) -> None:
        """Refuse a workload that cannot be made."""
        if self.vms < 1 or self.step_seconds < 1 or self.steps < 1:
            raise BadInput("a workload needs at least one VM, one interval, and steps of a second or more")
        ratios = ("short_lived_share", "gap_ratio", "off_share", "resized_share", "over_limit_ratio")
        for name in ratios:
            if not 0.0 <= getattr(self, name) < 1.0:
                raise BadInput(f"{name} must be in [0, 1), not {getattr(self, name)}")

    @property
    def steps(self) -> int:
        """Number of intervals."""
        return round(self.days * DAY_SECONDS / self.step_seconds)

    def per_hour(self, hours: float) -> float:
        """Length of ``hours`` in intervals."""
        return hours * 3600.0 / self.step_seconds
