"""Telling programs elsewhere of events: each webhook has a sender of its own, so that a slow one holds up no other."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from forestall.model.errors import ForestallError, StoreError, WrongUse
from forestall.ports.notices import NoticeSender
from forestall.ports.webhook_book import Webhook, WebhookBook
from forestall.service.api.news import LOOK_SECONDS, RESET, Event, Look, Sight, changes
from forestall.service.api.problems import Refused

_log = logging.getLogger(__name__)
MOST_WEBHOOKS = 20


class Sender(NoticeSender, Protocol):
    """Sends to one place in a thread of its own."""

    def start(self) -> None:
        """Begin."""
        ...

    def close(self, patience_seconds: float) -> None:
        """End, within so long."""
        ...


Sending = Callable[[bytes, Callable[[str], None]], Sender]
"""Makes a sender that signs with a key, and says what it could not send."""


@dataclass
class _Told:
    """A webhook that is told, by whom, and what has become of it; ``fresh``: it has heard nothing yet."""

    webhook: Webhook
    sender: Sender | None = None
    fresh: bool = True
    sent: int = 0
    given_up: int = 0
    fault: str = ""

    def failed(self, why: str) -> None:
        """One event was given up."""
        self.given_up, self.fault = self.given_up + 1, why


class Webhooks:
    """All webhooks, and the thread that looks for events while there are any.

    Parameters
    ----------
    book
        Where they are kept.
    sending
        Makes senders.
    note
        Takes one line for the operator.
    now
        Tells the time, seconds UTC.
    """

    def __init__(
        self,
        book: WebhookBook,
        sending: Sending,
        note: Callable[[str], None] = _log.warning,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._book, self._sending, self._note, self._now = book, sending, note, now
        self._told: dict[str, _Told] = {}
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, sight: Sight) -> None:
        """Begin to look, and to tell; all are told to look at everything anew."""
        try:
            kept = self._book.read()
        except StoreError as error:
            self._note(f"nobody is told of events: {error}")
            return
        with self._turn:
            for webhook in kept.values():
                self._begin(webhook)
        self._thread = threading.Thread(target=self._watch, args=(sight,), name="webhooks", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell nothing more: with the next start all are told to look at everything anew."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)
        with self._turn:
            for told in self._told.values():
                if told.sender is not None:
                    told.sender.close(0.0)

    def create(self, name: str, url: str, kinds: Collection[str], groups: Collection[str] | None, by: str) -> Webhook:
        """Tell somebody from now on.

        Raises
        ------
        WrongUse
            The name is taken, or there are too many.
        """
        chosen = None if groups is None else tuple(sorted(set(groups)))
        webhook = Webhook(name, url, tuple(sorted(set(kinds))), chosen, secrets.token_urlsafe(32), by, self._now())
        with self._turn:
            with self._book.changing() as webhooks:
                if name in webhooks:
                    raise WrongUse(f"there is a webhook {name!r} already")
                if len(webhooks) >= MOST_WEBHOOKS:
                    raise WrongUse(f"there are {MOST_WEBHOOKS} webhooks already")
                webhooks[name] = webhook
            self._begin(webhook)
        return webhook

    def remove(self, name: str) -> bool:
        """Tell somebody no more; whether there was one of that name."""
        with self._turn:
            with self._book.changing() as webhooks:
                found = webhooks.pop(name, None)
            told = self._told.pop(name, None)
        if told is not None and told.sender is not None:
            told.sender.close(0.0)
        return found is not None

    def views(self) -> list[tuple[Webhook, int, int, str]]:
        """Each by name, with how many events were sent, how many of them were given up, and the last reason."""
        with self._turn:
            found = [self._told.get(name, _Told(each)) for name, each in sorted(self._book.read().items())]
        return [(told.webhook, told.sent, told.given_up, told.fault) for told in found]

    def _begin(self, webhook: Webhook) -> None:
        told = self._told[webhook.name] = _Told(webhook)
        told.sender = self._sending(webhook.secret.encode(), told.failed)
        told.sender.start()

    def _watch(self, sight: Sight) -> None:
        last: Look | None = None
        while not self._stop.wait(LOOK_SECONDS):
            if not self._told:
                last = None
                continue
            try:
                found = sight.look(last)
            except (ForestallError, Refused):
                continue  # the daemon is away: what has changed is told when it is there again
            except Exception:  # a defect must not end it for good
                _log.exception("webhooks cannot be told")
                continue
            with self._turn:
                self._send(list(changes(last, found)) if last is not None else [])
            last = found

    def _send(self, events: list[Event]) -> None:
        """Tell each what is for it; who has heard nothing yet, to look: what changes from now on they are told."""
        for told in self._told.values():
            own = [event for event in events if _is_for(told.webhook, event)]
            self._tell(told, [Event(RESET, {})] if told.fresh else own)
            told.fresh = False

    def _tell(self, told: _Told, events: list[Event]) -> None:
        for event in events:
            if told.sender is not None:
                told.sender.send(told.webhook.url, self._notice(told.webhook, event))
                told.sent += 1

    def _notice(self, webhook: Webhook, event: Event) -> Mapping[str, Any]:
        about = {"webhook": webhook.name, "id": secrets.token_hex(8), "at": self._now()}
        return {**about, "event": event.kind, "data": event.data}


def _is_for(webhook: Webhook, event: Event) -> bool:
    """Whether it is one of those that it is told, of a VM of which it may know."""
    hears = event.group is None or webhook.groups is None or event.group in webhook.groups
    return event.kind in webhook.kinds and hears
