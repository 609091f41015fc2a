"""Memory and disk blocks that a VM manager asks for ahead of time: taken down, staged, and told when they are there.

What a program has taken the last times is remembered for its trust group, so that the next request can name the program
in place of an amount; which blocks it read, by who stages them. A request and what is known of programs survive the
daemon.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from forestall.model.errors import StoreError, WrongUse, in_one_line
from forestall.ports.access_log import BLOCK, PAGE
from forestall.ports.notices import SCHEMES, NoticeSender
from forestall.staging.asked import KINDS, Asked, AskedView

LONGEST_SECONDS, LONGEST_TEXT = 86_400.0, 1024
DEADLINE_SECONDS, HOLD_SECONDS = 30.0, 60.0
KEPT_SECONDS, MOST_KEPT = 3_600.0, 1_000
"""Requests that have ended can be looked at for so long, so many at most."""
MOST_OPEN = 100
LOOK_SECONDS = 0.25
FADING = 0.75
"""A program that takes less than it did is believed by this much each time."""


class State(StrEnum):
    """How far a request is."""

    PENDING = "pending"
    READY = "ready"
    OVER = "over"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = (State.PENDING, State.READY)


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes
    ----------
    name
        Its own, unique.
    vm_id, group, program
        For which VM, in which trust group, and for which program in it; empty if none was named.
    kind, place, offset_bytes
        Pages of memory or blocks of disks; of these the file and where in it, if no program is named.
    size_bytes, hold_seconds
        How much, and for how long it is kept once it is there.
    deadline_at, asked_at, ready_at, ended_at
        Instants, seconds UTC; it must be there by the first. The last two are None before.
    notify
        Who is told when it is there, or will not be; empty: nobody.
    state, why
        How far it is; and why it failed, or less is there than was asked for.
    staged_bytes, touched_bytes, taken_bytes
        What was staged for it, what the VM has taken of that, and what it has taken in all since.
    """

    name: str
    vm_id: str
    group: str
    program: str
    size_bytes: int
    hold_seconds: float
    asked_at: float
    deadline_at: float
    notify: str = ""
    state: State = State.PENDING
    why: str = ""
    ready_at: float | None = None
    ended_at: float | None = None
    staged_bytes: int = 0
    touched_bytes: int = 0
    taken_bytes: int = 0
    kind: str = PAGE
    place: str = ""
    offset_bytes: int = 0


@dataclass
class Kept:
    """What survives: requests by name, and bytes that programs take, by trust group and program."""

    requests: dict[str, Request] = field(default_factory=dict)
    programs: dict[str, dict[str, int]] = field(default_factory=dict)


class Store(Protocol):
    """Keeps plain values."""

    def read(self) -> Any:
        """What was kept; None if nothing was."""
        ...

    def write(self, value: Any) -> None:
        """Keep a value in place of the one before."""
        ...


class Preallocations:
    """All requests.

    Parameters
    ----------
    store
        Where they are kept.
    notices
        Tells those who asked.
    most_bytes
        Of each kind, more cannot be staged.
    now
        Tells the time, seconds UTC.
    note
        Takes one line for the operator.
    """

    def __init__(
        self,
        store: Store,
        notices: NoticeSender,
        most_bytes: Mapping[str, int],
        now: Callable[[], float],
        note: Callable[[str], None],
    ) -> None:
        self._store, self._notices, self._most_bytes, self._now, self._note = store, notices, most_bytes, now, note
        self._kept = _read(store, note)

    def asked(self, vm_id: str) -> tuple[Asked, ...]:
        """What is to be staged for a VM."""
        return tuple(
            Asked(
                request.name,
                request.size_bytes,
                request.hold_seconds,
                request.kind,
                request.program,
                request.place,
                request.offset_bytes,
            )
            for request in self._kept.requests.values()
            if request.vm_id == vm_id and request.state in OPEN
        )

    @property
    def is_open(self) -> bool:
        """Whether something is asked for."""
        return any(request.state in OPEN for request in self._kept.requests.values())

    def request(self, vm_id: str, group: str, wanted: Mapping[str, Any]) -> Request:
        """Take down a request: ``size_bytes`` or ``program``, and ``deadline_seconds``, ``hold_seconds``, ``notify``.

        Its ``type`` is ``page`` or ``block``; blocks are those of a ``program``, or of the file ``place``, from
        ``offset_bytes`` on.

        Raises
        ------
        WrongUse
            It says something that cannot be, or not enough.
        """
        program, notify = _text(wanted, "program"), _text(wanted, "notify")
        kind, place = _text(wanted, "type") or PAGE, _text(wanted, "place")
        if kind not in KINDS:
            raise WrongUse(f"{kind!r} cannot be staged ahead, only {', '.join(KINDS)}")
        if kind == PAGE and place:
            raise WrongUse("a place is for blocks of disks; memory is asked for by amount or by program")
        if place and (program or not place.startswith("/")):
            raise WrongUse("which blocks: those of a program, or those of a file, by its path from the root?")
        if sum(request.state in OPEN for request in self._kept.requests.values()) >= MOST_OPEN:
            raise WrongUse(f"{MOST_OPEN} requests are open already")
        size_bytes = wanted.get("size_bytes")
        if size_bytes is None:
            size_bytes = self._size_of_program(kind, group, program)
        elif kind == BLOCK and not place:
            raise WrongUse("an amount of blocks needs a place: the file that they lie in")
        least = 1 if kind == PAGE or place else 0  # what blocks a program reads, and how many, is known elsewhere
        most = self._most_bytes[kind]
        if isinstance(size_bytes, bool) or not isinstance(size_bytes, int) or not least <= size_bytes <= most:
            raise WrongUse(f"{size_bytes} bytes: must be above 0 and at most {most}, what may be staged")
        if notify and not notify.startswith(SCHEMES):
            raise WrongUse(f"{notify!r} cannot be told: must begin with {', '.join(SCHEMES)}")
        now = self._now()
        made = Request(
            name=secrets.token_hex(8),
            vm_id=vm_id,
            group=group,
            program=program,
            size_bytes=size_bytes,
            hold_seconds=_seconds(wanted, "hold_seconds", HOLD_SECONDS),
            asked_at=now,
            deadline_at=now + _seconds(wanted, "deadline_seconds", DEADLINE_SECONDS),
            notify=notify,
            kind=kind,
            place=place,
            offset_bytes=_offset(wanted),
        )
        self._keep({made.name: made})
        return made

    def _size_of_program(self, kind: str, group: str, program: str) -> int:
        if not program:
            raise WrongUse("how much, or for which program?")
        if kind == BLOCK:
            return 0
        size_bytes = self._kept.programs.get(group, {}).get(program)
        if size_bytes is None:
            raise WrongUse(f"nothing is known of {program!r} in the trust group {group!r} yet: say how much")
        return min(size_bytes, self._most_bytes[kind])

    def cancel(self, name: str) -> Request:
        """Take a request back; harmless if it has ended."""
        request = self.of(name)
        if request.state in OPEN:
            request = replace(request, state=State.CANCELLED, ended_at=self._now())
            self._keep({name: request})
        return request

    def of(self, name: str) -> Request:
        """One request.

        Raises
        ------
        WrongUse
            There is none of that name.
        """
        if name not in self._kept.requests:
            raise WrongUse(f"there is no request {name!r}, or no longer")
        return self._kept.requests[name]

    def forget_group(self, group: str) -> None:
        """A trust group is gone, with what is known of its programs."""
        if self._kept.programs.pop(group, None) is not None:
            self._keep({})

    def views(self) -> list[dict[str, Any]]:
        """All requests, the newest last."""
        return [asdict(request) for request in self._kept.requests.values()]

    def look(self, asked: Mapping[str, Any], refusals: Mapping[tuple[str, str], str]) -> bool:
        """Take in what has become of the requests; whether one of them has ended.

        Parameters
        ----------
        asked
            What the staging says of each, by name.
        refusals
            Kinds and VMs for which nothing can be staged, and why.
        """
        now, changed = self._now(), dict[str, Request]()
        for name, request in self._kept.requests.items():
            if request.state not in OPEN:
                continue
            view = msgspec.convert(asked[name], AskedView) if name in asked else None
            after = _after(request, view, refusals.get((request.kind, request.vm_id), ""), now)
            if after != request:
                changed[name] = after
        told = {name for name, after in changed.items() if after.state is not self._kept.requests[name].state}
        if told:
            for name in told:
                self._learn(changed[name])
            self._keep(changed)
            for name in told:
                self._tell(changed[name])
        else:
            self._kept.requests |= changed
        return any(changed[name].state not in OPEN for name in told)

    def _learn(self, request: Request) -> None:
        """What a program took is what it will take, until it takes less."""
        if request.state is State.OVER and request.kind == PAGE and request.program and request.taken_bytes:
            programs = self._kept.programs.setdefault(request.group, {})
            before = programs.get(request.program, 0)
            programs[request.program] = max(request.taken_bytes, int(FADING * before))

    def _tell(self, request: Request) -> None:
        if request.notify and request.state in (State.READY, State.FAILED):
            self._notices.send(request.notify, asdict(request))
        if request.state is State.FAILED:
            what = "memory" if request.kind == PAGE else "blocks"
            self._note(f"{what} asked for ahead of time: not there for {request.vm_id}: {request.why}")

    def _keep(self, changed: Mapping[str, Request]) -> None:
        now, requests = self._now(), {**self._kept.requests, **changed}
        ended = [name for name, request in requests.items() if request.state not in OPEN]
        old = {name for name in ended if (requests[name].ended_at or 0.0) < now - KEPT_SECONDS}
        old |= set(ended[: max(len(ended) - MOST_KEPT, 0)])
        self._kept.requests = {name: request for name, request in requests.items() if name not in old}
        try:
            self._store.write(msgspec.to_builtins(self._kept))
        except StoreError as error:
            self._note(f"{error}; requests for memory do not survive the daemon")


class Watcher:
    """Looks after requests between two cycles of the daemon, in a thread of its own.

    Parameters
    ----------
    look
        Looks; called while something is asked for.
    is_open
        Whether something is.
    note
        Takes one line for the operator.
    """

    def __init__(self, look: Callable[[], None], is_open: Callable[[], bool], note: Callable[[str], None]) -> None:
        self._look, self._is_open, self._note = look, is_open, note
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preallocations", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                if self._is_open():
                    self._look()
            except Exception as error:  # whatever it is: the next look may do better
                self._note(f"requests for memory are not followed: {in_one_line(error)}")


def _after(request: Request, view: AskedView | None, refused: str, now: float) -> Request:
    """How a request stands, by what the staging says of it."""
    why = refused or "nothing is staged for the VM: is it running, and its trust group shadowed?"
    if view is not None:
        unit_bytes = view.unit_bytes or request.size_bytes / max(view.wanted, 1)
        counts = [round(units * unit_bytes) for units in (view.staged, view.touched, view.taken)]
        request = replace(request, staged_bytes=counts[0], touched_bytes=counts[1], taken_bytes=counts[2], why=view.why)
        why = view.why or "not everything is staged yet"
    if request.state is State.PENDING and view is not None and view.done:
        # Of a program that is not known yet nothing can be there: it is watched.
        ready = bool(view.staged) or (bool(request.program) and request.kind == BLOCK and not view.wanted)
        done = State.READY if ready else State.FAILED
        return replace(request, state=done, ready_at=now, ended_at=None if ready else now, why=view.why)
    if request.state is State.PENDING and now >= request.deadline_at:
        return replace(request, state=State.FAILED, ended_at=now, why=why)
    if request.state is State.READY and now >= (request.ready_at or now) + request.hold_seconds:
        return replace(request, state=State.OVER, ended_at=now)
    return request


def _read(store: Store, note: Callable[[str], None]) -> Kept:
    try:
        found = store.read()
        return Kept() if found is None else msgspec.convert(found, Kept)
    except (StoreError, msgspec.ValidationError) as error:
        note(f"requests for memory of earlier are not known any more: {error}")
        return Kept()


def _seconds(wanted: Mapping[str, Any], key: str, default: float) -> float:
    value = wanted.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_SECONDS:
        raise WrongUse(f"{key} {value}: must be above 0 and at most {LONGEST_SECONDS:g}")
    return float(value) if math.isfinite(value) else default


def _offset(wanted: Mapping[str, Any]) -> int:
    value = wanted.get("offset_bytes") or 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise WrongUse(f"offset_bytes {value}: must be a whole number, 0 or more")
    return value


def _text(wanted: Mapping[str, Any], key: str) -> str:
    value = wanted.get(key) or ""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise WrongUse(f"{key}: must be at most {LONGEST_TEXT} printable characters")
    return value
