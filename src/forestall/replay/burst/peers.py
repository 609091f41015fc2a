"""Policies to compare with: one series at a time, strictly causal, one knob each.

====================  =====================================================================================
``fixed``             so many cores, always
``last_peak``         the peak of the last decision window, times a margin
``last_max_10``       the highest of the last 10, times a margin; ``last_max_40`` of the last 40
``ewma``              exponentially weighted mean of the peaks plus k deviations
``rolling_quantile``  a quantile of the peaks of the last 200 windows
``conformal_max``     the highest of the last 10, moved by adaptive conformal inference (Gibbs & Candès, 2021)
``smartharvest``      an online cost-sensitive classifier over classes of cores (Wang et al., EuroSys 2021)
``online_quantile``   linear quantile regression by stochastic gradient on the same features
``oracle``            the peak itself, but for the highest ones, as many as the budget (the knob) allows
====================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from forestall.model.samples import FloatArray
from forestall.replay.burst.windows import Windows

Grant = Callable[[float], FloatArray]
"""From a knob to grants (decision, series) for the decision windows and the one that follows."""
CLASSES = 20
EWMA_RATE = 0.1
ROLLING_WINDOWS, LEAST_WINDOWS = 200, 5
GRADIENT_RATE = 0.05
CONFORMAL_RATE = 0.01


@dataclass(frozen=True)
class BurstPeer:
    """A policy: its knob as shipped, knobs from tight to generous, and how it is prepared."""

    name: str
    shipped: float
    knobs: tuple[float, ...]
    prepare: Callable[[Windows], Grant]


def _after(decided: FloatArray, first: float) -> FloatArray:
    """What was decided after each window, in force in the next; ``first`` while nothing is known."""
    return np.concatenate([np.full((1, decided.shape[1]), first), decided])


def _fixed(windows: Windows) -> Grant:
    shape = (len(windows.use) + 1, windows.use.shape[2])
    return lambda share: np.full(shape, share * windows.cores)


def _last_max(count: int) -> Callable[[Windows], Grant]:
    def prepare(windows: Windows) -> Grant:
        highest = pd.DataFrame(windows.peak).rolling(count, min_periods=1).max().to_numpy()
        return lambda margin: _after(highest * (1.0 + margin), windows.cores)

    return prepare


def _ewma(windows: Windows) -> Grant:
    smooth = pd.DataFrame(windows.peak).ewm(alpha=EWMA_RATE)
    mean, deviation = smooth.mean().to_numpy(), smooth.std().fillna(0.0).to_numpy()
    return lambda k: _after(mean + k * deviation, windows.cores)


def _rolling_quantile(windows: Windows) -> Grant:
    rolling = pd.DataFrame(windows.peak).rolling(ROLLING_WINDOWS, min_periods=LEAST_WINDOWS)

    def grant(level: float) -> FloatArray:
        return _after(rolling.quantile(level).fillna(windows.cores).to_numpy(), windows.cores)

    return grant


def _conformal_max(windows: Windows) -> Grant:
    highest = pd.DataFrame(windows.peak).rolling(10, min_periods=1).max().to_numpy()
    peak = windows.peak

    def grant(budget: float) -> FloatArray:
        above, decided = np.zeros(peak.shape[1]), np.empty_like(peak)
        for i in range(len(peak)):
            if i:
                missed = peak[i] > decided[i - 1]
                above += CONFORMAL_RATE * windows.cores * np.where(missed, 1.0 - budget, -budget)
            decided[i] = highest[i] + above
        return _after(np.maximum(decided, 0.0), windows.cores)

    return grant


def _features(windows: Windows) -> FloatArray:
    """SmartHarvest's features (decision, series, feature) of each window: least, highest, mean, deviation, median."""
    use, count = windows.use, windows.use.shape[1]
    # Sums in the order of time, so that not a bit depends on how many series stand beside one.
    mean = use.cumsum(axis=1)[:, -1] / count
    deviation = np.sqrt(((use - mean[:, None]) ** 2).cumsum(axis=1)[:, -1] / count)
    of = [use.min(axis=1), use.max(axis=1), mean, deviation, np.median(use, axis=1)]
    return np.stack([*of, np.ones_like(of[0])], axis=-1)


def _smartharvest(windows: Windows) -> Grant:
    features, peak = _features(windows), windows.peak
    step = windows.cores / CLASSES
    classes = step * np.arange(1, CLASSES + 1)

    def grant(penalty: float) -> FloatArray:
        weight = np.zeros((peak.shape[1], features.shape[2], CLASSES))
        decided = np.empty_like(peak)
        for i, x in enumerate(features):
            if i:
                before = features[i - 1]
                short = np.maximum(peak[i][:, None] - classes, 0.0)
                idle = np.maximum(classes - peak[i][:, None], 0.0)
                cost = np.where(short > 0, penalty * (1.0 + short / step), idle / step)
                said = np.einsum("sf,sfc->sc", before, weight)
                norm = (before**2).sum(axis=1)[:, None, None]
                weight += 0.1 * before[:, :, None] * (cost - said)[:, None, :] / norm
            decided[i] = classes[np.einsum("sf,sfc->sc", x, weight).argmin(axis=1)]
        return _after(decided, windows.cores)

    return grant


def _online_quantile(windows: Windows) -> Grant:
    features, peak = _features(windows), windows.peak

    def grant(level: float) -> FloatArray:
        weight, decided = np.zeros((peak.shape[1], features.shape[2])), np.empty_like(peak)
        weight[:, 1] = 1.0
        for i, x in enumerate(features):
            if i:
                before = features[i - 1]
                said = (before * weight).sum(axis=1)
                weight += GRADIENT_RATE * before * (level - (peak[i] <= said))[:, None]
            decided[i] = (x * weight).sum(axis=1)
        return _after(np.maximum(decided, 0.0), windows.cores)

    return grant


def _oracle(windows: Windows) -> Grant:
    peak = windows.peak

    def grant(budget: float) -> FloatArray:
        scored = peak[windows.first :]
        spared = int(budget * len(scored))
        known = np.concatenate([peak, np.full((1, peak.shape[1]), windows.cores)])
        for s in range(peak.shape[1] if spared else 0):
            known[windows.first + np.argsort(-scored[:, s])[:spared], s] = 0.0
        return known

    return grant


_MARGINS = (-0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
_LEVELS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.985, 0.99, 0.993, 0.995, 0.998, 1.0)
_SHARES = tuple(float(share) for share in np.round(np.arange(0.02, 1.001, 0.01), 2))
_COSTS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0)

PEERS: dict[str, BurstPeer] = {
    peer.name: peer
    for peer in (
        BurstPeer("fixed", 0.5, _SHARES, _fixed),
        BurstPeer("last_peak", 0.2, _MARGINS, _last_max(1)),
        BurstPeer("last_max_10", 0.0, _MARGINS, _last_max(10)),
        BurstPeer("last_max_40", 0.0, _MARGINS, _last_max(40)),
        BurstPeer("ewma", 3.0, (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0), _ewma),
        BurstPeer("rolling_quantile", 0.99, _LEVELS, _rolling_quantile),
        BurstPeer("conformal_max", 0.01, tuple(round(1 - level, 4) for level in _LEVELS), _conformal_max),
        BurstPeer("smartharvest", 8.0, _COSTS, _smartharvest),
        BurstPeer("online_quantile", 0.99, _LEVELS, _online_quantile),
        BurstPeer("oracle", 0.0, (0.0, 0.005, 0.01, 0.02, 0.05, 0.1), _oracle),
    )
}
"""Every peer by its name, in the order of reports."""
