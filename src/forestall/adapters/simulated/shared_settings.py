"""What is set on simulated VMs, in a file: it outlives the process that set it, as on a real host.

The file is JSON: ``{"start": seconds, "amounts": {"vm-1": {"cpu": 1.5}}}``. Whoever changes it holds a lock meanwhile.
This module knows nothing of traces, so that a watchdog can put simulated VMs back without reading one.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from forestall.model.decision import Action, Outcome, Result
from forestall.model.errors import HypervisorError
from forestall.model.resources import Resource
from forestall.ports.hypervisor import VmSettings

Amounts = dict[str, dict[str, float]]


@dataclass
class Content:
    """Content of the file: when the trace started to be played, seconds, and what actions have set, by VM."""

    start: float | None = None
    amounts: Amounts = field(default_factory=dict)


class SharedSettings:
    """The file.

    Parameters
    ----------
    path
        Made at the first change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Content:
        """What is set; nothing where there is no file."""
        try:
            found = json.loads(self.path.read_text("utf-8"))
            return Content(found["start"], found["amounts"])
        except FileNotFoundError:
            return Content()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HypervisorError(f"{self.path}: what is set on the simulated VMs cannot be read: {error}") from error

    @contextmanager
    def changing(self) -> Iterator[Content]:
        """Content that is written when the block is left; others wait meanwhile."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                content = self.read()
                yield content
                aside = self.path.with_suffix(".tmp")
                aside.write_text(json.dumps({"start": content.start, "amounts": content.amounts}), "utf-8")
                os.replace(aside, self.path)
        except OSError as error:
            raise HypervisorError(f"{self.path}: {error.strerror}") from error

    def put_back(self, settings: VmSettings) -> list[Outcome]:
        """Set a VM as it was; see :meth:`forestall.ports.hypervisor.Hypervisor.put_back`."""
        before = {name: float(amount) for name, amount in settings.values["amounts"].items()}
        with self.changing() as content:
            now = content.amounts.pop(settings.vm_id, {})
            if before:
                content.amounts[settings.vm_id] = before
        changed = [name for name in now.keys() | before.keys() if now.get(name) != before.get(name)]
        return [
            Outcome(Action(settings.vm_id, Resource(name), before.get(name, float("nan"))), Result.DONE, None)
            for name in sorted(changed)
        ]

    def close(self) -> None:
        """Nothing to let go of."""
