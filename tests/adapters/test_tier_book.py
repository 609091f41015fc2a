"""Moves of disks in a file: durable, in order, whatever was cut off."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from forestall.adapters.files.tier_book import LOCK, MOVES, FileMoveBook, FileUses
from forestall.model.errors import StoreError
from forestall.ports.tiers import Move, State

MOVE = Move(
    vm_id="a",
    target="vda",
    uuid="u",
    source="/slow/a.img",
    destination="/fast/a.img",
    from_tier="slow",
    to_tier="fast",
    size_bytes=7,
    bytes_per_s=1,
    why="é",
    state=State.BEGINNING,
    began_at=1.5,
)


def test_each_move_is_as_it_was_last_written(tmp_path: Path) -> None:
    book, other = FileMoveBook(tmp_path / "state"), FileMoveBook(tmp_path / "state")
    assert book.moves() == ()
    later = replace(MOVE, began_at=2.0, state=State.COPYING)
    book.write(later)
    book.write(MOVE)
    assert other.moves() == (MOVE, later)
    done = replace(MOVE, state=State.DONE, ended_at=9.0, said="it is")
    book.write(done)
    assert other.moves() == book.moves() == FileMoveBook(tmp_path / "state").moves() == (done, later)


def test_a_line_that_was_cut_off_spoils_nothing(tmp_path: Path) -> None:
    book = FileMoveBook(tmp_path)
    book.write(MOVE)
    with (tmp_path / MOVES).open("ab") as file:
        file.write(b'{"vm_id": "a", "target": "v\xff')
    assert book.moves() == (MOVE,)
    done = replace(MOVE, state=State.DONE)
    FileMoveBook(tmp_path).write(done)
    assert book.moves() == FileMoveBook(tmp_path).moves() == (done,)


def test_a_line_of_an_older_version_is_read(tmp_path: Path) -> None:
    FileMoveBook(tmp_path).write(MOVE)
    text = (tmp_path / MOVES).read_text()
    (tmp_path / MOVES).write_text(text.replace(', "said": ""', ""))
    assert FileMoveBook(tmp_path).moves() == (MOVE,)


def test_one_takes_a_step_at_a_time(tmp_path: Path) -> None:
    first, second, order = FileMoveBook(tmp_path), FileMoveBook(tmp_path), list[str]()
    entered = threading.Event()

    def step() -> None:
        entered.set()
        with second.alone():
            order.append("second")

    with first.alone():
        thread = threading.Thread(target=step)
        thread.start()
        entered.wait()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_who_hangs_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with FileMoveBook(tmp_path).alone(), pytest.raises(StoreError, match="another process moves a disk"):
        FileMoveBook(tmp_path, 0.2).alone().__enter__()
    with FileMoveBook(tmp_path, 0.0).alone():
        pass


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / MOVES).mkdir()
    (tmp_path / LOCK).mkdir()
    book = FileMoveBook(tmp_path)
    for broken in (lambda: book.write(MOVE), book.moves, lambda: book.alone().__enter__()):
        with pytest.raises(StoreError, match="tier_moves"):
            broken()


def test_uses_are_kept(tmp_path: Path) -> None:
    assert FileUses(tmp_path).read() is None
    FileUses(tmp_path).write([{"a": 1.5}])
    assert FileUses(tmp_path).read() == [{"a": 1.5}]
