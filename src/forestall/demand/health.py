"""Whether what the loop knows can be acted on: stale samples, a clock that jumps, failures in a row, crashes.

A fault drops the loop to ``observe`` and everything is put back as it was; after a while without a fault the mode that
was asked for is taken up again, if the operator allows it. Pure: what happened in, a verdict in words out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forestall.model.decision import Outcome, Result

HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class HealthSettings:
    """When to let go.

    Attributes
    ----------
    stale_seconds
        The newest sample is older than this.
    clock_jump_seconds
        The clock moved by more than this against the monotonic one between two cycles.
    actuator_errors
        So many actions failed in a row.
    forecast_failures
        So many cycles in a row could not be decided.
    crashes
        So many unclean ends within an hour.
    recover_seconds
        After so long without a fault all is well again; 0: never by itself.
    """

    stale_seconds: float
    clock_jump_seconds: float = 30.0
    actuator_errors: int = 5
    forecast_failures: int = 3
    crashes: int = 3
    recover_seconds: float = 300.0


@dataclass(frozen=True)
class Facts:
    """What happened since the last look.

    Attributes
    ----------
    wall, steady
        The clock and the monotonic one, seconds.
    newest_at
        End of the newest interval that was observed, seconds on the clock; None before the first one.
    decided
        Whether the last cycle could be decided; None where nothing was to decide.
    outcomes
        Of the actions since.
    """

    wall: float
    steady: float
    newest_at: float | None
    decided: bool | None = None
    outcomes: Sequence[Outcome] = ()


@dataclass(frozen=True)
class Health:
    """What is remembered between two looks. ``fault`` says why nothing may be changed; empty when it may.

    ``fault_at``, ``started`` and ``blocked_until`` are instants on the monotonic clock.
    """

    fault: str = ""
    fault_at: float = 0.0
    blocked_until: float = 0.0
    wall: float | None = None
    steady: float = 0.0
    started: float = 0.0
    actuator_errors: int = 0
    forecast_failures: int = 0

    @property
    def sound(self) -> bool:
        """Whether VMs may be changed."""
        return not self.fault


def at_start(crashes_at: Sequence[float], wall: float, steady: float, settings: HealthSettings) -> Health:
    """Health of a process that starts now; ``crashes_at``: instants of earlier unclean ends, on the clock."""
    recent = sorted(at for at in crashes_at if wall - HOUR_SECONDS < at <= wall)
    if len(recent) < settings.crashes:
        return Health(wall=wall, steady=steady, started=steady)
    # Fewer than so many lie within the hour once this one has left it.
    until = steady + recent[len(recent) - settings.crashes] + HOUR_SECONDS - wall
    fault = f"{len(recent)} unclean ends within the hour"
    return Health(fault, steady, until, wall, steady, steady)


def look(health: Health, facts: Facts, settings: HealthSettings) -> Health:
    """Judge what happened since the last look.

    Returns
    -------
    Health
        With a ``fault`` in words while there is one, and until it is over by ``recover_seconds``.
    """
    most, errors = _errors_in_row(health.actuator_errors, facts.outcomes)
    failures = health.forecast_failures
    if facts.decided is not None:
        failures = 0 if facts.decided else failures + 1
    fault = _fault(health, facts, most, failures, settings)
    fault_at, shown = health.fault_at, health.fault
    if fault:
        fault_at, shown = facts.steady, fault
    elif shown and _over(health, facts.steady, settings):
        shown, errors, failures = "", 0, 0
    return Health(shown, fault_at, health.blocked_until, facts.wall, facts.steady, health.started, errors, failures)


def _errors_in_row(before: int, outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """Failed actions in a row: the most there were, and those since the last one that did not fail.

    A refusal says nothing about the actuator.
    """
    most = now = before
    for outcome in outcomes:
        if outcome.result is Result.FAILED:
            now += 1
            most = max(most, now)
        elif outcome.result is not Result.REFUSED:
            now = 0
    return most, now


def _fault(health: Health, facts: Facts, errors: int, failures: int, settings: HealthSettings) -> str:
    if health.wall is not None:
        jump = (facts.wall - health.wall) - (facts.steady - health.steady)
        if abs(jump) > settings.clock_jump_seconds:
            return f"the clock jumped by {jump:+.0f} s"
    age = facts.steady - health.started if facts.newest_at is None else facts.wall - facts.newest_at
    if age > settings.stale_seconds:
        return f"the newest sample is {age:.0f} s old"
    # Counted once, at the failure that is one too many: with nothing to act on, no action can show that it works again.
    if errors >= settings.actuator_errors > health.actuator_errors:
        return f"{errors} actions in a row failed"
    if failures >= settings.forecast_failures:
        return f"{failures} cycles in a row could not be decided"
    return ""


def _over(health: Health, steady: float, settings: HealthSettings) -> bool:
    calm = settings.recover_seconds > 0 and steady - health.fault_at >= settings.recover_seconds
    return calm and steady >= health.blocked_until
