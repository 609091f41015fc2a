from __future__ import annotations

import numpy as np
import pytest

from forestall.burst.core import COLD_BEATS, BurstCycle, BurstLoop
from forestall.burst.settings import BEAT_US, BurstSettings, beats_of
from forestall.learning.peaks.model import LEVELS, PeakModel
from forestall.model.errors import WrongUse

CORES, WINDOW = 4.0, 4


def services(seed: int, beats: int, vms: int = 3) -> np.ndarray:
    """Use (beat, vm) of services that work now and then."""
    rng = np.random.default_rng(seed)
    use = np.zeros((beats, vms))
    for vm in range(vms):
        at = 0
        while at < beats:
            at += int(rng.uniform(5, 40))
            lasts = int(rng.uniform(2, 20))
            use[at : at + lasts, vm] = rng.uniform(0.5, 0.6)
            at += lasts
    return use + 0.05 * rng.random((beats, vms))


def run(
    use: np.ndarray, settings: BurstSettings, model: PeakModel | None = None, frame: np.ndarray | None = None
) -> tuple[list[BurstCycle], np.ndarray]:
    """Decisions, and the highest use (decision, vm and the pool last) of the windows that they were for."""
    loop, cycles, peaks = BurstLoop(settings, model), [], []
    for k, beat in enumerate(use):
        loop.take_in(beat, beat, float(beat.sum()))
        loop.learn()
        if (k + 1) % settings.window_beats == 0 and k + settings.window_beats < len(use):
            cycles.append(loop.decide(np.full(len(beat), settings.cores) if frame is None else frame))
            ahead = use[k + 1 : k + 1 + settings.window_beats]
            peaks.append(np.append(ahead.max(axis=0), ahead.sum(axis=1).max()))
    return cycles, np.array(peaks)


@pytest.mark.parametrize("model", [None, "shipped"], ids=["without the network", "with it"])
def test_the_promise_is_kept_and_less_than_the_highest_is_reserved(model: str | None) -> None:
    settings = BurstSettings(CORES, budgets=(0.1, 0.05, 0.02))
    cycles, peaks = run(services(0, 8000), settings, PeakModel.shipped() if model else None)
    scored = slice(len(cycles) // 4, None)
    total = np.array([cycle.total for cycle in cycles])[scored]
    short = (peaks[scored, -1:] > total).mean(axis=0)
    np.testing.assert_allclose(short, settings.budgets, rtol=0.35)
    assert (np.diff(total.mean(axis=0)) > 0).all()  # a stricter promise costs more
    assert total.mean(axis=0)[-1] < 0.95 * peaks[:, -1].max()


def test_alone_each_vm_has_its_own_promise() -> None:
    settings = BurstSettings(CORES, budgets=(0.05,), pooled=False)
    cycles, peaks = run(services(1, 8000), settings)
    scored = slice(len(cycles) // 4, None)
    reserved = np.array([cycle.reserved[0] for cycle in cycles])[scored]
    short = (peaks[scored, :-1] > reserved).mean(axis=0)
    np.testing.assert_allclose(short, 0.05, atol=0.02)


def test_one_reservation_for_all_is_less_than_one_for_each() -> None:
    use = services(2, 4000, vms=6)
    shared, _ = run(use, BurstSettings(20.0))
    alone, _ = run(use, BurstSettings(20.0, pooled=False))
    half = len(shared) // 2
    assert np.mean([c.total for c in shared[half:]]) < 0.8 * np.mean([c.total for c in alone[half:]])


def test_what_is_reserved_for_all_is_written_to_each_and_adds_up() -> None:
    cycles, _ = run(services(3, 600), BurstSettings(CORES))
    for cycle in cycles:
        assert cycle.reserved.sum() == pytest.approx(cycle.total[0])
        assert (cycle.reserved >= 0).all()


@pytest.mark.parametrize("pooled", [True, False], ids=["one for all", "one for each"])
def test_nothing_is_reserved_beyond_the_frame_or_the_host(pooled: bool) -> None:
    use = services(4, 2000, vms=8)
    frame = np.full(8, 0.4)
    for cores in (1.0, 10.0):
        cycles, _ = run(use, BurstSettings(cores, pooled=pooled), frame=frame)
        for cycle in cycles:
            assert cycle.total[0] <= min(cores, frame.sum()) + 1e-9
            assert pooled or (cycle.reserved[0] <= frame + 1e-9).all()


def test_a_host_that_is_too_small_has_a_price_and_the_heavier_vm_keeps_more() -> None:
    use = np.tile(services(5, 3000, vms=1), (1, 2))
    loop = BurstLoop(BurstSettings(0.8, pooled=False), None)
    for k, beat in enumerate(use):
        loop.take_in(beat, beat, float(beat.sum()))
        loop.learn()
        if (k + 1) % WINDOW == 0:
            cycle = loop.decide(np.full(2, 1.0), np.array([1.0, 4.0]))
    assert cycle.price[0] > 0
    assert 0.79 < cycle.total[0] <= 0.8
    assert cycle.reserved[0, 1] > 1.1 * cycle.reserved[0, 0]


def test_who_is_new_has_its_frame_reserved() -> None:
    loop = BurstLoop(BurstSettings(CORES, pooled=False), None)
    for _ in range(COLD_BEATS + 300):
        loop.take_in(np.array([0.1]), np.array([0.1]), 0.1)
        loop.learn()
    settled = loop.decide(np.array([2.0])).reserved[0, 0]
    loop.take_in(np.array([0.1, 0.1]), np.array([0.1, 0.1]), 0.2)
    old, new = loop.decide(np.array([2.0, 1.5])).reserved[0]
    assert settled < 0.2
    assert old < 0.2
    assert new == 1.5


def test_who_leaves_takes_nothing_along() -> None:
    use = services(6, 2000) * [1.0, 0.5, 0.25]
    loop = BurstLoop(BurstSettings(CORES, pooled=False), None)
    for k, beat in enumerate(use):
        loop.take_in(beat, beat, float(beat.sum()))
        loop.learn()
        if (k + 1) % WINDOW == 0:
            before = loop.decide(np.full(3, 1.0))
    loop.keep(np.array([0, 2]))
    after = loop.decide(np.full(2, 1.0))
    assert loop.vms == 2
    np.testing.assert_allclose(after.reserved[0], before.reserved[0, [0, 2]], rtol=0.4)


def test_the_first_horizon_is_the_window_and_the_usual_ones_follow() -> None:
    assert BurstSettings(1.0).horizons == (4, 10, 20)
    assert BurstSettings(1.0, window_beats=10).horizons == (10, 4, 20)
    assert BurstSettings(1.0, beat_us=20_000, window_beats=5).horizons == (5, 12, 25)


@pytest.mark.parametrize(
    ("window_ms", "trace_ms", "beats"), [(100, 25, 1), (100, 10, 2), (100, 5, 5), (250, 10, 1), (90, 15, 1), (30, 5, 3)]
)
def test_a_beat_is_a_part_of_a_window_and_no_longer_than_it_may_be(window_ms: int, trace_ms: int, beats: int) -> None:
    found = beats_of(window_ms * 1000, trace_ms * 1000)
    assert (window_ms // trace_ms) % found == 0
    assert found * trace_ms * 1000 <= BEAT_US
    assert found == beats


@pytest.mark.parametrize("wrong", [{"cores": 0.0}, {"cores": 1.0, "window_beats": 0}, {"cores": 1.0, "beat_us": 0}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(WrongUse):
        BurstSettings(**wrong)  # type: ignore[arg-type]


def test_the_forecast_is_there_for_everybody() -> None:
    cycles, _ = run(services(7, 400), BurstSettings(CORES), PeakModel.shipped())
    assert cycles[-1].quantiles.shape == (3, 4, len(LEVELS))
    assert np.isfinite(cycles[-1].quantiles).all()
    assert (np.diff(cycles[-1].quantiles, axis=-1) >= 0).all()
