"""The rhythm of each VM in figures: how its variance is spread over periods, by Fourier and by wavelets.

Fourier energies say which periods a VM has over the week, wavelet energies on which scales it has moved lately; both
are shares of the variance, and none depends on how large a VM is.

Source: Mallat, *A Wavelet Tour of Signal Processing*, 3rd ed., 7 (Daubechies wavelets); pywavelets.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pywt

from forestall.model.samples import Float32Array, FloatArray

BAND_HOURS = (np.inf, 12.0, 4.0, 1.5, 0.0)
"""Edges of the bands of periods, longest first."""
WAVELET, LEVELS, LATELY_STEPS = "db2", 5, 512
SPECTRAL = len(BAND_HOURS) - 1 + LEVELS


def spectral_energies(samples: Float32Array, spectrum: FloatArray, step_seconds: int) -> Float32Array:
    """Shares of the variance (vm, energy): the bands of periods, longest first; then wavelet scales, longest first.

    Parameters
    ----------
    samples
        Array (time, vm), oldest first; gaps count as the mean.
    spectrum
        Power (frequency, vm) of ``samples``, from the lowest frequency to the highest.
    """
    size = max(2 * (len(spectrum) - 1), 1)
    with np.errstate(divide="ignore"):
        hours = size / np.arange(len(spectrum)) * step_seconds / 3_600
    bands = [((hours <= longest) & (hours > shortest))[:, None] for longest, shortest in pairwise(BAND_HOURS)]
    fourier = np.stack([(spectrum * band)[1:].sum(axis=0) for band in bands])
    known = np.isfinite(samples)
    mean = np.where(known, samples, 0.0).sum(axis=0, dtype=np.float64) / np.maximum(known.sum(axis=0), 1)
    lately = np.where(known, samples - mean, 0.0)[-LATELY_STEPS:]
    # What varies by less than float32 can hold is constant.
    lately *= np.abs(lately).max(axis=0, initial=0.0) > 4 * np.finfo(np.float32).eps * np.abs(mean)
    wavelets = np.zeros((LEVELS, samples.shape[1]))
    levels = min(LEVELS, pywt.dwt_max_level(len(lately), WAVELET))
    if levels > 0:
        details = pywt.wavedec(lately, WAVELET, mode="periodization", level=levels, axis=0)[1:]
        wavelets[-levels:] = [np.square(detail).sum(axis=0) for detail in details]
    return np.concatenate([_shares(fourier), _shares(wavelets)]).T.astype(np.float32)


def _shares(energy: FloatArray) -> FloatArray:
    total = energy.sum(axis=0)
    return np.asarray(energy / np.where(total > 0, total, 1.0))
