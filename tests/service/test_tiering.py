"""Disks on tiers beside the daemon: whoever asks is answered within a time, whatever disks do."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from forestall.model.errors import StoreError, WrongUse
from forestall.service.tiering import BUSY, Tiering


class Loop:
    """A loop that hangs, or fails, when it is told to."""

    def __init__(self) -> None:
        self.beats, self.ordered, self.given_up = 0, list[tuple[Any, ...]](), list[Any]()
        self.go_on, self.hangs, self.fails = threading.Event(), threading.Event(), False

    def beat(self) -> float:
        self.beats += 1
        if self.hangs.is_set():
            self.go_on.wait(30.0)
        if self.fails:
            raise ValueError("a defect")
        return 0.02

    def tier_views(self) -> list[Any]:
        return []

    def disk_views(self) -> list[Any]:
        return []

    def moves(self, most: int) -> list[Any]:
        return []

    def order(self, *words: Any) -> Any:
        self.ordered.append(words)
        raise WrongUse("no VM named 'a' runs here")

    def give_up(self, why: str, vm_ids: Collection[str] | None = None) -> None:
        self.given_up.append((why, vm_ids))


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def tiering(loop: Loop, notes: list[str]) -> Iterator[Tiering]:
    tiering = Tiering(loop, notes.append, answer_seconds=0.5)  # type: ignore[arg-type]
    tiering.start()
    yield tiering
    loop.go_on.set()
    tiering.close()


def until(true: Any) -> None:
    deadline = time.monotonic() + 20.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_answers_between_beats_and_gives_up_at_the_end(tiering: Tiering, loop: Loop) -> None:
    until(lambda: loop.beats > 3)
    assert tiering.views() == {"tiers": [], "disks": []}
    assert tiering.moves() == []
    with pytest.raises(WrongUse, match="no VM named 'a'"):
        tiering.order({"vm": "a", "disk": "vda", "tier": "fast", "bytes_per_s": 1 << 20})
    assert loop.ordered == [("a", "vda", "fast", 1 << 20)]
    with pytest.raises(WrongUse, match="no disk is being moved"):
        tiering.cancel()
    tiering.close()
    assert loop.given_up[-1] == ("Forestall was ended", None)
    assert not tiering._thread.is_alive()


def test_who_asks_while_a_disk_hangs_is_told_so(tiering: Tiering, loop: Loop, notes: list[str]) -> None:
    loop.hangs.set()
    beats = loop.beats
    until(lambda: loop.beats > beats)
    for ask in (tiering.views, tiering.moves, tiering.cancel):
        with pytest.raises(StoreError, match=BUSY):
            ask()
    tiering.give_up("its VM is left alone", ["a"])
    assert BUSY in notes[-1]
    assert ("its VM is left alone", ["a"]) not in loop.given_up
    loop.go_on.set()
    until(lambda: ("its VM is left alone", ["a"]) in loop.given_up)


@pytest.mark.parametrize(
    "request_",
    [
        {"vm": "a", "disk": "vda"},
        {"vm": 1, "disk": "vda", "tier": "fast"},
        {"vm": "a", "disk": "vda", "tier": "fast", "bytes_per_s": 1 << 60},
        {"vm": "a", "disk": "vda", "tier": "fast", "bytes_per_s": 0},
        {"vm": "a", "disk": "vda", "tier": "fast", "bytes_per_s": True},
    ],
)
def test_orders_that_cannot_be_meant(tiering: Tiering, loop: Loop, request_: dict[str, Any]) -> None:
    with pytest.raises(WrongUse, match="move-disk wants"):
        tiering.order(request_)
    assert not loop.ordered


def test_a_defect_is_said_once_and_survived(tiering: Tiering, loop: Loop, notes: list[str]) -> None:
    loop.fails = True
    until(lambda: notes)
    loop.fails = False
    tiering.views()
    assert notes == ["disks are not looked after: ValueError: a defect"]
