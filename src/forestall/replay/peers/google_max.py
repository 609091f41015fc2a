"""``google_max``: the larger of N-sigma and the RC-like percentile, Google's peak predictor.

    a(t + k) = max( mean + N * sd of the last 2 h,  P of the last 24 h ),   N = 5, P = P99

The knob is N; P moves with it on the normal curve, so that P99 belongs to N = 5. Source: Bashir et al., Take it
to the limit: peak prediction-driven resource overcommitment in datacenters, EuroSys 2021,
https://doi.org/10.1145/3447786.3456259 (there for a machine, here for each VM).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from forestall.model.samples import FloatArray
from forestall.replay.peers.base import Allocate, SeriesBlock
from forestall.replay.peers.nsigma import SHIPPED_DEVIATIONS, NSigma
from forestall.replay.peers.rc_like import SHIPPED_PERCENTILE, RcLike


class GoogleMax:
    """Maximum of two predictors."""

    name = "google_max"
    shipped = SHIPPED_DEVIATIONS
    knobs: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 25.0, 50.0)

    def prepare(self, block: SeriesBlock) -> Allocate:
        """Prepare both."""
        by_deviations, by_percentile = NSigma().prepare(block), RcLike().prepare(block)
        normal = float(norm.ppf(SHIPPED_PERCENTILE)) / SHIPPED_DEVIATIONS

        def allocate(count: float) -> FloatArray:
            percentile = float(norm.cdf(count * normal))
            return np.fmax(by_deviations(count), by_percentile(percentile))

        return allocate
