"""The process of the fabric loop: turns it, wakes when something comes or goes, and answers on its control socket."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from typing import Any

from forestall.fabric import views
from forestall.fabric.driver import FabricDriver
from forestall.fabric.outlook import Outlook
from forestall.model.errors import ForestallError, WrongUse, in_one_line
from forestall.ports.fabric import Fabric
from forestall.service.stopping import Signals

LONGEST_WAIT_SECONDS, RESTLESS_SECONDS = 0.5, 1.0


def look_for_garbage_rarely() -> None:
    """Rules of a large network are many objects and none is garbage: to look at all takes longer than a plan."""
    gc.set_threshold(100_000, 20, 50)


class FabricLoop:
    """Runs a driver.

    Parameters
    ----------
    driver, fabric
        The loop, and what it works on.
    step_seconds
        Length of a cycle.
    monotonic
        Seconds.
    mode
        For the operator: whether switches are told anything.
    note
        Takes one line for the operator.
    """

    def __init__(
        self,
        driver: FabricDriver,
        fabric: Fabric,
        step_seconds: float,
        monotonic: Callable[[], float],
        mode: str,
        note: Callable[[str], None],
    ) -> None:
        self._driver, self._fabric, self._step_seconds = driver, fabric, step_seconds
        self._monotonic, self._mode, self._note = monotonic, mode, note
        self._turn = threading.RLock()
        self._said = ""

    def run(self, signals: Signals) -> None:
        """Turn until told to stop. Switches keep what they were told."""
        look_for_garbage_rarely()
        next_beat = self._monotonic() + min(self._step_seconds, 1.0)
        looked_at = float("-inf")
        while not signals.stopping:
            now = self._monotonic()
            changed = self._fabric.wait(min(max(next_beat - now, 0.0), LONGEST_WAIT_SECONDS))
            now = self._monotonic()
            restless = self._driver.restless and now - looked_at >= RESTLESS_SECONDS
            if now >= next_beat:
                next_beat = max(next_beat + self._step_seconds, now)
                self._do(self._driver.beat)
            elif changed or restless:
                self._do(self._driver.look)
            else:
                continue
            looked_at = now

    def _do(self, work: Callable[[], object]) -> None:
        try:
            with self._turn:
                work()
            self._said = ""
        except Exception as error:  # whatever it is: switches go on, and the next turn may do better
            if (said := in_one_line(error)) != self._said:
                self._note(said)
            self._said = said

    def take_over(self, outlook: Outlook) -> None:
        """Foresee by what was learned from the past; called by a thread of its own."""
        with self._turn:
            self._driver.take_over(outlook)
        self._note("what was seen before is learned")

    def answer(self, request: Mapping[str, Any]) -> Any:
        """Answer a request with plain values."""
        command = request.get("command")
        known: dict[Any, Callable[[Mapping[str, Any]], Any]] = {
            "fabric": self._show,
            "fabric-plan": self._plan,
            "fabric-apply": self._apply,
            "fabric-explain": self._explain,
            "fabric-withdraw": self._withdraw,
        }
        if command not in known:
            raise WrongUse(f"{command!r} is none of {', '.join(known)}")
        with self._turn:
            return known[command](request)

    def _show(self, request: Mapping[str, Any]) -> Any:
        return {"mode": self._mode, "said": self._said, **views.show(self._driver)}

    def _plan(self, request: Mapping[str, Any]) -> Any:
        return views.show_plan(self._driver, self._driver.plan())

    def _apply(self, request: Mapping[str, Any]) -> Any:
        plan = self._driver.plan()
        self._driver.carry_out(plan)
        return {**views.show_plan(self._driver, plan), "faults": dict(self._driver.faults)}

    def _explain(self, request: Mapping[str, Any]) -> Any:
        link = request.get("link")
        if not isinstance(link, str):
            raise WrongUse("fabric-explain wants a link")
        return views.explain(self._driver, link)

    def _withdraw(self, request: Mapping[str, Any]) -> Any:
        if self._mode != "advise":
            raise ForestallError("switches would be told again at once: set mode to advise, and start it anew")
        return {"removed": self._driver.withdraw()}
