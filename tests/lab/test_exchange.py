"""One guest, any number who listen: the exchange between them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from forestall.lab.exchange import Exchange
from forestall.lab.guest_link import GuestLink


class PlayedGuest:
    """A guest's end of the port, in a thread, with an exchange in front of it."""

    def __init__(self, folder: Path) -> None:
        self.exchange = Exchange(folder / "port", folder / "link", folder / "report.json")
        self.said = b'{"sequence": 1, "load": {"level": 7}}\nnoise\n'
        self.port, self.heard = folder / "port", []
        self.ready, self.loop = threading.Event(), asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.ready.wait(10)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.task.cancel)
        self.thread.join()
        self.loop.close()

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self._play())

    async def _play(self) -> None:
        self.task = asyncio.current_task()
        server = await asyncio.start_unix_server(self._serve, self.port)
        self.ready.set()
        async with server:
            await self.exchange.run()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.said)
        while line := await reader.readline():
            command = json.loads(line)
            self.heard.append(command)
            writer.write(json.dumps({"answer": command.get("id"), "result": {"ping": command["ping"]}}).encode())
            writer.write(b'\n{"sequence": 2}\n')
        writer.close()


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[PlayedGuest]:
    played = PlayedGuest(tmp_path)
    yield played
    played.stop()


def test_everyone_hears_the_guest_and_each_gets_the_answer_to_its_own_question(guest: PlayedGuest) -> None:
    with GuestLink(guest.exchange.link) as one, GuestLink(guest.exchange.link) as other:
        assert one.ask({"ping": 1}) == {"ping": 1}
        assert other.ask({"ping": 2}) == {"ping": 2}
        assert one.wait(lambda report: report["sequence"] == 2, 10)
        assert other.wait(lambda report: report["sequence"] == 2, 10)
    assert json.loads(guest.exchange.report_file.read_text())["sequence"] == 2


def test_the_level_that_a_guest_claims_is_bounded(guest: PlayedGuest) -> None:
    with GuestLink(guest.exchange.link) as link:
        link.ask({"ping": 1})
        link.wait(lambda report: report["sequence"] == 2, 10)
    assert guest.exchange.level() == 0.0, "the last report has no level"
    guest.exchange._take({"sequence": 3, "load": {"level": 7}})
    assert guest.exchange.level() == 1.0


def test_a_client_that_talks_nonsense_harms_nobody(guest: PlayedGuest) -> None:
    with GuestLink(guest.exchange.link) as bad, GuestLink(guest.exchange.link) as good:
        bad._socket.sendall(b"x" * 300_000 + b"\n[1]\n")
        bad.close()
        assert good.ask({"ping": 1}) == {"ping": 1}
    assert [command["ping"] for command in guest.heard] == [1]
