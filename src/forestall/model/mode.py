"""How far Forestall goes."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """How far Forestall goes.

    ``observe`` measures and predicts; ``advise`` decides and records, and changes nothing; ``canary`` acts on a share
    of the VMs and advises on the others; ``enforce`` acts on all.
    """

    OBSERVE = "observe"
    ADVISE = "advise"
    CANARY = "canary"
    ENFORCE = "enforce"

    @property
    def acts(self) -> bool:
        """Whether anything is changed on any VM."""
        return self in (Mode.CANARY, Mode.ENFORCE)
