"""Sequences of operations: what often follows is known, what it means for the next seconds too, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.profiling.rhythm import ECHOES
from forestall.profiling.sequences import HORIZONS, LONGEST_WAIT, Memory, Sequences, in_words

READ, WRITE, FORK, SEND = range(4)
NAMES = ("read", "write", "fork", "send")


def follow(steps: list[tuple[list[tuple[int, int]], float]], follower: Sequences | None = None) -> Sequences:
    """A guest that did these windows: operations with classes, and cores."""
    follower = follower or Sequences(4, 1)
    for operations, cores in steps:
        follower.step(operations, np.array([cores]))
    return follower


def job(length: int = 12, pause: int = 28) -> list[tuple[list[tuple[int, int]], float]]:
    """A fork, a core for a while, a write, and rest."""
    return [([(FORK, 1)], 0.1), *[([], 1.0)] * length, ([(WRITE, 4)], 0.1), *[([], 0.0)] * pause]


def test_what_follows_a_sequence_is_expected_when_it_begins_again() -> None:
    follower = follow(job() * 30)
    forked = follower.step([(FORK, 1)], np.array([0.1]))
    assert forked.expected[0, 0] == pytest.approx(1.0, abs=0.05)
    assert forked.soon[FORK] < 0.05
    assert forked.known[0] > 10
    for _ in range(9):
        near_the_end = follower.step([], np.array([1.0]))
    assert near_the_end.soon[WRITE] > 0.5
    written = follow(job()[10:14], follower).step([], np.array([0.0]))
    assert written.expected[0, 0] < 0.1


def test_a_sequence_of_two_steps_means_something_else_than_its_last_step_alone() -> None:
    """After read, fork comes load; after write, fork does not."""
    generator = np.random.default_rng(0)
    follower = Sequences(4, 1)
    quiet: list[tuple[list[tuple[int, int]], float]] = [([], 0.0)] * 20
    for _ in range(300):
        loaded = bool(generator.integers(2))
        first = READ if loaded else WRITE
        follow([([(first, 3)], 0.0), ([(FORK, 1)], 0.0), *[([], float(loaded))] * 6, *quiet], follower)
    expected = []
    for first in (READ, WRITE):
        follow(quiet, follower)
        follower.step([(first, 3)], np.zeros(1))
        expected.append(follower.step([(FORK, 1)], np.zeros(1)).expected[0, 0])
    assert expected[0] > 0.85
    assert expected[1] < 0.15


def test_nothing_is_known_before_anything_was_seen() -> None:
    first = Sequences(4, 2).step([(READ, 1)], np.zeros(2))
    assert np.isnan(first.expected).all()
    assert first.expected.shape == (len(HORIZONS), 2)
    assert first.soon.tolist() == [0.0] * 4
    assert first.known == (0.0, 0)


def test_what_is_done_in_every_window_does_not_stand_out() -> None:
    follower = follow([([(READ, 3), (SEND, 2)], 0.5)] * 300)
    usual = follower.step([(READ, 3), (SEND, 2)], np.array([0.5]))
    assert usual.ago[READ] > 5
    larger = follower.step([(READ, 5), (SEND, 2)], np.array([0.5]))
    assert (larger.ago[READ], larger.ago[SEND] > 5) == (0.0, True)


def test_how_long_ago_is_counted_in_doublings() -> None:
    follower = follow([([(FORK, 1)], 0.0), *[([], 0.0)] * 7])
    assert follower.step([], np.zeros(1)).ago[FORK] == pytest.approx(np.log2(9))
    never = follow([([], 0.0)] * 5000).step([], np.zeros(1))
    assert never.ago[FORK] == pytest.approx(LONGEST_WAIT, abs=0.01)


def test_what_recurs_at_an_interval_is_heard_ahead_through_whatever_else_happens() -> None:
    """A write each 51.2 windows, and reads and forks at random, so that no context tells when it comes."""
    generator = np.random.default_rng(2)
    beats = set(np.arange(0, 2000, 51.2).astype(int).tolist())
    follower = Sequences(4, 1)
    echoes = []
    for window in range(2000):
        operations = [(kind, 3) for kind in (READ, FORK) if generator.random() < 0.1]
        operations += [(WRITE, 3)] if window in beats else []
        echoes.append(follower.step(operations, np.zeros(1)).echo)
    assert echoes[0].shape == (len(ECHOES), 4)
    assert np.isnan(echoes[0]).all()
    ahead = np.array([any(later in beats for later in range(window + 1, window + 6)) for window in range(1000, 1990)])
    heard = np.array(echoes)[1000:1990, ECHOES.index(5), WRITE]
    assert heard[ahead].mean() > 0.8 / 5
    assert heard[~ahead].mean() < 0.1 / 5


def test_a_young_guest_borrows_from_its_group_and_from_no_other() -> None:
    group = Memory(4, 1)
    follow(job() * 30, Sequences(4, 1, group))
    begun = [([], 0.0)] * 30
    borrowed = follow(begun, Sequences(4, 1, group)).step([(FORK, 1)], np.array([0.1]))
    alone = follow(begun, Sequences(4, 1, Memory(4, 1))).step([(FORK, 1)], np.array([0.1]))
    assert borrowed.expected[0, 0] > 0.8
    assert not alone.expected[0, 0] > 0.2


def test_the_guest_forgets_habits_that_it_has_no_longer() -> None:
    follower = follow(job() * 60)
    idle_jobs = [([(FORK, 1)], 0.1), *[([], 0.0)] * 40]
    follow(idle_jobs * 120, follower)
    assert follower.step([(FORK, 1)], np.array([0.1])).expected[0, 0] < 0.45


def test_memory_is_bounded_whatever_a_guest_does() -> None:
    generator = np.random.default_rng(1)
    follower = Sequences(20, 1)
    sizes = []
    for _ in range(40):
        for _ in range(1000):
            count = generator.integers(0, 4)
            operations = [(int(k), int(generator.integers(1, 9))) for k in generator.integers(0, 20, count)]
            follower.step(operations, generator.random(1))
        sizes.append(len(follower.own))
    assert max(sizes) < 20_000
    assert max(sizes[20:]) < 1.3 * max(sizes[:20])


def test_common_sequences_are_told_in_words() -> None:
    follower = follow(job() * 40)
    words = [in_words(context, NAMES) for context, _ in follower.own.common(50)]
    assert "fork" in words
    assert any(text.startswith("fork, then write, then quiet for ") for text in words)
    assert in_words((0, (READ, WRITE)), NAMES) == "read with write"
    assert in_words((3, (READ,)), NAMES) == "read, then quiet for 0.4 s"
    assert in_words((0,), NAMES) == "nothing"
