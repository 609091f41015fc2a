"""The prefetchers to compare with: each finds what it is for, none grows, none looks ahead."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forestall.replay.access.peers.base import SPACE_SHIFT, Prefetcher, run_prefetcher
from forestall.replay.access.peers.markov import Markov, ProbabilityGraph
from forestall.replay.access.peers.mithril import Mithril
from forestall.replay.access.peers.neighbours import neighbours
from forestall.replay.access.peers.registry import PEERS
from forestall.replay.access.peers.sequential import Amp, LinuxLike, Readahead
from forestall.replay.access.peers.stride import Leap, Stride, majority_trend
from forestall.replay.access.peers.table import Table
from forestall.replay.access.peers.temporal import Domino, Stms
from forestall.replay.access.peers.together import PerSpace, Together
from forestall.replay.access.prefetches import Prefetches
from forestall.replay.access.trace import AccessTrace, read_access_trace

SPATIAL = ["readahead_1", "readahead_4", "readahead_8", "linux_like", "stride", "leap", "amp"]
TEMPORAL = [name for name in PEERS if name not in (*SPATIAL, "none", "mithril") and not name.endswith("_linux")]


def trace(folder: Path, numbers: Sequence[int], vms: Sequence[str] = ("a",)) -> AccessTrace:
    """A trace of blocks with these numbers, the VMs in turn."""
    frame = pd.DataFrame({"sequence": np.arange(len(numbers)), "resource_id": np.array(numbers, np.uint64)})
    frame["vm_id"] = [vms[i % len(vms)] for i in range(len(numbers))]
    frame["resource_type"] = "block"
    path = folder / "access.parquet"
    frame.to_parquet(path)
    return read_access_trace(path, pytest.fail)


def ask(prefetcher: Prefetcher, keys: Iterable[int], hit: bool = False) -> list[list[int]]:
    """What it asks for after each of some accesses, of which all or none are hits."""
    return [list(prefetcher.access(key, hit)) for key in keys]


def scrambled(count: int, seed: int = 0) -> list[int]:
    """Different numbers of which none is near another."""
    return [1000 * number for number in random.Random(seed).sample(range(10, 10_000_000), count)]


def misses(of: AccessTrace, prefetcher: Prefetcher, cache_items: int, delay: int = 0) -> tuple[int, Prefetches]:
    """How often the cache misses with what a prefetcher asks for, and that; counted anew from the prefetches alone."""
    asked = run_prefetcher(of, prefetcher, cache_items, delay)
    arriving = deque(zip(asked.at.tolist(), asked.resource.tolist(), strict=True))
    cache: OrderedDict[int, None] = OrderedDict()
    missed = 0
    for i, number in enumerate(of.resource.tolist()):
        while arriving and arriving[0][0] + delay < i:
            cache.setdefault(arriving.popleft()[1])
            if len(cache) > cache_items:
                cache.popitem(last=False)
        missed += number not in cache
        cache[number] = None
        cache.move_to_end(number)
        if len(cache) > cache_items:
            cache.popitem(last=False)
    return missed, asked


def entries(thing: object, seen: set[int] | None = None) -> int:
    """How many values a prefetcher holds, wherever they are."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, int | str | float | None):
        return 1
    seen.add(id(thing))
    if isinstance(thing, dict):
        return sum(entries(key, seen) + entries(value, seen) for key, value in thing.items())
    if isinstance(thing, list | tuple | deque):
        return sum(entries(part, seen) for part in thing)
    names = [*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ())]
    return sum(entries(getattr(thing, name), seen) for name in names)


def test_what_is_in_the_cache_or_on_its_way_is_not_asked_for_again(tmp_path: Path) -> None:
    of = trace(tmp_path, [1, 2, 1, 3, 9, 1])
    asked = run_prefetcher(of, Readahead(2), 100, 0)
    assert list(zip(asked.at.tolist(), asked.resource.tolist(), strict=True)) == [
        (0, 3),
        (0, 2),
        (1, 4),
        (3, 5),
        (4, 11),
        (4, 10),
    ]
    late = run_prefetcher(of, Readahead(2), 100, 50)
    assert late.resource.tolist() == [3, 2, 4, 5, 11, 10]


@pytest.mark.parametrize("ahead", [1, 4, 8])
def test_readahead_asks_for_exactly_the_next(ahead: int) -> None:
    prefetcher = Readahead(ahead)
    assert ask(prefetcher, [70, 7]) == [list(range(70 + ahead, 70, -1)), list(range(7 + ahead, 7, -1))]


def test_neighbours_stay_in_their_space() -> None:
    last = (1 << SPACE_SHIFT) - 1
    assert list(neighbours(last - 2, 1, 8)) == [last, last - 1]
    assert list(neighbours(last, 1, 8)) == []
    assert list(neighbours((1 << SPACE_SHIFT) + 5, 1, 8, -2)) == [(1 << SPACE_SHIFT) + 1, (1 << SPACE_SHIFT) + 3]
    assert list(neighbours(10, 2, 3, -4)) == [2]


def test_linux_doubles_along_a_run_and_begins_anew_after_a_jump(tmp_path: Path) -> None:
    of = trace(tmp_path, [*range(100, 200), 5000, *range(9000, 9010)])
    asked = run_prefetcher(of, LinuxLike(), 1000, 0)
    sizes = [int((asked.at == at).sum()) for at in np.unique(asked.at)]
    assert sizes == [3, 8, 16, 32, 32, 32, 32, 3, 8, 16], "5000 alone asks for nothing"
    missed, _ = misses(of, LinuxLike(), 1000)
    assert missed == 5, "two at the begin of each run, and the jump"


def test_linux_asks_before_the_window_ends(tmp_path: Path) -> None:
    of = trace(tmp_path, range(100, 1100))
    assert misses(of, LinuxLike(), 1000, delay=16)[0] < 30


def test_amp_reaches_further_the_later_its_fetches_arrive(tmp_path: Path) -> None:
    of = trace(tmp_path, range(100, 2100))
    assert misses(of, Amp(0), 1000)[0] == 2
    assert misses(of, Amp(16), 1000, delay=16)[0] < 40
    assert misses(of, Amp(0), 1000, delay=16)[0] > 100, "it learns from what came late only if it knows how late"


def test_amp_asks_for_more_the_longer_a_run_goes_well() -> None:
    prefetcher = Amp()
    ask(prefetcher, [9, 10])
    sizes = [len(asked) for asked in ask(prefetcher, range(11, 200), hit=True) if asked]
    assert sizes[:4] == [5, 6, 7, 8]


def test_amp_asks_for_less_when_what_it_fetched_is_gone_before_use() -> None:
    kept, gone = Amp(), Amp()
    ask(kept, [9, 10])
    ask(gone, [9, 10])
    ask(kept, range(11, 15), hit=True)
    assert [len(asked) for asked in (list(kept.access(15, True)), ask(gone, range(11, 15))[-1])] == [0, 1]


def test_amp_asks_earlier_once_something_came_late() -> None:
    late, in_time = Amp(4), Amp(4)
    for prefetcher, hit in ((late, False), (in_time, True)):
        assert ask(prefetcher, [9, 10]) == [[], list(range(18, 10, -1))]
        ask(prefetcher, [11], hit=hit)
    assert [len(ask(prefetcher, [12, 13], hit=True)[-1]) for prefetcher in (late, in_time)] == [4, 0]


def test_stride_waits_for_the_second_equal_step_in_a_region() -> None:
    prefetcher = Stride()
    other = 1 << 30
    asked = ask(prefetcher, [10, other, 17, other + 90, 24, other + 33, 31, 40])
    assert asked == [[], [], [], [], [52, 45, 38, 31], [], [59, 52, 45, 38], []]


def test_majority_trend_looks_further_back_until_a_step_has_the_majority() -> None:
    assert majority_trend([7, 7, 1, 7, 9, 9, 9, 9]) == 7
    assert majority_trend([1, 7, 2, 7, 7, 7, 3, 7]) == 7
    assert majority_trend([1, 2, 1, 2, 3, 4, 1, 2]) == 0
    assert majority_trend([5]) == 5


def test_leap_finds_the_step_of_most_despite_noise() -> None:
    keys, at, noise = [], 100_000, random.Random(1)
    for i in range(600):
        at += 3 if i % 3 else noise.randrange(1000, 2000)
        keys.append(at)
    leap, stride = ask(Leap(), keys)[100:], ask(Stride(), keys)[100:]
    assert sum(following in asked for following, asked in zip(keys[101:], leap, strict=False)) > 160, "one of three"
    assert not any(following in asked for following, asked in zip(keys[101:], stride, strict=False))
    assert all((ahead - key) % 3 == 0 for key, asked in zip(keys[100:], leap, strict=True) for ahead in asked)


def test_leap_widens_with_what_is_useful_and_narrows_without() -> None:
    prefetcher = Leap()
    used = ask(prefetcher, range(0, 300, 3), hit=False)
    assert max(map(len, used)) == 1, "nothing was a hit"
    used = ask(prefetcher, range(300, 400, 3), hit=True)
    assert len(used[0]) == 2
    gone = ask(prefetcher, scrambled(6))
    assert len(gone[-1]) == 0


@pytest.mark.parametrize("name", TEMPORAL)
def test_a_loop_of_scrambled_numbers_is_learned(name: str, tmp_path: Path) -> None:
    of = trace(tmp_path, scrambled(300) * 4)
    assert misses(of, PEERS["none"].shipped(0), 100)[0] == 1200
    allowed = {"markov_2": 310, "markov_2_misses": 310}.get(name, 305)
    for _, factory in PEERS[name].knobs:
        assert misses(of, factory(0), 100)[0] <= allowed, "all but the first round"
        assert misses(of, factory(8), 100, delay=8)[0] < 400


@pytest.mark.parametrize("name", SPATIAL)
def test_neighbours_alone_do_not_help_with_scrambled_numbers(name: str, tmp_path: Path) -> None:
    of = trace(tmp_path, scrambled(300) * 4)
    assert misses(of, PEERS[name].shipped(0), 100)[0] >= 1195


def test_markov_asks_for_what_follows_often_enough() -> None:
    keys = [1, 2, 1, 2, 1, 2, 1, 3] * 10
    for threshold, wanted in ((0.1, [3, 2]), (0.3, [2]), (0.5, [2]), (0.8, [])):
        assert ask(Markov(1, "all", threshold), [*keys, 1])[-1] == wanted


def test_markov_of_order_two_tells_contexts_apart() -> None:
    keys = [1, 5, 2, 8, 3, 5, 4, 9] * 20
    assert ask(Markov(1, "all", 0.3), [*keys, 1, 5])[-1] in ([2, 4], [4, 2])
    assert ask(Markov(2, "all", 0.3), [*keys, 1, 5])[-1] == [2]


def test_markov_on_misses_passes_over_hits() -> None:
    on_misses, on_all = Markov(1, "misses", 0.3), Markov(1, "all", 0.3)
    for _ in range(5):
        for key, hit in ((1, False), (50, True), (2, False), (51, True)):
            asked = [list(prefetcher.access(key, hit)) for prefetcher in (on_misses, on_all)]
    assert asked == [[], [1]]
    assert [list(prefetcher.access(1, False)) for prefetcher in (on_misses, on_all)] == [[2], [50]]


def test_a_delay_shifts_what_is_counted() -> None:
    loop = scrambled(50)
    for prefetcher in (Markov(1, "all", 0.3, 3), Markov(2, "all", 0.3, 3)):
        assert ask(prefetcher, loop * 3)[-1] == [loop[3]]
    assert set(ask(ProbabilityGraph(5, 0.3, 3), loop * 3)[-1]) == set(loop[3:8])
    for temporal in (Stms(4, delay=3), Domino(4, delay=3)):
        ask(temporal, loop)
        assert list(temporal.access(loop[0], False)) == loop[7:3:-1]


def test_only_the_most_frequent_followers_are_kept() -> None:
    keys = [key for other in scrambled(300) for key in (1, other)]
    assert len(ask(Markov(1, "all", 0.0), [*keys, 1])[-1]) == 8
    assert len(ask(ProbabilityGraph(1, 0.0), [*keys, 1])[-1]) <= 32


def test_the_graph_counts_within_its_window_only() -> None:
    loop = scrambled(50)
    for window in (1, 5, 20):
        assert set(ask(ProbabilityGraph(window, 0.3), loop * 3)[-1]) == set(loop[:window])


def test_the_graph_finds_a_follower_among_noise() -> None:
    noise = random.Random(2)
    keys = [key for _ in range(50) for key in (1, noise.randrange(10**3, 10**9), noise.randrange(10**3, 10**9), 2)]
    assert ask(ProbabilityGraph(5, 0.3), [*keys, 1])[-1][-1] == 2
    assert 2 not in ask(ProbabilityGraph(2, 0.3), [*keys, 1])[-1]
    assert 2 not in ask(Markov(1, "all", 0.1), [*keys, 1])[-1]


def test_stms_replays_what_followed_the_last_time_and_goes_on() -> None:
    first = scrambled(20)
    prefetcher = Stms(4)
    ask(prefetcher, first)
    assert list(prefetcher.access(first[0], False)) == first[4:0:-1]
    assert ask(prefetcher, first[1:4], hit=True) == [[first[5]], [first[6]], [first[7]]]


@pytest.mark.parametrize("kind", [Stms, Domino])
@pytest.mark.parametrize("recorded", [41, 47, 60])
def test_a_history_that_is_full_replays_as_well(kind: type[Stms], recorded: int) -> None:
    loop = scrambled(40)
    asked = ask(kind(8, recorded=recorded), loop * 9)
    assert asked[200:] == [[loop[(i + 8) % 40]] for i in range(200, 360)]


def test_domino_tells_apart_what_one_key_confuses() -> None:
    a, b = [1, 50, *scrambled(8, 1)], [2, 50, *scrambled(8, 2)]
    domino, stms = Domino(4), Stms(4)
    for prefetcher in (domino, stms):
        ask(prefetcher, [*a, *b, 1])
    assert list(domino.access(50, False)) == [a[5]], "one more of what it asked for after 1"
    assert list(stms.access(50, False)) == b[5:1:-1], "one key knows its last time alone"
    assert ask(Domino(4), [*a, *b, 777, 50])[-1] == b[5:1:-1], "two that never met: by one"


def test_mithril_finds_pairs_that_are_far_apart(tmp_path: Path) -> None:
    noise = iter(scrambled(60_000, 3))
    pairs = [(next(noise), next(noise)) for _ in range(400)]
    numbers: list[int] = []
    for _ in range(6):
        for first, second in pairs:
            numbers += [first, *(next(noise) for _ in range(8)), second, *(next(noise) for _ in range(8))]
    of, seconds = trace(tmp_path, numbers), {second for _, second in pairs}
    found = {}
    for name in ("mithril", "markov_1", "markov_2"):
        _, asked = misses(of, PEERS[name].shipped(0), 200)
        found[name] = len(seconds & set(asked.resource.tolist()))
    assert found["mithril"] > 250
    assert found["markov_1"] == found["markov_2"] == 0


def test_mithril_leaves_what_misses_often_alone() -> None:
    prefetcher, fresh = Mithril(rows=50), iter(scrambled(10_000, 4))
    for _ in range(300):
        ask(prefetcher, [1, 2, *(next(fresh) for _ in range(3))])
    ask(prefetcher, [key for key in scrambled(200, 5) for _ in range(2)])
    assert ask(prefetcher, [1]) == [[]]


def test_mithril_asks_for_a_few_and_learns_from_misses_alone() -> None:
    together = scrambled(10, 7)
    for hit, wanted in ((False, 3), (True, 0)):
        prefetcher = Mithril(rows=10)
        ask(prefetcher, together * 2, hit)
        assert len(list(prefetcher.access(together[0], hit))) == wanted


def test_together_asks_for_what_any_of_them_does() -> None:
    assert ask(Together(Readahead(1), Stride()), [10, 20, 30]) == [[11], [21], [31, 70, 60, 50, 40]]
    assert ask(Together(), [10, 20]) == [[], []]


def test_each_space_has_a_prefetcher_of_its_own() -> None:
    other = 1 << SPACE_SHIFT
    asked = ask(PerSpace(Leap, 0), [5, other, 8, other + 70, 11, other + 71, 14])
    assert asked[-1] == [17]


def test_a_table_forgets_what_was_not_put_for_longest() -> None:
    table: Table[int, int] = Table(2)
    for key in (1, 2, 1, 3):
        table.put(key, key)
    assert list(table) == [1, 3]
    table.put_each((3, 1, 4), 0)
    assert list(table.items()) == [(1, 0), (4, 0)]


@pytest.mark.parametrize("small", [
    lambda: Markov(1, "all", 0.3, contexts=500),
    lambda: Markov(2, "misses", 0.3, contexts=500),
    lambda: ProbabilityGraph(5, 0.3, contexts=500),
    lambda: Stms(8, recorded=500),
    lambda: Domino(8, recorded=500),
    lambda: Mithril(keys=500),
])  # fmt: skip
def test_memory_stops_growing(small: Callable[[], Prefetcher]) -> None:
    prefetcher = small()
    keys = [key for key in scrambled(9000) for _ in range(2)]
    held = []
    for part in (keys[:6000], keys[6000:]):
        ask(prefetcher, part)
        held.append(entries(prefetcher))
    assert held[1] <= held[0] * 1.1


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_memory_is_bounded_as_shipped(name: str) -> None:
    held = []
    prefetcher = PEERS[name].shipped(0)
    for i in range(330_000):
        for _ in prefetcher.access(1000 * i, False):
            pass
        if i in (300_000, 329_999):
            held.append(entries(prefetcher))
    assert held[1] <= held[0] * 1.01


@pytest.mark.parametrize("name", PEERS)
def test_the_same_every_time_and_the_past_alone(name: str, tmp_path: Path) -> None:
    loop, noise = scrambled(400), random.Random(6)
    numbers = [key for key in loop * 6 for key in (key, noise.choice(loop))]
    numbers[200:200] = [key // 2 for key in range(10**9, 10**9 + 200)]
    whole = trace(tmp_path, numbers, ("a", "b"))
    early = trace(tmp_path, numbers[:1500], ("a", "b"))
    for _, factory in PEERS[name].knobs:
        asked = run_prefetcher(whole, factory(4), 60, 4)
        again, cut = run_prefetcher(whole, factory(4), 60, 4), run_prefetcher(early, factory(4), 60, 4)
        assert asked.at.tobytes() == again.at.tobytes()
        assert asked.resource.tobytes() == again.resource.tobytes()
        assert asked.resource[asked.at < 1500].tobytes() == cut.resource.tobytes()
        assert (len(asked) > 0) == (name != "none")
        assert name == "none" or set(asked.space.tolist()) == {0, 1}


@pytest.mark.parametrize("name", PEERS)
def test_what_is_shipped_is_one_of_the_knobs(name: str) -> None:
    peer = PEERS[name]
    assert peer.name == name
    assert peer.shipped in [factory for _, factory in peer.knobs]
    assert len({label for label, _ in peer.knobs}) == len(peer.knobs)
    assert peer.shipped(0) is not peer.shipped(0)


def test_numbers_at_the_end_of_a_space_do_not_reach_into_another(tmp_path: Path) -> None:
    last = 2**64 - 1
    numbers = [*range(last - 40, last + 1), *range(40, -1, -1), *range(0, 90, 3)]
    of = trace(tmp_path, numbers)
    for peer in PEERS.values():
        asked = run_prefetcher(of, peer.shipped(4), 60, 4)
        assert not asked.space.any()
