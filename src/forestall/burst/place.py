"""What the demand loop and the policy say of a VM whose cores are watched."""

from __future__ import annotations

from dataclasses import dataclass

from forestall.ports.cores import Guest


@dataclass(frozen=True)
class Place:
    """A VM's place among the others.

    Attributes
    ----------
    guest
        The VM and its part.
    frame_cores
        The most that it may have.
    weight
        Its weight among lenders, or among borrowers.
    acting
        Whether a borrower may be touched; else what would be done is only shown.
    """

    guest: Guest
    frame_cores: float
    weight: float = 1.0
    acting: bool = True
