"""The decision core of staging: what it finds, what it leaves alone, and that nothing depends on how it is fed."""

from __future__ import annotations

import numpy as np
import pytest
from fake_accesses import SMALL, looping, misses, removed, runs, scrambled, staged
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from forestall.model.errors import WrongUse
from forestall.staging.loop import StagingLoop
from forestall.staging.settings import NEVER, StagingSettings


@pytest.mark.parametrize("delay", [0, 16])
def test_a_loop_of_scrambled_items_is_found(delay: int) -> None:
    rng = np.random.default_rng(5)
    number = looping(rng, 12_000, 600, noise=0.02)
    assert misses(number, 100)[3000:].mean() > 0.95, "too long for the cache alone"
    assert removed(number, 100, delay, first=3000) > (0.9 if delay == 0 else 0.85)


@pytest.mark.parametrize("delay", [0, 8])
@pytest.mark.parametrize("step", [1, -1, 7])
def test_runs_are_found_where_nobody_has_been(step: int, delay: int) -> None:
    rng = np.random.default_rng(5)
    number = runs(rng, 12_000, 32, step)
    hopeless = (3 + delay) / 32 if step != 1 else (1 + delay) / 32  # a run must begin before one can see it
    assert removed(number, 200, delay, first=3000) > 0.9 * (1 - hopeless)


def test_runs_that_are_interleaved_are_found() -> None:
    rng = np.random.default_rng(5)
    many = [runs(np.random.default_rng(seed), 4000, 200) for seed in range(4)]
    turn = rng.integers(0, 4, 12_000)
    taken = [iter(each.tolist()) for each in many]
    number = np.array([next(taken[k]) for k in turn])
    assert removed(number, 200, first=3000) > 0.9


@pytest.mark.parametrize("in_turn", [True, False])
def test_runs_of_many_streams_arrive_in_time(in_turn: bool) -> None:
    """Eight streams read runs at once: each goes on after eight accesses, so that two of its steps are delay enough."""
    rng = np.random.default_rng(5)
    stream = np.arange(16_000) % 8 if in_turn else rng.integers(0, 8, 16_000)
    taken = [iter(runs(np.random.default_rng(seed), 4000).tolist()) for seed in range(8)]
    number = np.array([next(taken[k]) for k in stream])
    asked = staged(number, StagingSettings(500, 16, **SMALL), stream, stream)
    assert misses(number, 500, asked, 16)[4000:].mean() < 0.25


def test_streams_are_told_apart() -> None:
    """Two programs go round long walks over few items; how they take turns is random."""
    rng = np.random.default_rng(2)
    walks = [np.tile(rng.choice(scrambled(rng, 80), 1000), 12) for _ in range(2)]
    stream = rng.integers(0, 2, 20_000)
    number = np.zeros(20_000, np.int64)
    for k in range(2):
        number[stream == k] = walks[k][: (stream == k).sum()]
    share = {}
    for name, streams in (("apart", stream), ("as one", np.zeros_like(stream))):
        asked = staged(number, StagingSettings(20, **SMALL), streams)
        share[name] = misses(number, 20, asked)[8000:].mean()
    assert share["apart"] < 0.25
    assert share["apart"] < 0.6 * share["as one"]


def test_the_same_number_in_another_space_is_another_item() -> None:
    rng = np.random.default_rng(5)
    number = np.tile(scrambled(rng, 400), 20)
    space = np.arange(len(number)) // 400 % 2
    asked = staged(number, StagingSettings(64, **SMALL), space, space)
    assert len(asked.number)
    # What is asked for in a space was used in it before.
    seen: set[tuple[int, int]] = set()
    used = list(zip(space.tolist(), number.tolist(), strict=True))
    at = 0
    for access, where, what in zip(asked.access.tolist(), asked.space.tolist(), asked.number.tolist(), strict=True):
        seen.update(used[at : access + 1])
        at = access + 1
        near = any((where, what - step) in seen for step in range(1, 18))
        assert (where, what) in seen or near


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), capacity=st.sampled_from([20, 100, 400]), delay=st.sampled_from([0, 16]))
def test_what_cannot_be_foreseen_is_left_alone(seed: int, capacity: int, delay: int) -> None:
    """Never worse than a plain cache by more than .2 points of hit ratio: random use, by popularity."""
    rng = np.random.default_rng(seed)
    number = scrambled(rng, 3000)[np.minimum(rng.zipf(1.3, 20_000), 3000) - 1]
    asked = staged(number, StagingSettings(capacity, delay, **SMALL))
    ours, plain = misses(number, capacity, asked, delay), misses(number, capacity)
    assert ours.mean() <= plain.mean() + 0.002


def test_nothing_is_learned_from_how_items_are_numbered() -> None:
    """Numbers in the order of first use give the future away, if one looks; scrambled again the figure is the same."""
    rng = np.random.default_rng(8)
    number = looping(rng, 15_000, 900, noise=0.05)
    shares = []
    for seed in (1, 2):
        names = scrambled(np.random.default_rng(seed), len(np.unique(number)))
        shares.append(removed(names[np.unique(number, return_inverse=True)[1]], 100, first=3000))
    assert abs(shares[0] - shares[1]) < 0.01


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 3000), max_size=5), delay=st.sampled_from([0, 5]))
def test_it_does_not_matter_in_how_many_pieces_accesses_come(seed: int, cuts: list[int], delay: int) -> None:
    number = looping(np.random.default_rng(seed), 3000, 250, noise=0.1)
    whole = staged(number, StagingSettings(40, delay, **SMALL))
    loop, found, nothing = StagingLoop(StagingSettings(40, delay, **SMALL)), [], np.zeros(3000, np.int32)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 3000], strict=True):
        part = slice(start, end)
        asked = loop.take_in(nothing[part], nothing[part], number[part])
        found += list(
            zip((asked.access + start).tolist(), asked.number.tolist(), asked.probability.tolist(), strict=True)
        )
    assert found == list(zip(whole.access.tolist(), whole.number.tolist(), whole.probability.tolist(), strict=True))


def test_the_shelf_that_is_there_is_what_the_cache_would_hold() -> None:
    rng = np.random.default_rng(5)
    number = looping(rng, 20_000, 700, noise=0.1)
    nothing = np.zeros(len(number), np.int32)
    for delay in (0, 16):
        loop = StagingLoop(StagingSettings(80, delay, **SMALL))
        asked = loop.take_in(nothing, nothing, number)
        missed = misses(number, 80, asked, delay)
        counts = loop.counts
        assert counts.accesses == len(number)
        assert counts.misses == missed.sum()
        assert counts.hits + counts.wasted <= counts.staged
        assert len(asked.number) >= counts.staged > 0


def test_what_is_stated_is_what_comes() -> None:
    """Of what is asked for with a probability, that share is used within the horizon."""
    number = looping(np.random.default_rng(4), 40_000, 1200, noise=0.3)
    asked = staged(number, StagingSettings(400, threshold=0.05, **SMALL))
    late = asked.access > 10_000
    position: dict[int, list[int]] = {}
    for i, key in enumerate(number.tolist()):
        position.setdefault(key, []).append(i)
    came = np.array(
        [
            any(i < p <= i + 64 for p in position.get(key, ()))
            for i, key in zip(asked.access.tolist(), asked.number.tolist(), strict=True)
        ]
    )
    assert late.sum() > 1000
    assert abs(asked.probability[late].mean() - came[late].mean()) < 0.08


def test_a_threshold_that_is_asked_for_is_kept() -> None:
    rng = np.random.default_rng(5)
    number = looping(rng, 10_000, 500, noise=0.3)
    few, many = (staged(number, StagingSettings(100, threshold=p, **SMALL)) for p in (0.8, 0.1))
    assert few.probability.min() > 0.8
    assert many.probability.min() > 0.1
    assert 0 < len(few.number) < len(many.number)


def test_it_shuts_itself_off_where_it_does_harm() -> None:
    """A loop, and then the same items at random: what followed once is still probable enough, and pushes others out."""
    rng = np.random.default_rng(9)
    loop_of = looping(rng, 20_000, 500)
    popular = loop_of[np.minimum(rng.zipf(1.5, 60_000), 500) - 1]
    number = np.concatenate([loop_of, popular])
    nothing = np.zeros(len(number), np.int32)
    loop = StagingLoop(StagingSettings(100, threshold=0.02, memory_accesses=2000, **SMALL))
    loop.take_in(nothing[:20_000], nothing[:20_000], number[:20_000])
    assert loop.threshold == 0.02
    assert loop.costs[0.02] < 0.2 * loop.costs[NEVER]
    asked = loop.take_in(nothing[20_000:], nothing[20_000:], number[20_000:])
    assert loop.threshold == NEVER
    assert loop.costs[0.02] > loop.costs[NEVER]
    assert (asked.access > 30_000).sum() < 0.15 * 50_000


def test_memory_is_bounded_and_old_items_are_forgotten() -> None:
    """A hundred times more items than slots: nothing grows, and what is near is still found."""
    rng = np.random.default_rng(1)
    loop = StagingLoop(StagingSettings(64, **SMALL))
    before = loop.memory_bytes
    nothing = np.zeros(50_000, np.int32)
    for _ in range(10):
        loop.take_in(nothing, nothing, rng.integers(0, 1 << 60, 50_000))
    number = looping(rng, 10_000, 300)
    asked = loop.take_in(nothing[:10_000], nothing[:10_000], number)
    assert loop.memory_bytes == before < 20e6
    assert misses(number, 64, asked)[3000:].mean() < 0.1


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"cache_items": 0}, "a cache of 0 items: must be at least 1"),
        ({"cache_items": 9, "delay": -1}, "an arrival delay of -1 accesses: must not be negative"),
        ({"cache_items": 9, "threshold": 1.5}, "a threshold of 1.5: must be between 0 and 1"),
        ({"cache_items": 9, "history": 1000}, "a history of 1000 accesses: must be a power of two"),
        ({"cache_items": 9, "history": 0}, "a history of 0 accesses: must be a power of two"),
        ({"cache_items": 9, "reach": 64}, "a reach of 64 steps: must be from 1 to 63"),
        ({"cache_items": 9, "streams": 0}, "0 streams: must be at least 1"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, float], text: str) -> None:
    with pytest.raises(WrongUse, match=text):
        StagingSettings(**wrong)  # type: ignore[arg-type]


def one_stream(number: NDArray[np.int64], **more: float) -> StagingLoop:
    """A loop over one stream of one space."""
    loop = StagingLoop(StagingSettings(**({"cache_items": 4096} | SMALL | more)))  # type: ignore[arg-type]
    nothing = np.zeros(len(number), np.int32)
    loop.take_in(nothing, nothing, number)
    return loop


def test_what_is_held_can_be_lost_and_is_asked_for_again() -> None:
    rng = np.random.default_rng(3)
    program = scrambled(rng, 300)
    loop, nothing = one_stream(np.tile(program, 2)), np.zeros(300, np.int32)
    assert loop.holds(nothing, program).all()
    assert not loop.holds(nothing + 1, program).any()
    _, number = loop.held()
    assert sorted(number.tolist()) == sorted(program.tolist())
    asked = loop.take_in(nothing, nothing, program)
    assert len(asked.number) == 0  # all of it is there
    for _ in range(3):
        loop.lose(*loop.held())
        assert not loop.holds(nothing, program).any()
        assert len(loop.held()[1]) == 0
        asked = loop.take_in(nothing, nothing, program)
    assert len(set(asked.number.tolist()) & set(program.tolist())) > 200


def test_what_is_not_used_in_time_goes_again() -> None:
    rng = np.random.default_rng(4)
    program, others = scrambled(rng, 300), scrambled(rng, 600) + (1 << 40)
    nothing = np.zeros(300, np.int32)
    for keep in (None, 64):
        loop = one_stream(np.tile(program, 1), keep=keep, threshold=0.1)
        for _ in range(3):
            loop.lose(*loop.held())
            loop.take_in(nothing, nothing, program)
        loop.lose(*loop.held())
        loop.take_in(nothing[:20], nothing[:20], program[:20])
        staged_ahead = loop.holds(nothing[:10], program[20:30])
        assert staged_ahead.any()
        loop.take_in(np.zeros(600, np.int32), np.zeros(600, np.int32), others)
        assert loop.holds(nothing[:10], program[20:30]).any() == (keep is None)


def test_staging_that_costs_too_much_is_not_done() -> None:
    """Of what follows an item one of two comes at random: right every other time at best."""
    rng = np.random.default_rng(6)
    pairs = scrambled(rng, 2000).reshape(1000, 2)
    number = np.concatenate([pairs[np.arange(1000), rng.integers(0, 2, 1000)] for _ in range(8)])
    cheap, dear = (one_stream(number, cache_items=50, stage_cost=cost, memory_accesses=1000) for cost in (0.05, 0.9))
    assert cheap.counts.staged > 1000
    assert dear.counts.staged < 0.2 * cheap.counts.staged
