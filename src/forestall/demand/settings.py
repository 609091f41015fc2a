"""How the demand loop is set."""

from __future__ import annotations

from dataclasses import dataclass, field

from forestall.demand.holding import HoldingSettings
from forestall.learning.boosted import BoostedSettings
from forestall.learning.pacing import PacingSettings
from forestall.learning.recurrent.forecaster import RecurrentSettings
from forestall.model.forecast import LEVELS, Statistic, Target

HORIZONS_SECONDS = (300, 600, 900, 3_600)
LIMIT_RATIOS = (1.0, 0.8)


def peak_within(steps: int) -> Target:
    """The peak over a horizon; over a single interval it is the mean of that interval."""
    return Target(Statistic.PEAK if steps > 1 else Statistic.MEAN, steps)


@dataclass(frozen=True)
class DemandSettings:
    """Settings of the demand loop for one resource.

    Attributes
    ----------
    step_seconds
        Sampling step.
    lead_steps
        What is decided after interval i is in force in interval i + lead_steps.
    budgets
        Violation budgets, decided side by side.
    horizons_seconds
        Horizons for which risk is stated; those shorter than a step count as one step.
    limit_ratios
        Risk is stated of exceeding these shares of the limit.
    forecast_steps
        Leads at which forecasts of the mean are wanted beyond ``lead_steps``; costly.
    cold_seconds
        A VM counts at its limit until it has been seen for so long.
    statistical, statistical_series
        ``ets`` or ``arima`` on the hourly means of so many VMs as one more expert; 0: not at all.
    recurrent
        How the recurrent model is used as one more expert; None: not at all.
    without
        Parts of the learner that are left out, to see what each is worth; see
        :class:`~forestall.learning.learner.LearnerSettings`.
    """

    step_seconds: int
    lead_steps: int = 1
    budgets: tuple[float, ...] = (0.01,)
    horizons_seconds: tuple[int, ...] = HORIZONS_SECONDS
    limit_ratios: tuple[float, ...] = LIMIT_RATIOS
    forecast_steps: tuple[int, ...] = ()
    cold_seconds: int = 900
    levels: tuple[float, ...] = LEVELS
    statistical: str = "ets"
    statistical_series: int = 0
    recurrent: RecurrentSettings | None = None
    without: frozenset[str] = frozenset()
    holding: HoldingSettings = field(default_factory=HoldingSettings)
    pacing: PacingSettings = field(default_factory=PacingSettings)
    boosted: BoostedSettings = field(default_factory=BoostedSettings)

    @property
    def horizon_steps(self) -> tuple[int, ...]:
        """Horizons of risk in steps, increasing, each once."""
        return tuple(sorted({max(1, round(h / self.step_seconds)) for h in self.horizons_seconds}))

    @property
    def cold_steps(self) -> int:
        """Samples that a VM must have given before it is more than a cold one."""
        return max(3, round(self.cold_seconds / self.step_seconds))

    @property
    def decided_target(self) -> Target:
        """What an allocation must cover: the mean of the interval in which it is in force."""
        return Target(Statistic.MEAN, self.lead_steps)

    @property
    def lasting_target(self) -> Target | None:
        """What must be covered when changes are limited: the peak until the next change can be afforded."""
        rate = self.holding.changes_per_vm_hour
        if rate is None:
            return None
        return Target(Statistic.PEAK, self.lead_steps - 1 + max(2, round(3_600 / rate / self.step_seconds)))

    @property
    def boosted_targets(self) -> tuple[Target, ...]:
        """Targets that the costly model forecasts too."""
        means = {self.decided_target, *(Target(Statistic.MEAN, s) for s in self.forecast_steps)}
        lasting = {self.lasting_target} if self.lasting_target else set()
        return tuple(sorted(means | lasting))

    @property
    def targets(self) -> tuple[Target, ...]:
        """Everything that is forecast."""
        return tuple(sorted({*self.boosted_targets, *(peak_within(s) for s in self.horizon_steps)}))
