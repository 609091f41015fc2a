"""Patterns: the same behaviour is the same pattern, another is another; what follows is known; memory is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.model.samples import Float32Array
from forestall.profiling.patterns import MOST_PATTERNS, STATE_FIELDS, Match, Patterns

NAMES = ("cpu_cores", "net_tx_bytes_per_s", "often_read", "cached_bytes", "cpu_wavelet_0")
IDLE = (0.02, 1e3, 0.1, 1e8, 0.2)
WEB = (0.8, 5e6, 0.9, 2e8, 0.4)
BACKUP = (0.5, 8e7, 1.0, 4e8, 0.1)


class Machine:
    """A VM that does one thing after the other, never quite the same."""

    def __init__(self) -> None:
        self.patterns, self.generator, self.at = Patterns(NAMES), np.random.default_rng(0), 0

    def vector(self, what: tuple[float, ...]) -> Float32Array:
        return (np.array(what) * self.generator.lognormal(0, 0.05, len(NAMES))).astype(np.float32)

    def do(self, what: tuple[float, ...], steps: int) -> list[Match]:
        matches = []
        for _ in range(steps):
            self.at += 10
            matches.append(self.patterns.step(self.vector(what), self.at))
        return matches


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    for _ in range(4):
        machine.do(IDLE, 20)
        machine.do(WEB, 10)
        machine.do(IDLE, 20)
        machine.do(BACKUP, 5)
    return machine


def number(matches: list[Match]) -> int:
    (one,) = {match.number for match in matches}
    return one


def test_the_same_behaviour_is_the_same_pattern_and_another_is_another(machine: Machine) -> None:
    idle, web, backup = (number(machine.do(what, 5)[1:]) for what in (IDLE, WEB, BACKUP))
    assert len({idle, web, backup}) == 3
    assert number(machine.do(IDLE, 3)) == idle
    assert machine.do(WEB, 1)[0].distance < 0.5


def test_what_usually_follows_and_how_long_it_lasts_is_known(machine: Machine) -> None:
    web = machine.do(WEB, 1)[0]
    idle = machine.do(IDLE, 3)[-1]
    assert web.following[0] == (idle.number, 1.0)
    assert web.usual_steps == pytest.approx(10, abs=1.5)
    assert idle.steps == 3
    shares = dict(idle.following)
    assert shares[web.number] == pytest.approx(0.5, abs=0.15)


def test_something_new_is_a_new_pattern(machine: Machine) -> None:
    before = len(machine.patterns)
    miner = machine.do((2.0, 2e4, 0.01, 1.1e8, 0.0), 1)[0]
    assert miner.seen == 0
    assert len(machine.patterns) == before + 1
    assert np.isnan(miner.usual_steps)


def test_features_that_are_not_known_do_not_count(machine: Machine) -> None:
    web = machine.do(WEB, 1)[0].number
    vector = machine.vector(WEB)
    vector[[1, 4]] = np.nan
    assert machine.patterns.step(vector, 99_999).number == web
    assert np.isfinite(machine.patterns.step(np.full(len(NAMES), np.nan, np.float32), 99_999).distance)


def test_patterns_are_kept_with_when_they_were_seen(machine: Machine) -> None:
    machine.do(IDLE, 1)
    at, vectors = machine.patterns.kept(0)
    assert len(set(at.tolist())) == len(at) == len(machine.patterns)
    assert vectors.shape == (len(at), len(NAMES) + len(STATE_FIELDS))
    newest, _ = machine.patterns.kept(machine.at)
    assert newest.tolist() == [machine.at]
    seen = vectors[:, len(NAMES) + 1]
    assert seen.sum() == pytest.approx(machine.at / 10)


def test_there_are_never_more_than_a_few() -> None:
    patterns, generator = Patterns(NAMES), np.random.default_rng(1)
    for n in range(3_000):
        match = patterns.step((10.0 ** generator.uniform(-3, 9, len(NAMES))).astype(np.float32), n)
        assert match.number >= 1
    assert len(patterns) <= MOST_PATTERNS
