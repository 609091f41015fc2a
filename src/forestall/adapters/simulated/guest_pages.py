"""The memory of a VM that lives in an array, and touches what it is told to."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from forestall.model.errors import HypervisorError, Unsupported
from forestall.model.samples import BoolArray, IntArray
from forestall.ports.guest_pages import Used


class SimulatedGuestPages:
    """As :class:`~forestall.ports.guest_pages.GuestPages`.

    Parameters
    ----------
    pages, page_bytes, grain_pages
        How many pages it has, how large they are, and how many of them the host keeps together.

    Attributes
    ----------
    host_bytes
        Memory that the host can still give; populating more fails half way.
    restless, shared
        Whether it cannot be brought to rest, and whether somebody shares its memory: then nothing is given back.
    tells
        Whether it is told which memory is used.
    """

    def __init__(self, pages: int, page_bytes: int = 4096, grain_pages: int = 1) -> None:
        self.pages, self.page_bytes, self.grain_pages = pages, page_bytes, grain_pages
        self.stood_seconds = 0.0
        self.host_bytes = 1 << 60
        self.restless = self.shared = False
        self._alive = True
        self._touched: BoolArray = np.zeros(pages, np.bool_)
        self._populated: BoolArray = np.zeros(pages, np.bool_)
        self._used: set[int] | None = None
        self.tells = True

    def take(self, pages: Iterable[int]) -> None:
        """The VM touches pages."""
        own = list(pages)
        if self._used is not None:
            self._used.update(own)
        self._touched[own] = True
        self._populated[own] = True

    def leave(self, pages: Iterable[int]) -> None:
        """The VM gives pages back: a balloon."""
        own = list(pages)
        self._touched[own] = False
        self._populated[own] = False

    def die(self) -> None:
        """The VM is gone."""
        self._alive = False

    def resident(self) -> int:
        """As in the port."""
        self._check(0, 1)
        return int(self._touched.sum())

    def touched(self, first: int, pages: int) -> BoolArray:
        """As in the port."""
        self._check(first, pages)
        return self._touched[first : first + pages].copy()

    def populated(self, first: int, pages: int) -> BoolArray:
        """As in the port."""
        self._check(first, pages)
        return self._populated[first : first + pages].copy()

    def populate(self, first: int, pages: int) -> None:
        """As in the port."""
        self._check(first, pages)
        new = first + np.flatnonzero(~self._populated[first : first + pages])
        fits = new[: self.host_bytes // self.page_bytes]
        self.host_bytes -= len(fits) * self.page_bytes
        self._populated[fits] = True
        if len(fits) < len(new):  # as far as it goes
            raise HypervisorError(f"the host has no memory for {pages} pages")

    def give_back(self, pages: IntArray) -> IntArray:
        """As in the port."""
        pages = np.unique(pages)
        if len(pages):
            self._check(int(pages[0]), int(pages[-1] - pages[0]) + 1)
        if self.shared:
            raise Unsupported("somebody shares its memory")
        if self.restless:
            return pages[:0]
        self.stood_seconds += 0.001
        free: IntArray = pages[self._populated[pages] & ~self._touched[pages]]
        self._populated[free] = False
        self.host_bytes += len(free) * self.page_bytes
        return free

    def used(self) -> Used | None:
        """As in the port."""
        self._check(0, 1)
        if not self.tells:
            raise Unsupported("this kernel does not tell which memory is used")
        used, self._used = self._used, set()
        return None if used is None else Used(len(used) * self.page_bytes)

    def close(self) -> None:
        """As in the port."""

    def _check(self, first: int, pages: int) -> None:
        if not self._alive:
            raise HypervisorError("the VM is gone")
        if first < 0 or pages < 1 or first + pages > self.pages:
            raise HypervisorError(f"pages {first} to {first + pages - 1} of a VM that has {self.pages}")
