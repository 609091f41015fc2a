"""Contract of the pages of a VM."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forestall.model.errors import HypervisorError
from forestall.ports.guest_pages import GuestPages


def used_bytes(memory: GuestPages) -> int:
    """How much was used since one looked last."""
    used = memory.used()
    assert used is not None
    return used.used_bytes


class GuestPagesContract:
    """Subclass, and give the fixtures: the pages of a VM that has at least 2,048 and has touched none of the first."""

    @pytest.fixture
    def memory(self) -> GuestPages:
        """The pages under test."""
        raise NotImplementedError

    @pytest.fixture
    def take(self) -> Callable[[int, int], None]:
        """Lets the VM write to the pages from the first up to before the second."""
        raise NotImplementedError

    @pytest.fixture
    def die(self) -> Callable[[], None]:
        """Ends the VM."""
        raise NotImplementedError

    def test_what_is_populated_is_not_touched(self, memory: GuestPages) -> None:
        assert memory.pages >= 2048
        assert memory.page_bytes >= 4096
        assert memory.grain_pages >= 1
        memory.populate(10, 20)
        assert np.flatnonzero(memory.populated(0, 100)).tolist() == list(range(10, 30))
        assert not memory.touched(0, 100).any()

    def test_what_is_touched_is_populated(self, memory: GuestPages, take: Callable[[int, int], None]) -> None:
        memory.populate(15, 10)
        take(10, 20)
        assert np.flatnonzero(memory.touched(0, 100)).tolist() == list(range(10, 20))
        assert np.flatnonzero(memory.populated(0, 100)).tolist() == list(range(10, 25))
        assert np.flatnonzero(memory.touched(12, 30)).tolist() == list(range(8))

    def test_taking_pages_is_counted_and_populating_is_not(
        self, memory: GuestPages, take: Callable[[int, int], None]
    ) -> None:
        before = memory.resident()
        memory.populate(0, 200)
        assert memory.resident() == before
        take(0, 300)
        assert memory.resident() >= before + 300

    def test_only_what_was_never_touched_is_given_back(
        self, memory: GuestPages, take: Callable[[int, int], None]
    ) -> None:
        memory.populate(0, 100)
        take(40, 60)
        given = memory.give_back(np.arange(0, 200))
        assert given.tolist() == [*range(40), *range(60, 100)]
        assert np.flatnonzero(memory.populated(0, 200)).tolist() == list(range(40, 60))
        assert memory.give_back(np.arange(0, 200)).tolist() == []
        assert memory.give_back(np.zeros(0, np.int64)).tolist() == []

    def test_giving_back_is_paid_for_with_a_moment(self, memory: GuestPages) -> None:
        assert memory.stood_seconds == 0.0
        memory.populate(0, 10)
        memory.give_back(np.arange(10))
        assert 0.0 < memory.stood_seconds < 1.0

    def test_what_is_used_is_told_from_one_call_to_the_next(
        self, memory: GuestPages, take: Callable[[int, int], None]
    ) -> None:
        take(0, 40)
        assert memory.used() is None
        told = []
        for _ in range(10):
            take(20, memory.pages)  # What the processor has at hand is not noticed: something else, then.
            memory.used()
            take(10, 20)
            told.append(used_bytes(memory))
        assert 10 * memory.page_bytes <= max(told) < 20 * memory.page_bytes
        assert used_bytes(memory) == 0

    def test_beyond_the_end_is_an_error(self, memory: GuestPages) -> None:
        for first, pages in ((memory.pages - 5, 6), (-1, 2), (0, 0)):
            with pytest.raises(HypervisorError, match="of a VM that has"):
                memory.populate(first, pages)

    def test_a_vm_that_is_gone_is_an_error(self, memory: GuestPages, die: Callable[[], None]) -> None:
        memory.populate(0, 10)
        die()
        for ask in (memory.resident, lambda: memory.touched(0, 10), lambda: memory.give_back(np.arange(10))):
            with pytest.raises(HypervisorError):
                ask()
