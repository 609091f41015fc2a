"""Services that never were: generated CPU use of pools of VMs, to learn from what services have in common.

Nobody has recordings of enough services at a hundredth of a second, and a model that was trained on three of them
knows three. So it is trained on a wide range of what services do: work that comes at random, in rhythm or in clusters
(renewal processes of many shapes), takes constant, variable or heavy-tailed time, is queued or not, runs quicker and
slower while something unseen shares the machine; a restless base; rare spikes; one service that works for another; and
cores that end. Each number is drawn anew for each service; the same seed gives the same worlds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy.signal import lfilter

from forestall.model.samples import Float32Array, FloatArray

FINE = 5
"""Windows in a beat."""


def _between(rng: Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def gaps(rng: Generator, count: int) -> FloatArray:
    """Times between the starts of works, beats."""
    mean, kind = _between(rng, 3, 160), rng.integers(6)
    if kind == 0:
        drawn = rng.exponential(mean, count)
    elif kind == 1:
        least = rng.uniform(0, 0.6)
        drawn = mean * rng.uniform(least, 2 - least, count)
    elif kind == 2:
        spread = rng.uniform(0.2, 1.2)
        drawn = mean * rng.lognormal(-spread * spread / 2, spread, count)
    elif kind == 3:
        shape = rng.uniform(1, 20)
        drawn = rng.gamma(shape, mean / shape, count)
    elif kind == 4:
        drawn = mean * (1 + rng.normal(0, rng.uniform(0.01, 0.1), count))
    else:
        soon = rng.random(count) < rng.uniform(0.2, 0.8)
        drawn = np.where(soon, rng.exponential(mean * 0.2, count), rng.exponential(mean * 2, count))
    return np.asarray(np.maximum(drawn, 0.3))


def works(rng: Generator, count: int) -> FloatArray:
    """How long works take at full speed, beats."""
    mean, kind = _between(rng, 0.6, 40), rng.integers(4)
    if kind == 0:
        drawn = np.full(count, mean)
    elif kind == 1:
        spread = rng.uniform(0.1, 1)
        drawn = mean * rng.lognormal(-spread * spread / 2, spread, count)
    elif kind == 2:
        drawn = mean * rng.uniform(0.2, 1.8, count)
    else:
        drawn = rng.exponential(mean, count)
    return np.asarray(np.maximum(drawn, 0.2))


def regimes(rng: Generator, length: int, low: float, high: float, dwell: float, kinds: int) -> FloatArray:
    """Levels (window,) that last for a while each; ``dwell`` in windows."""
    levels = np.exp(rng.uniform(np.log(low), np.log(high), kinds))
    result, at = np.empty(length), 0
    while at < length:
        lasts = int(rng.exponential(dwell)) + 20 * FINE
        result[at : at + lasts] = levels[rng.integers(kinds)]
        at += lasts
    return result


def on_and_off(rng: Generator, length: int, starts: FloatArray | None = None) -> FloatArray:
    """Use (window,) of a service that works now and then; ``starts`` (work,) in windows, else at random."""
    speed = np.ones(length)
    if rng.random() < 0.7:
        speed = regimes(rng, length, 0.4, 1.0, FINE * _between(rng, 30, 4000), int(rng.integers(1, 4)))
    load = regimes(rng, length, 0.4, 2.0, FINE * _between(rng, 400, 6000), int(rng.integers(1, 3)))
    gap, work = FINE * gaps(rng, length), FINE * works(rng, length)
    height, noise = rng.uniform(0.2, 1.0), rng.uniform(0.0, 0.25)
    apart = rng.uniform(0, 0.3) if rng.random() < 0.5 else 0.0
    conserves, queues = rng.random() < 0.6, rng.random() < 0.5
    own = np.maximum(0.1, 1 + apart * rng.normal(size=length))
    use = np.zeros(length)
    last, started = 0.0, 0.0
    for k in range(length if starts is None else len(starts)):
        begin = (last if queues else started) + gap[k] / load[int(started)] if starts is None else starts[k]
        begin = max(begin, last)
        if begin >= length - 1:
            break
        quick = speed[int(begin)] * own[k]
        end = min(begin + work[k] / (quick if conserves else 1.0), length - 1e-6)
        _fill(use, begin, end, height * quick)
        last, started = end, min(begin, length - 1.0)
    return np.asarray(np.maximum(use * (1 + noise * rng.normal(size=length)), 0.0))


def _fill(use: FloatArray, begin: float, end: float, height: float) -> None:
    """Add ``height`` from ``begin`` to ``end``, windows; the first and last in part."""
    first, last = int(begin), int(end)
    if first == last:
        use[first] += height * (end - begin)
        return
    use[first] += height * (first + 1 - begin)
    use[last] += height * (end - last)
    use[first + 1 : last] += height


def restless(rng: Generator, length: int) -> FloatArray:
    """Use (window,) that is never quite still, at levels that last."""
    level = regimes(rng, length, 0.3, 1.0, FINE * _between(rng, 200, 4000), int(rng.integers(1, 5)))
    memory = float(rng.choice([0.0, 0.3, 0.6, 0.9, 0.97, 0.995]))
    shape = _between(rng, 0.4, 30)
    noise = rng.gamma(shape, 1 / shape, length) - 1
    smooth = lfilter([np.sqrt(1 - memory * memory)], [1, -memory], noise)
    return np.asarray(np.maximum(level * rng.uniform(0.02, 0.5) * (1 + smooth), 0.0))


def spikes(rng: Generator, length: int) -> FloatArray:
    """Use (window,) of something that happens rarely and is over soon."""
    use, height = np.zeros(length), rng.uniform(0.2, 1)
    for at in np.flatnonzero(rng.random(length) < _between(rng, 0.0005, 0.03) / FINE):
        use[at : at + FINE * int(rng.integers(1, 5))] += height * rng.uniform(0.4, 1.2)
    return use


def rhythmic(rng: Generator, length: int) -> FloatArray:
    """Use (window,) that comes and goes in a rhythm."""
    period = FINE * _between(rng, 8, 400)
    phase = np.cumsum((1 + rng.normal(0, rng.choice([0, 0.05, 0.2]), length)) / period)
    kind = rng.integers(3)
    if kind == 0:
        wave = np.maximum(np.sin(2 * np.pi * phase), 0)
    elif kind == 1:
        wave = ((phase % 1) < rng.uniform(0.05, 0.6)).astype(float)
    else:
        wave = np.maximum(1 - (phase % 1) / rng.uniform(0.1, 1), 0)
    return rng.uniform(0.1, 0.8) * wave * np.maximum(1 + rng.uniform(0, 0.3) * rng.normal(size=length), 0)


def _mixture(rng: Generator, length: int) -> FloatArray:
    return 0.6 * on_and_off(rng, length) + 0.6 * on_and_off(rng, length)


_KINDS: tuple[tuple[float, Callable[[Generator, int], FloatArray]], ...] = (
    (0.50, on_and_off),
    (0.12, _mixture),
    (0.23, restless),
    (0.07, rhythmic),
    (0.08, spikes),
)


def service(rng: Generator, length: int) -> FloatArray:
    """Use (window,) of a service, cores."""
    chosen = rng.choice(len(_KINDS), p=[share for share, _ in _KINDS])
    use = _KINDS[chosen][1](rng, length)
    if rng.random() < 0.3:
        use = use + restless(rng, length) * rng.uniform(0.1, 1)
    if rng.random() < 0.35:
        use = use + spikes(rng, length)
    return np.asarray(np.minimum(use, rng.choice([1.0, 1.0, 2.0])) * rng.uniform(0.3, 1))


def follower(rng: Generator, leader: FloatArray) -> FloatArray:
    """Use (window,) of a service that works for another one, a little later."""
    on = leader > 0.3 * max(leader.max(), 1e-9)
    starts = np.flatnonzero(on[1:] & ~on[:-1]) + 1.0
    starts = starts[rng.random(len(starts)) < rng.uniform(0.5, 1)]
    late = FINE * rng.uniform(0, 4) * rng.random(len(starts))
    return on_and_off(rng, len(leader), np.sort(starts + late)) * rng.uniform(0.3, 1)


def pool(rng: Generator, vms: int, length: int) -> Float32Array:
    """Use (window, vm) of a pool of VMs, cores, in windows of a fifth of a beat."""
    use: list[FloatArray] = []
    while len(use) < vms:
        follows = bool(use) and rng.random() < 0.2
        use.append(follower(rng, use[-1]) if follows else service(rng, length))
    together = np.stack(use, axis=1) * np.exp(rng.normal(0, 0.5, vms))
    if rng.random() < 0.3:  # somebody unseen shares the machine
        together *= regimes(rng, length, 0.5, 1.0, FINE * _between(rng, 20, 3000), 3)[:, None]
    if rng.random() < 0.5:  # cores end
        total = together.sum(axis=1)
        most = _between(rng, 0.5, 1.2) * max(np.quantile(total, 0.99), 1e-3)
        together *= np.minimum(1.0, most / np.maximum(total, 1e-9))[:, None]
    return together.astype(np.float32)
