"""Where on the host the bytes of a VM's disks lie; asked in the background, now and then anew."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forestall.adapters.qemu.extents import Extents, extents_of
from forestall.adapters.qemu.trace_log import Traced
from forestall.model.errors import HypervisorError
from forestall.ports.blocks import DiskFile, Requests

SHARE = 0.01
"""Of the time one disk's places are asked for; who takes long is asked more seldom."""


class Image(NamedTuple):
    """What a disk lies in: path and format, and whether no other VM has it."""

    path: str
    image_format: str
    alone: bool


class Asker:
    """Asks for the extents of images, one after the other, in a thread that ends with the process."""

    def __init__(self, ask: Callable[[str, str, bool], Extents] = extents_of) -> None:
        self.ask = ask
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._started = False

    def soon(self, job: Callable[[], None]) -> None:
        """Have something done when it is its turn."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._work, name="extents", daemon=True).start()
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            self._jobs.get()()


class DiskPlaces:
    """The places of one VM's disks.

    Parameters
    ----------
    images
        By target.
    asker
        Tells where.
    files
        Filled with the files that are found; none changes its place.
    """

    def __init__(self, images: Mapping[str, Image], asker: Asker, files: list[DiskFile]) -> None:
        self._images, self._asker, self._files = images, asker, files
        self._extents: dict[str, Extents] = {}
        self._failed: dict[str, HypervisorError] = {}
        self._asked_for = 0
        self._due_at = 0.0
        for target, image in images.items():
            if image.image_format == "raw":
                self._extents[target] = asker.ask(*image)
        self.look_again()

    def look_again(self) -> None:
        """Have it asked anew, in the background, unless that was so long ago as it deserves.

        Raises
        ------
        HypervisorError
            Of no disk it is known where it lies, and could not be told.
        """
        if not self._extents and self._failed:
            raise next(iter(self._failed.values()))
        if time.monotonic() >= self._due_at and not self._asked_for:
            for target, image in self._images.items():
                if image.image_format != "raw":
                    self._asked_for += 1
                    self._asker.soon(lambda target=target, image=image: self._ask(target, image))  # type: ignore[misc]

    def _ask(self, target: str, image: Image) -> None:
        began = time.monotonic()
        try:
            self._extents[target] = self._asker.ask(*image)
            self._failed.pop(target, None)
        except HypervisorError as error:  # what was known stays
            self._failed[target] = error
        now = time.monotonic()
        self._due_at = max(self._due_at, now + (now - began) / SHARE)
        self._asked_for -= 1

    def locate(self, traced: Traced, which: Mapping[int, str]) -> Requests:
        """Requests whose place is known, by the disk of each back end."""
        parts, order = [], []
        for backend in np.unique(traced.backend).tolist():
            extents = self._extents.get(which.get(backend, ""))
            if extents is None:
                continue
            (own,) = np.nonzero(traced.backend == backend)
            known, file, offset, size = extents.locate(traced.offset_bytes[own], traced.size_bytes[own])
            own = own[known]
            numbers = self._numbers(extents)[file[known]]
            parts.append(Requests(traced.at[own], numbers, offset[known], size[known], traced.write[own]))
            order.append(own)
        if not parts:
            return Requests.none()
        return Requests.together(parts).chosen(np.argsort(np.concatenate(order), kind="stable"))

    def _numbers(self, extents: Extents) -> NDArray[np.int32]:
        """Index among the VM's files of each file of a disk."""
        self._files.extend(file for file in extents.files if file not in self._files)
        return np.array([self._files.index(file) for file in extents.files], np.int32)
