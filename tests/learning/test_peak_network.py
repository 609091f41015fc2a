"""The network of peaks: its graph, what pools are to it, and the worlds that it learns from."""

from __future__ import annotations

import numpy as np
import pytest

from forestall.learning.peaks.beats import FEATURES, Beats
from forestall.learning.peaks.model import HORIZON_BEATS, LEVELS, PeakModel, ServedPeaks
from forestall.learning.peaks.recurrent import RecurrentPeaks
from forestall.learning.training.worlds import FINE, pool
from forestall.model.errors import BadInput

BEATS = 600


def use(seed: int, vms: int, beats: int = BEATS) -> np.ndarray:
    """Mean use (beat, vm) of generated VMs."""
    fine = pool(np.random.default_rng(seed), vms, beats * FINE)
    return fine.reshape(beats, FINE, vms).mean(axis=1).astype(np.float64)


def forecasts(vms: np.ndarray, model: PeakModel | None = None, horizons: tuple[int, ...] = HORIZON_BEATS) -> np.ndarray:
    """Quantiles (beat, horizon, row, level) of a pool, row 0, and its VMs."""
    rows = np.concatenate([vms.sum(axis=1, keepdims=True), vms], axis=1)
    walk, expert = Beats(), RecurrentPeaks(model or PeakModel.shipped(), horizons)
    walk.grow(rows.shape[1])
    expert.grow(rows.shape[1])
    said = []
    for now in rows:
        expert.take_in(walk.step(now, now)[None], walk.scale)
        said.append(expert.forecast())
    return np.stack(said)


@pytest.mark.slow
def test_the_graph_computes_what_was_trained() -> None:
    torch = pytest.importorskip("torch")
    from forestall.learning.training.peaks import PeakNetwork, seen

    torch.manual_seed(0)
    network = PeakNetwork()
    network.settle()
    vms = use(0, 3, 80)
    rows = np.concatenate([vms.sum(axis=1, keepdims=True), vms], axis=1)
    worlds = seen(rows, rows, np.array([3]))
    with torch.no_grad():
        own, shared, _ = network(worlds.inputs, worlds.ratio, worlds.member)
    served = ServedPeaks(PeakModel(network.graph(), {}))
    state = served.fresh_state(4)
    for t in range(80):
        said, of_pool, state = served.walk(
            worlds.inputs[t : t + 1].numpy(), state, worlds.ratio[t].numpy(), worlds.member.numpy()
        )
        np.testing.assert_allclose(said.reshape(4, -1), own[t].numpy(), rtol=2e-3, atol=1e-4)
        np.testing.assert_allclose(of_pool.reshape(1, -1), shared[t].numpy(), rtol=2e-3, atol=1e-4)


@pytest.mark.slow
def test_training_lowers_the_loss_and_repeats_itself() -> None:
    pytest.importorskip("torch")
    from forestall.learning.training.peaks import PeakFit, fit_peaks

    told: list[tuple[float, float]] = []
    settings = PeakFit(updates=50, pools=3, most_vms=3, beats=300, chunk=150, unseen=60)
    for _ in range(2):
        fit_peaks(settings, lambda update, seconds, of_vms, of_pools, network: told.append((of_vms, of_pools)))
    assert told[0] == told[1]
    few = PeakFit(**{**settings.__dict__, "updates": 50, "learning_rate": 0.0})
    fit_peaks(few, lambda update, seconds, of_vms, of_pools, network: told.append((of_vms, of_pools)))
    assert told[0][0] < 0.8 * told[2][0]
    assert told[0][1] < 0.8 * told[2][1]


def test_quantiles_do_not_cross() -> None:
    said = forecasts(use(1, 3))
    assert said.shape == (BEATS, len(HORIZON_BEATS), 4, len(LEVELS))
    assert (np.diff(said, axis=-1) >= 0).all()
    assert (said >= 0).all()


def test_further_ahead_the_peak_is_higher() -> None:
    said = forecasts(use(2, 4))[200:]
    middle = said[..., LEVELS.index(0.9)].mean(axis=(0, 2))
    assert middle[0] < middle[1] < middle[2]
    between = forecasts(use(2, 4), horizons=(4, 6, 10))[200:, ..., LEVELS.index(0.9)].mean(axis=(0, 2))
    assert between[0] < between[1] < between[2]


def test_the_order_of_vms_says_nothing() -> None:
    vms = use(3, 4)
    there, back = forecasts(vms), forecasts(vms[:, ::-1])
    np.testing.assert_allclose(there[:, :, 0], back[:, :, 0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(there[:, :, 1:], back[:, :, :0:-1], rtol=1e-3, atol=1e-5)


def test_no_unit_matters() -> None:
    vms = use(4, 3) + 0.1
    np.testing.assert_allclose(8 * forecasts(vms)[300:], forecasts(8 * vms)[300:], rtol=0.02, atol=1e-3)


def test_on_worlds_that_it_has_not_seen_quantiles_mean_what_they_say() -> None:
    above, count = np.zeros(len(LEVELS)), 0
    for seed in range(1000, 1040):
        vms = use(seed, 1 + seed % 5, 1200)
        total, said = vms.sum(axis=1), forecasts(vms)[:, 0, 0]
        coming = np.lib.stride_tricks.sliding_window_view(total, HORIZON_BEATS[0]).max(axis=1)[1:]
        chosen = slice(300, len(coming), HORIZON_BEATS[0])
        above += (coming[chosen, None] > said[: len(coming)][chosen]).sum(axis=0)
        count += len(coming[chosen])
    np.testing.assert_allclose(above / count, 1 - np.asarray(LEVELS), atol=0.08)
    high = [LEVELS.index(level) for level in (0.9, 0.95, 0.98, 0.99)]
    np.testing.assert_allclose(above[high] / count, 1 - np.asarray(LEVELS)[high], rtol=0.5)


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(BadInput, match="not an ONNX model"):
        ServedPeaks(PeakModel(b"nothing", {}))


def test_worlds_are_of_many_kinds_and_repeat_themselves() -> None:
    np.testing.assert_array_equal(use(7, 3), use(7, 3))
    worlds = [use(seed, 2) for seed in range(40)]
    idle = np.array([(world < 1e-9).mean() for world in worlds])
    assert (idle < 0.05).any()
    assert (idle > 0.5).any()
    assert all((world >= 0).all() and np.isfinite(world).all() for world in worlds)
    assert FEATURES == 12
