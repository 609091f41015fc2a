"""The result of a traffic replay: the values and arrays that the report and the summary are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forestall.fabric.network import Network
from forestall.model.samples import FloatArray
from forestall.replay.result import Variant
from forestall.replay.scores.traffic import TrafficScores


@dataclass(frozen=True)
class TrafficHeader:
    """What was replayed, by what, and what it took.

    Attributes
    ----------
    trace, digest, topology, topology_digest
        Name and SHA-256 of the trace, and of the topology.
    nodes, links, pairs, intervals, step_seconds
        Sizes; pairs are those that send something.
    start, evaluate_from, end
        First instant, first instant that is scored, and the end of the last interval, seconds UTC.
    policy
        The policy asked for first.
    longest_decision_seconds
        Of Forestall; NaN where it did not run.
    seed, version, command, wall_seconds, peak_memory_bytes, warnings
        To make it again, and what it took.
    """

    trace: str
    digest: str
    topology: str
    topology_digest: str
    nodes: int
    links: int
    pairs: int
    intervals: int
    step_seconds: int
    start: int
    evaluate_from: int
    end: int
    policy: str
    longest_decision_seconds: float
    seed: int
    version: str
    command: str
    wall_seconds: float
    peak_memory_bytes: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrafficPoint:
    """A policy."""

    policy: str
    variant: Variant
    scores: TrafficScores


@dataclass(frozen=True, eq=False)
class LinkUse:
    """How links are used at the busiest time.

    Attributes
    ----------
    network
        The links.
    use
        Utilisation of each link (link,), by policy: on average over the hundredth of intervals in which ECMP uses its
        worst link most.
    """

    network: Network
    use: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class TrafficResult:
    """The result of a whole replay.

    Attributes
    ----------
    header
        What was replayed.
    points
        Scores of all policies, in the order in which they were asked for.
    worst
        Utilisation of the worst link over the scored part, by policy: arrays (time,), NaN where nothing is known.
    links
        The network at its busiest.
    """

    header: TrafficHeader
    points: tuple[TrafficPoint, ...]
    worst: Mapping[str, FloatArray]
    links: LinkUse

    @property
    def headline(self) -> TrafficPoint:
        """The first policy's point."""
        return self.points[0]
