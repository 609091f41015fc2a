"""When the loop lets go, and when it takes hold again."""

from __future__ import annotations

from dataclasses import replace

from forestall.demand.health import Facts, Health, HealthSettings, at_start, look
from forestall.model.decision import Action, Outcome, Result
from forestall.model.resources import Resource

SETTINGS = HealthSettings(stale_seconds=30, recover_seconds=100)
START = 1_000_000.0


def outcome(result: Result) -> Outcome:
    return Outcome(Action("a", Resource.CPU, 1.0), result, None, "")


def facts(passed: float, *, age: float | None = 5.0, jump: float = 0.0, **more: object) -> Facts:
    """What was seen ``passed`` seconds after the start."""
    wall = START + passed + jump
    return Facts(wall, passed, None if age is None else wall - age, **more)  # type: ignore[arg-type]


def healthy() -> Health:
    return at_start((), START, 0.0, SETTINGS)


def test_all_is_well() -> None:
    health = healthy()
    for passed in range(10, 500, 10):
        health = look(health, facts(passed, decided=True, outcomes=[outcome(Result.DONE)]), SETTINGS)
        assert health.sound


def test_stale_samples() -> None:
    assert look(healthy(), facts(10, age=30), SETTINGS).sound
    assert look(healthy(), facts(10, age=31), SETTINGS).fault == "the newest sample is 31 s old"


def test_no_sample_at_all_is_stale_too() -> None:
    assert look(healthy(), facts(20, age=None), SETTINGS).sound
    assert look(healthy(), facts(40, age=None), SETTINGS).fault == "the newest sample is 40 s old"


def test_a_clock_that_jumps() -> None:
    assert look(healthy(), facts(10, jump=29), SETTINGS).sound
    assert look(healthy(), facts(10, jump=3600), SETTINGS).fault == "the clock jumped by +3600 s"
    assert look(healthy(), facts(10, jump=-3600), SETTINGS).fault == "the clock jumped by -3600 s"


def test_failed_actions_in_a_row_but_not_refused_ones() -> None:
    health = look(healthy(), facts(10, outcomes=[outcome(Result.FAILED)] * 4), SETTINGS)
    health = look(health, facts(20, outcomes=[outcome(Result.REFUSED)] * 9), SETTINGS)
    assert health.sound
    assert look(health, facts(30, outcomes=[outcome(Result.FAILED)]), SETTINGS).fault == "5 actions in a row failed"
    health = look(health, facts(30, outcomes=[outcome(Result.DONE)]), SETTINGS)
    assert look(health, facts(40, outcomes=[outcome(Result.FAILED)] * 4), SETTINGS).sound


def test_cycles_that_cannot_be_decided() -> None:
    health = healthy()
    for passed in (10, 20):
        health = look(health, facts(passed, decided=False), SETTINGS)
        assert health.sound
    health = look(health, facts(30), SETTINGS)
    assert look(health, facts(40, decided=False), SETTINGS).fault == "3 cycles in a row could not be decided"


def test_recovery_after_a_time_without_a_fault() -> None:
    health = look(healthy(), facts(10, outcomes=[outcome(Result.FAILED)] * 5), SETTINGS)
    assert not look(health, facts(100, decided=True), SETTINGS).sound
    assert look(health, facts(110, decided=True), SETTINGS).sound
    again = look(health, facts(60, jump=500), SETTINGS)
    assert not look(again, facts(110, jump=500), SETTINGS).sound


def test_never_by_itself_if_the_operator_says_so() -> None:
    never = replace(SETTINGS, recover_seconds=0)
    health = look(healthy(), facts(10, jump=99), never)
    assert not look(health, facts(10_000, jump=99), never).sound


def test_a_daemon_that_crashes_again_and_again_starts_in_observe() -> None:
    crashes = (START - 3700, START - 3000, START - 600)
    assert at_start(crashes, START, 0.0, SETTINGS).sound
    health = at_start((*crashes, START), START, 0.0, SETTINGS)
    assert health.fault == "3 unclean ends within the hour"
    for passed in range(10, 600, 10):
        health = look(health, facts(passed, decided=True), SETTINGS)
        assert not health.sound
    assert look(health, facts(601, decided=True), SETTINGS).sound, "the oldest of the three left the hour"
