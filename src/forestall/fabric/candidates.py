"""Pairs of interfaces for which ways are planned: those that send, or will send, most between switches."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from forestall.fabric.measured import PairName, Traffic
from forestall.fabric.outlook import Outlook

SENT = "sent"
"""Series of the outlook that begin so are of interfaces, the others of pairs."""
LIKELY = 0.9
"""A pair counts for the quantile at this level of what it will send."""
NOTICEABLE_RATIO = 1e-4
"""A pair that fills no link by as much is not planned for."""
QUIET_BEATS = 60
"""For so many beats a pair is still planned for that sends nothing any more."""
KNOWN_WEIGHT = 2.0
"""A pair that is planned for makes room for another only if that sends so many times as much."""


class Candidates:
    """Chooses pairs, beat by beat; at most so many."""

    def __init__(self, most_pairs: int) -> None:
        self._most_pairs = most_pairs
        self._quiet: dict[PairName, int] = {}

    def chosen(
        self,
        traffic: Traffic,
        outlook: Outlook,
        at: Mapping[str, int],
        narrowest_bytes_per_s: float,
        known: Collection[PairName],
    ) -> list[PairName]:
        """The pairs, the largest first.

        Parameters
        ----------
        traffic
            What was sent of late.
        outlook
            What is foreseen.
        at
            Switch of each interface, by address.
        narrowest_bytes_per_s
            What the narrowest link carries.
        known
            Pairs that are planned for.
        """
        size = dict(traffic.pairs)
        for series, peak in outlook.peaks(LIKELY).items():
            if series[0] != SENT:
                size[series[0], series[1]] = max(peak, size.get((series[0], series[1]), 0.0))
        between = {
            pair: rate for pair, rate in size.items() if pair[0] in at and pair[1] in at and at[pair[0]] != at[pair[1]]
        }
        least = NOTICEABLE_RATIO * narrowest_bytes_per_s
        self._quiet = {
            pair: 0 if rate > least else self._quiet.get(pair, QUIET_BEATS) + 1 for pair, rate in between.items()
        }
        wanted = [pair for pair, quiet in self._quiet.items() if quiet <= QUIET_BEATS]
        ranked = sorted(wanted, key=lambda pair: (-between[pair] * (KNOWN_WEIGHT if pair in known else 1.0), pair))
        return ranked[: self._most_pairs]
