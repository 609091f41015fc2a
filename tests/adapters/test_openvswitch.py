"""What speaks with switches, without any: who is believed, what is understood, what is kept."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("os_ken", reason="os-ken is not installed")

from forestall.adapters.files.fabric_book import FILE, FileFabricBook
from forestall.adapters.files.traffic_log import DAYS, TrafficLog
from forestall.adapters.openvswitch.discovery import MOST_UNHEARD, VALID_SECONDS, Discovery
from forestall.adapters.openvswitch.door import Door
from forestall.model.errors import BadInput, FabricError
from forestall.ports.fabric import Cable, PairWays, Place, Port, Remembered, Switch

ONE, OTHER, THIRD = Place(1, 1), Place(2, 7), Place(3, 3)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_cable_is_found_and_forgotten_when_packets_are_lost_not_when_time_passes() -> None:
    clock = Clock()
    discovery = Discovery(clock)
    assert discovery.hear(OTHER, discovery.packet(ONE))
    assert not discovery.hear(OTHER, discovery.packet(ONE))  # nothing new
    assert discovery.cables(lambda place: True) == (Cable(ONE, OTHER),)
    assert discovery.cables(lambda place: place != ONE) == ()
    clock.now += 3_600.0
    assert discovery.cables(lambda place: True) == (Cable(ONE, OTHER),)
    for _ in range(MOST_UNHEARD + 1):
        discovery.packet(ONE)
    assert discovery.cables(lambda place: True) == ()
    assert discovery.hear(OTHER, discovery.packet(ONE))


def test_cables_of_before_are_believed_until_packets_are_lost() -> None:
    discovery = Discovery(Clock())
    discovery.believe([Cable(ONE, OTHER)])
    assert discovery.cables(lambda place: True) == (Cable(ONE, OTHER),)
    for _ in range(MOST_UNHEARD + 1):
        discovery.packet(ONE)
        discovery.packet(OTHER)
    assert discovery.cables(lambda place: True) == ()


def test_what_others_make_up_or_send_again_makes_no_cable() -> None:
    clock = Clock()
    ours, others = Discovery(clock), Discovery(clock)
    packet = ours.packet(ONE)
    assert not ours.hear(THIRD, others.packet(OTHER))  # another key
    assert not ours.hear(THIRD, packet[:60])
    assert not ours.hear(THIRD, packet[:-30] + bytes(30))
    assert not ours.hear(THIRD, bytes(2_000))
    assert not ours.hear(ONE, packet)  # its own
    clock.now += VALID_SECONDS + 1.0
    assert not ours.hear(THIRD, packet)  # too old
    assert ours.cables(lambda place: True) == ()


@pytest.mark.parametrize("listen", ["", "punix:", "tcp:1.2.3.4:5", "ptcp:99999", "ptcp:x"])
def test_an_address_that_means_nothing_is_refused_in_one_line(listen: str) -> None:
    with pytest.raises(BadInput, match="none of"):
        Door(listen, lambda: None, lambda *packet: None)


def test_a_file_or_a_socket_in_use_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    path.write_text("mine")
    with pytest.raises(FabricError, match="cannot be listened at"):
        Door(f"punix:{path}", lambda: None, lambda *packet: None)
    assert path.read_text() == "mine"
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(FabricError):
            Door(f"punix:{path}", lambda: None, lambda *packet: None)
    door = Door(f"punix:{path}", lambda: None, lambda *packet: None)  # nobody listens any more
    door.close()


@pytest.mark.parametrize("said", [b"", b"\x04", bytes(64), b"\xff" * 4096, b"GET / HTTP/1.1\r\n\r\n"])
def test_whatever_connects_the_door_stays_open(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "sock"
    door = Door(f"punix:{path}", lambda: None, lambda *packet: None)
    try:
        for _ in range(3):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(str(path))
                client.sendall(said)
        assert door.sessions == {}
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(10.0)
            client.connect(str(path))
            assert client.recv(8)[1] == 0  # it is greeted
    finally:
        door.close()
    ends_at = time.monotonic() + 20.0
    while any(thread.name == "openflow" for thread in threading.enumerate()) and time.monotonic() < ends_at:
        time.sleep(0.05)
    assert not any(thread.name == "openflow" for thread in threading.enumerate())


def test_what_must_stay_the_same_is_kept_and_a_damaged_file_is_said(tmp_path: Path) -> None:
    notes: list[str] = []
    book = FileFabricBook(tmp_path, notes.append)
    assert book.load() == Remembered()
    remembered = Remembered(
        {"path": {"1-2": 5}},
        {1: Switch("leaf0", {1: Port("a", True, 1e9)}, 3)},
        (Cable(ONE, OTHER),),
        (PairWays("a", "b", (((1, 2), 1.0),)),),
    )
    book.save(remembered)
    assert book.load() == remembered
    assert notes == []
    for damage in ("{", '{"numbers": 5}', "[]"):
        (tmp_path / FILE).write_text(damage)
        assert book.load() == Remembered()
    assert len(notes) == 3


def test_the_log_of_traffic_keeps_days_and_passes_over_what_was_cut_off(tmp_path: Path) -> None:
    log = TrafficLog(tmp_path)
    for day in range(DAYS + 3):
        log.add({("a", "b"): 10.0 + day, ("sent", "a"): 1.0}, day * 86_400)
    path = sorted(tmp_path.iterdir())[-1]
    path.write_text(path.read_text() + '{"at": 99')
    log.add({("a", "b"): 1.0}, (DAYS + 2) * 86_400 + 300)
    found = list(log.read())
    assert next(at for at, _ in found) == 3 * 86_400
    assert found[-1] == ((DAYS + 2) * 86_400 + 300, {("a", "b"): 1.0})
    assert found[0][1] == {("a", "b"): 13.0, ("sent", "a"): 1.0}
