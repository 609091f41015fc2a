"""A guest may say anything; only whole JSON objects of a bounded size count."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.lab.guest_link import MAX_LINE_BYTES, GuestLink, LineReader
from forestall.model.errors import HypervisorError


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[socket.socket]:
    """The guest's end of a link at ``tmp_path / "link.sock"``, before anyone has connected."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "link.sock"))
    server.listen()
    yield server
    server.close()


def _line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


@given(st.lists(st.integers(1, 7)), st.lists(st.dictionaries(st.text(), st.integers()), max_size=5))
def test_objects_come_out_whole_however_the_stream_is_cut(cuts: list[int], messages: list[dict[str, int]]) -> None:
    stream = b"".join(map(_line, messages))
    reader, found = LineReader(), []
    for cut in cuts:
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert found + reader.feed(stream) == messages
    assert reader.dropped == 0


@given(st.lists(st.binary(max_size=200)))
def test_any_bytes_are_survived_and_what_follows_is_read(chunks: list[bytes]) -> None:
    reader = LineReader()
    for chunk in chunks:
        assert all(isinstance(message, dict) for message in reader.feed(chunk))
    assert reader.feed(b"\n" + _line({"sequence": 1}))[-1] == {"sequence": 1}


@pytest.mark.parametrize(
    "hostile",
    [b"\xff\xfe", b"[1, 2]", b"17", b"null", b'{"a":', b"[" * 30_000, b'{"a": "' + b"x" * MAX_LINE_BYTES + b'"}'],
    ids=["no text", "list", "number", "null", "half", "deep", "long"],
)
def test_a_hostile_line_is_dropped_and_counted(hostile: bytes) -> None:
    reader = LineReader()
    assert reader.feed(hostile + b"\n" + _line({"good": 1})) == [{"good": 1}]
    assert reader.dropped == 1


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    reader = LineReader()
    for _ in range(100):
        assert reader.feed(b"x" * MAX_LINE_BYTES) == []
        assert len(reader._buffer) <= MAX_LINE_BYTES
    assert reader.feed(b"\n" + _line({"good": 1})) == [{"good": 1}]
    assert reader.dropped == 1


def test_reports_answers_and_noise_are_told_apart(guest: socket.socket, tmp_path: Path) -> None:
    lines = []

    def play() -> None:
        line, _ = guest.accept()
        lines.append(line)  # stays open until the end of the test
        line.sendall(_line({"sequence": 1}) + b"\0garbage\n" + _line({"answer": "of someone else", "result": {}}))
        command = json.loads(line.recv(4096))
        line.sendall(_line({"sequence": 2}) + _line({"answer": command["id"], "result": {"ping": command["ping"]}}))

    with GuestLink(tmp_path / "link.sock") as link:
        player = threading.Thread(target=play)
        player.start()
        assert link.latest()["sequence"] == 1
        assert link.ask({"ping": "here"}) == {"ping": "here"}
        assert link.latest()["sequence"] == 2
        assert link.dropped == 1
        assert link.age_seconds() < 10
        player.join()
        lines[0].close()


def test_what_does_not_come_is_an_error(guest: socket.socket, tmp_path: Path) -> None:
    with GuestLink(tmp_path / "link.sock") as link:
        line, _ = guest.accept()
        with pytest.raises(HypervisorError, match="the sun in 0 s"):
            link.wait(lambda report: report["sun"], 0.05, "the sun")
        with pytest.raises(HypervisorError, match="no answer"):
            link.ask({"ping": 1}, 0.05)
        line.close()
        with pytest.raises(HypervisorError, match=r"hung up|reset"):
            link.latest()


def test_a_refusal_is_an_error(guest: socket.socket, tmp_path: Path) -> None:
    with GuestLink(tmp_path / "link.sock") as link:
        line, _ = guest.accept()
        threading.Timer(0.1, lambda: line.sendall(_line({"answer": link._awaited, "error": "no"}))).start()
        with pytest.raises(HypervisorError, match="no"):
            link.ask({"dance": 1})


def test_nobody_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match=r"link\.sock"):
        GuestLink(tmp_path / "link.sock", 0.05)
