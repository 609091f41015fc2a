"""What an operator has said of trust groups while the system runs: who is in them, and whether they are staged for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class GroupTerms:
    """What holds for one trust group.

    Attributes
    ----------
    members
        Names of VMs that were put into it; more may be in it by the policy file.
    shadowing
        Whether memory is staged for its VMs.
    generation
        Which one of its name it is: another each time that it is made.
    horizon_seconds
        A page that is not touched within so long of being staged is given back; None: what the settings say.
    """

    members: tuple[str, ...] = ()
    shadowing: bool = False
    horizon_seconds: float | None = None
    generation: str = ""


class TrustBook(Protocol):
    """Keeps it, whatever happens to the process."""

    def read(self) -> Mapping[str, GroupTerms]:
        """Every group that something was said of, by name.

        Raises
        ------
        StoreError
            It cannot be read, or is damaged.
        """
        ...

    def write(self, groups: Mapping[str, GroupTerms]) -> None:
        """Replace everything; kept for good when this returns.

        Raises
        ------
        StoreError
            It could not be written; what was there before is untouched.
        """
        ...
