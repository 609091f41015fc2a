r"""The period of each VM, found from its data: FFT proposes, autocorrelation confirms.

The periodogram :math:`|X(f)|^2` of the mean-removed window proposes the periods of its highest peaks; a period
counts only if the autocorrelation at that lag is high and the lag lies on a hill of the autocorrelation
(AUTOPERIOD: Vlachos, Yu, Castelli, "On Periodicity Detection and Structural Periodic Similarity", SDM 2005).
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from forestall.model.samples import Float32Array, FloatArray, IntArray
from forestall.profiling.spectra import SPECTRAL, spectral_energies
from forestall.profiling.window import Window, retained

CANDIDATES = 6
MIN_CORRELATION = 0.3
MIN_REPEATS = 2


class Periods:
    """The period of each VM, and its spectrum in figures; once a day, a share of the fleet at every hour.

    Attributes
    ----------
    period
        Steps (vm,); 0 where no period is confirmed.
    energies
        Array (vm, energy); see :func:`~forestall.profiling.spectra.spectral_energies`. 0 before it is known.
    """

    def __init__(self) -> None:
        self.period: IntArray = np.zeros(0, np.int64)
        self.energies: Float32Array = np.zeros((0, SPECTRAL), np.float32)

    def observe(self, window: Window) -> None:
        """Look for the period of the VMs whose turn it is."""
        new = window.vms - len(self.period)
        self.period = np.pad(self.period, (0, new))
        self.energies = np.pad(self.energies, ((0, new), (0, 0)))
        hours, rest = divmod(window.count, window.hour)
        if hours < 4 or rest:
            return
        turn = np.flatnonzero(np.arange(window.vms) % 24 == hours % 24)
        if len(turn):
            samples = window.tail(window.capacity)[:, turn]
            spectrum, correlation = autocorrelation(samples)
            self.period[turn] = confirmed_period(spectrum, correlation)
            self.energies[turn] = spectral_energies(samples, spectrum, window.step_seconds)

    def keep(self, rows: IntArray) -> None:
        """Forget the periods of all VMs but those of ``rows``."""
        self.period, self.energies = retained(self.period, rows, 0), retained(self.energies, rows, 0)

    def or_a_day(self, window: Window) -> IntArray:
        """The period (vm,), a day where none is confirmed."""
        return np.where(self.period > 0, self.period, window.day)


def autocorrelation(samples: Float32Array) -> tuple[FloatArray, FloatArray]:
    """Power spectrum (frequency, vm) and circular-free autocorrelation (lag, vm) of ``samples`` (time, vm).

    Gaps count as the mean, a constant series has autocorrelation zero.
    """
    steps = len(samples)
    present = ~np.isnan(samples)
    count = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, samples, 0.0).sum(axis=0, dtype=np.float64) / count
    centred = np.where(present, samples - mean, 0.0)
    spectrum = np.abs(fft.rfft(centred, n=2 * fft.next_fast_len(steps), axis=0)) ** 2
    raw = fft.irfft(spectrum, axis=0)[:steps]
    overlap = np.arange(steps, 0, -1)[:, None] / steps
    # What varies by less than float32 can hold is constant.
    varies = raw[0] > count * (mean * np.finfo(np.float32).eps) ** 2
    power = np.where(varies, raw[0], 1.0)
    return spectrum, np.where(varies, raw / power / overlap, 0.0)


def find_period(samples: Float32Array, shortest: int = 3) -> IntArray:
    """Dominant confirmed period (vm,), in steps, of ``samples`` (time, vm); see :func:`confirmed_period`."""
    return confirmed_period(*autocorrelation(samples), shortest)


def confirmed_period(spectrum: FloatArray, correlation: FloatArray, shortest: int = 3) -> IntArray:
    """Dominant confirmed period (vm,), in steps; 0 where there is none.

    A period must fit into the window ``MIN_REPEATS`` times and be at least ``shortest`` steps. ``spectrum`` and
    ``correlation`` are what :func:`autocorrelation` gives.
    """
    steps, vms = correlation.shape
    longest = steps // MIN_REPEATS
    if longest < shortest or vms == 0:
        return np.zeros(vms, np.int64)
    size = 2 * (len(spectrum) - 1)
    lowest, highest = -(-size // longest), size // shortest
    band = spectrum[lowest : highest + 1]
    chosen = np.argsort(band, axis=0)[::-1][:CANDIDATES] + lowest
    best = np.zeros(vms, np.int64)
    strength = np.full(vms, MIN_CORRELATION)
    for row in chosen:
        lag = _hill_top(correlation, np.rint(size / row).astype(np.int64), longest)
        height = np.take_along_axis(correlation, lag[None], axis=0)[0]
        better = (height > strength) & (lag >= shortest)
        best, strength = np.where(better, lag, best), np.where(better, height, strength)
    return best


def _hill_top(correlation: FloatArray, lag: IntArray, longest: int) -> IntArray:
    """Climb from ``lag`` (vm,) to the nearest local maximum of the autocorrelation; 0 if it slopes away."""
    reach = np.maximum(lag // 10, 1)
    offsets = np.arange(-int(reach.max()), int(reach.max()) + 1)
    around = np.clip(lag[None, :] + offsets[:, None], 1, longest)
    inside = np.abs(offsets)[:, None] <= reach[None, :]
    heights = np.where(inside, np.take_along_axis(correlation, around, axis=0), -np.inf)
    top = np.take_along_axis(around, heights.argmax(axis=0)[None], axis=0)[0]
    neighbours = np.stack([np.clip(top - 1, 0, longest), np.clip(top + 1, 0, len(correlation) - 1)])
    is_hill = np.take_along_axis(correlation, top[None], axis=0)[0] >= np.take_along_axis(
        correlation, neighbours, axis=0
    ).max(axis=0)
    return np.where(is_hill, top, 0)
