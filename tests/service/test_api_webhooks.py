"""Programs elsewhere are told of what they asked for, signed, and of nothing else."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from daemons import wait_until
from hook_server import Hook
from test_api_events import host, vm

from forestall.adapters.files.webhook_book import FileWebhookBook
from forestall.adapters.notices.sender import NoticeThread
from forestall.model.errors import StoreError, WrongUse
from forestall.service.api import hooks as module
from forestall.service.api.documents import Host, Vm
from forestall.service.api.hooks import MOST_WEBHOOKS, Webhooks
from forestall.service.api.news import Sight

SOME = ("mode", "vm-altered", "vm-restored")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook(refuse=0)
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


class Place:
    """A host of which a test says what is seen."""

    def __init__(self) -> None:
        self.cycles, self.mode, self.away = 1, "advise", False
        self.vms = [vm("a", "t1"), vm("b", "t2"), vm("c")]
        self.sight = Sight(self.hosts, lambda: self.vms)

    def hosts(self) -> list[Host]:
        if self.away:
            raise StoreError("the daemon does not answer")
        return [host(self.cycles, self.mode)]

    def alter(self, *names: str) -> None:
        """From the next cycle on these are altered."""
        self.vms: list[Vm] = [vm(each.name, each.trust_group, altered=each.name in names) for each in self.vms]
        self.cycles += 1


def webhooks(folder: Path) -> Webhooks:
    return Webhooks(FileWebhookBook(folder), lambda key, note: NoticeThread(key, note, (0.02, 0.02)))


def told(hook: Hook) -> list[tuple[str, str]]:
    """What was told: the event, and which VM it is about or which mode holds."""
    return [(said["event"], said["data"].get("vm") or said["data"].get("mode", "")) for said, _, _ in list(hook.taken)]


def test_who_is_told_what(tmp_path: Path, hook: Hook) -> None:
    place = Place()
    with closing(webhooks(tmp_path)) as mine:
        mine.start(place.sight)
        secret = mine.create("desk", hook.url, SOME, ["t1"], "ann").secret
        wait_until(lambda: told(hook) == [("reset", "")], "it begins")
        _, signature, body = hook.taken[0]
        assert signature == "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        place.away = True
        place.alter("a", "b", "c")
        place.mode = "enforce"
        place.away = False
        wait_until(lambda: len(told(hook)) == 3, "it is told")
        place.alter()
        wait_until(lambda: len(told(hook)) == 4, "it is told")
        assert told(hook)[1:] == [("vm-altered", "a"), ("mode", "enforce"), ("vm-restored", "a")]
        ((webhook, sent, given_up, fault),) = mine.views()
        assert (webhook.name, sent, given_up, fault) == ("desk", 4, 0, "")
        assert mine.remove("desk")
        assert not mine.remove("desk")
        place.alter("a")
        assert mine.views() == []
    assert len(told(hook)) == 4


def test_who_is_told_to_look_misses_nothing_after_that(tmp_path: Path, hook: Hook) -> None:
    place = Place()
    place.away = True
    with closing(webhooks(tmp_path)) as mine:
        mine.start(place.sight)
        mine.create("desk", hook.url, SOME, None, "ann")
        time.sleep(0.2)
        assert told(hook) == [], "there is nothing to look at yet"
        place.away = False
        wait_until(lambda: told(hook) == [("reset", "")], "it begins")
        place.alter("b")
        wait_until(lambda: told(hook)[1:] == [("vm-altered", "b")], "nothing is missed")


def test_what_is_damaged_keeps_nothing_else_from_starting(tmp_path: Path) -> None:
    (tmp_path / "webhooks.json").write_text("[]")
    notes: list[str] = []
    book = FileWebhookBook(tmp_path)
    with closing(Webhooks(book, lambda key, note: NoticeThread(key, note), notes.append)) as mine:
        mine.start(Place().sight)
    assert "is damaged" in notes[0]


def test_it_is_kept_and_told_to_look_anew_after_a_start(tmp_path: Path, hook: Hook) -> None:
    with closing(webhooks(tmp_path)) as first:
        first.start(Place().sight)
        first.create("desk", hook.url, SOME, None, "ann")
        wait_until(lambda: len(told(hook)) == 1, "it begins")
    assert (tmp_path / "webhooks.json").stat().st_mode & 0o077 == 0, "its secret is in it"
    with closing(webhooks(tmp_path)) as second:
        second.start(Place().sight)
        wait_until(lambda: told(hook) == [("reset", "")] * 2, "it goes on")


def test_who_takes_nothing_is_given_up_and_holds_up_no_other(tmp_path: Path, hook: Hook) -> None:
    place = Place()
    with closing(webhooks(tmp_path)) as mine:
        mine.start(place.sight)
        mine.create("gone", "http://127.0.0.1:9/", SOME, None, "ann")
        mine.create("here", hook.url, SOME, None, "ann")
        wait_until(lambda: told(hook) == [("reset", "")], "the other is told")
        wait_until(lambda: mine.views()[0][2] == 1, "it is given up")
        assert "127.0.0.1:9" in mine.views()[0][3]


def test_no_two_of_one_name_and_not_too_many(tmp_path: Path) -> None:
    with closing(webhooks(tmp_path)) as mine:
        for number in range(MOST_WEBHOOKS):
            mine.create(f"w{number}", "http://127.0.0.1:9/", SOME, None, "ann")
        with pytest.raises(WrongUse, match="already"):
            mine.create("w0", "http://127.0.0.1:9/", SOME, None, "ann")
        with pytest.raises(WrongUse, match=str(MOST_WEBHOOKS)):
            mine.create("more", "http://127.0.0.1:9/", SOME, None, "ann")
