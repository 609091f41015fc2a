"""How the fabric loop is set."""

from __future__ import annotations

from dataclasses import dataclass, field

from forestall.fabric.planner import PlannerSettings


@dataclass(frozen=True)
class FabricSettings:
    """What is done in the network.

    Attributes
    ----------
    step_seconds
        Every so often traffic is read and ways are planned.
    most_pairs
        Ways are planned for so many pairs of interfaces, those that send most; the others are split equally.
    link_bytes_per_s
        What a link carries whose ports do not say it; 0: as they say.
    queues
        Whether ports between switches, and to VMs, get a queue for each class.
    limits
        Whether VMs are held to what they are allotted.
    listens
        Whether neighbours are listened for: where no file says how switches are connected.
    drain_seconds
        So long after a change what is on its way by the old rules may take to arrive.
    planner
        How ways are planned.
    """

    step_seconds: float = 10.0
    most_pairs: int = 1_000
    link_bytes_per_s: float = 0.0
    queues: bool = True
    limits: bool = False
    listens: bool = True
    drain_seconds: float = 0.05
    planner: PlannerSettings = field(default_factory=PlannerSettings)
