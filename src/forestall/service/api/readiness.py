"""Whether the daemon behind the API is ready, for whoever asks: so it is asked seldom, and told in few words."""

from __future__ import annotations

import asyncio
import time

from forestall.model.errors import ForestallError
from forestall.service.api.site import Asking

HOLDS_SECONDS = 1.0


class Readiness:
    """Asks the daemon once a second at most, one at a time.

    Parameters
    ----------
    asking
        Asks it.
    """

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._turn = asyncio.Lock()
        self._known: tuple[float, str] | None = None

    async def why_not(self) -> str:
        """Why it is not ready; empty where it is."""
        async with self._turn:
            if self._known is None or time.monotonic() - self._known[0] > HOLDS_SECONDS:
                why = await asyncio.to_thread(self._look)
                self._known = time.monotonic(), why
            return self._known[1]

    def _look(self) -> str:
        try:
            status = self._asking({"command": "status"})
        except ForestallError:
            return "the daemon does not answer"
        if status is None:
            return "no daemon runs"
        if status["lost"]:
            return "contact with the hypervisor is lost"
        return "a fault holds" if status["fault"] else "" if status["cycles"] else "no cycle yet"
