"""Who sends how much to whom, where only totals are known: what each sends and receives altogether.

What is not known is filled in as if everybody sent to all others in proportion to what they receive (gravity), and
brought in line with the totals by scaling rows and columns in turn (iterative proportional fitting), which is the
matrix of largest entropy that agrees with them.

Sources: Zhang, Roughan, Duffield and Greenberg, Fast accurate computation of large-scale IP traffic matrices from link
loads, SIGMETRICS 2003; Deming and Stephan, On a least squares adjustment of a sampled frequency table, 1940.
"""

from __future__ import annotations

import numpy as np

from forestall.model.samples import FloatArray

ROUNDS, CLOSE = 50, 1e-6


def complete(sent: FloatArray, received: FloatArray, known: FloatArray) -> FloatArray:
    """A matrix (source, target) of bytes per second that agrees with what is known.

    Parameters
    ----------
    sent, received
        Arrays (node,): totals.
    known
        Array (source, target): what is known of single pairs, NaN elsewhere. Nobody sends to itself.
    """
    given = np.nan_to_num(known)
    open_ = np.isnan(known) & ~np.eye(len(sent), dtype=bool)
    rows = np.maximum(sent - given.sum(axis=1), 0.0)
    columns = np.maximum(received - given.sum(axis=0), 0.0)
    filled = np.where(open_, rows[:, None] * columns, 0.0)
    for _ in range(ROUNDS):
        filled *= _ratio(rows, filled.sum(axis=1))[:, None]
        ratio = _ratio(columns, filled.sum(axis=0))
        filled *= ratio
        if np.abs(filled.sum(axis=1) - rows).max(initial=0.0) <= CLOSE * max(rows.max(initial=0.0), 1.0):
            break
    return given + filled


def _ratio(wanted: FloatArray, found: FloatArray) -> FloatArray:
    return np.divide(wanted, found, out=np.zeros_like(wanted), where=found > 0.0)
