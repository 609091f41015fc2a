"""What comes from a guest is bounded, checked, and counted where it is dropped."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.adapters.guest_channel.inbox import Hello, Inbox, Reply, result_of
from forestall.guest.operations import NUMBER
from forestall.guest.wire import MAX_FIELDS, Kind, Window, as_json, encode
from forestall.ports.guest_channel import LONG_FIELDS, SHORT_FIELDS, Busiest, GuestWindow

HELLO = {"agent": 1, "short": SHORT_FIELDS, "long": LONG_FIELDS, "operations": ["read", "new-one", "fork"]}


def _window(
    end_us: int, values: tuple[float, ...] | None = None, operations: tuple = (), length_us: int = 100_000
) -> bytes:
    return Window(end_us, length_us, 0, values or (1.0,) * len(SHORT_FIELDS), operations).pack()


class Guest:
    """Says something to an inbox."""

    def __init__(self, session: int = 5) -> None:
        self.inbox, self.session, self.sequence = Inbox("vm"), session, 0

    def say(self, kind: int, payload: bytes, now: float = 100.0, sequence: int | None = None) -> list[Any]:
        self.sequence = self.sequence + 1 if sequence is None else sequence
        return self.inbox.feed(encode(kind, self.session, self.sequence, payload), now)

    def hello(self, **other: Any) -> list[Any]:
        return self.say(Kind.HELLO, as_json({**HELLO, **other}))


@pytest.fixture
def guest() -> Guest:
    guest = Guest()
    assert isinstance(guest.hello()[0], Hello)
    return guest


def test_a_window_comes_in_our_order_with_our_names() -> None:
    guest = Guest()
    guest.hello(short=["mystery", "faults_per_s", "cpu_user_cores"])
    (window,) = guest.say(Kind.SHORT, _window(7_000_000, (9.0, 3.0, 0.5), ((0, 2), (1, 3), (2, 1), (77, 1))), now=50.0)
    told = dict(zip(SHORT_FIELDS, window.values, strict=True))
    assert (told["faults_per_s"], told["cpu_user_cores"]) == (3.0, 0.5)
    assert math.isnan(told["switches_per_s"])
    assert window.operations == ((NUMBER["read"], 2), (NUMBER["fork"], 1))
    assert (window.vm_id, window.at, window.seconds, window.long) == ("vm", 50.0, 0.1, False)


def test_nobody_is_heard_before_hello() -> None:
    guest = Guest()
    assert guest.say(Kind.SHORT, _window(1)) == []
    assert guest.inbox.dropped == {"session": 1}


def test_what_is_repeated_or_late_is_dropped(guest: Guest) -> None:
    frame = encode(Kind.SHORT, guest.session, 10, _window(1_000_000))
    assert len(guest.inbox.feed(frame, 1.0)) == 1
    assert guest.inbox.feed(frame, 1.0) == []
    assert guest.say(Kind.SHORT, _window(2_000_000), sequence=9) == []
    assert guest.inbox.dropped == {"replayed": 2}
    assert guest.say(Kind.SHORT, _window(1_000_000), sequence=11) == []
    assert guest.inbox.dropped["order"] == 1
    assert len(guest.say(Kind.SHORT, _window(1_100_000), sequence=12)) == 1


def test_an_agent_that_is_gone_does_not_come_back(guest: Guest) -> None:
    hello = encode(Kind.HELLO, guest.session, 99, as_json(HELLO))
    guest.session = 6
    guest.hello()
    assert guest.inbox.feed(hello, 1.0) == []
    assert guest.inbox.dropped == {"replayed": 1}
    assert len(guest.say(Kind.SHORT, _window(1))) == 1


def test_a_session_stays_retired_on_the_next_connection(guest: Guest) -> None:
    retired = guest.inbox._retired
    guest.session = 6
    guest.hello()
    again = Guest(5)
    again.inbox = Inbox("vm", retired)
    assert again.hello() == []


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.HELLO, b"{}"),
        (Kind.HELLO, b"[" * 30_000),
        (Kind.HELLO, as_json({**HELLO, "short": ["x"] * (MAX_FIELDS + 1)})),
        (Kind.HELLO, as_json({**HELLO, "short": ["x" * 65]})),
        (Kind.HELLO, as_json({**HELLO, "agent": "one"})),
        (Kind.SHORT, b"short"),
        (Kind.SHORT, _window(10, (1.0,))),
        (Kind.SHORT, _window(10, length_us=0)),
        (Kind.SHORT, _window(10, length_us=2**31)),
        (Kind.PROCESSES, b'{"processes": [{"name": "x", "cpu_cores": -1}]}'),
        (Kind.PROCESSES, b'{"processes": [{"name": "x", "cpu_cores": 1e400}]}'),
        (Kind.PROCESSES, as_json({"processes": [{"name": "x"}] * 65})),
        (Kind.REPLY, b'{"id": "x"}'),
        (Kind.REPLY, b'{"id": 1, "result": ' + b"[" * 30_000),
        (Kind.REPLY, b"\xff\xfe"),
    ],
)
def test_what_is_not_what_it_says_is_dropped(guest: Guest, kind: Kind, payload: bytes) -> None:
    assert guest.say(kind, payload) == []
    assert guest.inbox.dropped == {"malformed": 1}
    assert len(guest.say(Kind.SHORT, _window(20))) == 1


@pytest.mark.parametrize("kind", [0, 9, Kind.REQUEST, Kind.HINT, 255])
def test_kinds_that_a_guest_does_not_say_are_dropped(guest: Guest, kind: int) -> None:
    assert guest.say(kind, b"{}") == []
    assert guest.inbox.dropped == {"kind": 1}


def test_impossible_numbers_are_unknown(guest: Guest) -> None:
    values = [1.0] * len(SHORT_FIELDS)
    values[:5] = [math.inf, -math.inf, math.nan, -1.0, 1e30]
    (window,) = guest.say(Kind.SHORT, _window(10, tuple(values)))
    assert np.isnan(window.values[:5]).all()
    assert (window.values[5:] == 1.0).all()


def test_a_guest_that_floods_is_heard_no_more_than_it_may_say(guest: Guest) -> None:
    heard = sum(len(guest.say(Kind.SHORT, _window(n + 1), now=100.0)) for n in range(5_000))
    assert heard < 500
    assert guest.inbox.dropped["flood"] == 5_000 - heard
    assert len(guest.say(Kind.SHORT, _window(10_000), now=101.0)) == 1


def test_a_late_message_does_not_move_the_clock(guest: Guest) -> None:
    at = [
        guest.say(Kind.SHORT, _window(end_us), now)[0].at
        for end_us, now in ((10_000_000, 100.05), (10_100_000, 100.11), (10_200_000, 103.0), (10_300_000, 103.0))
    ]
    assert at == pytest.approx([100.05, 100.11, 100.21, 100.31], abs=0.001)


def test_busiest_and_replies_come_as_plain_values(guest: Guest) -> None:
    (busiest,) = guest.say(Kind.PROCESSES, as_json({"processes": [{"name": "redis", "cpu_cores": 0.5}], "more": 1}))
    assert isinstance(busiest, Busiest)
    assert busiest.processes[0]["cpu_cores"] == 0.5
    (reply,) = guest.say(Kind.REPLY, as_json({"id": 3, "result": {"a": [1]}}))
    assert isinstance(reply, Reply)
    assert result_of(reply) == {"a": [1]}


PIECES = st.one_of(
    st.binary(max_size=200),
    st.builds(
        encode,
        st.sampled_from([*Kind, 0, 9]),
        st.integers(0, 3),
        st.integers(0, 20),
        st.one_of(
            st.binary(max_size=200),
            st.just(as_json(HELLO)),
            st.builds(_window, st.integers(0, 2**40)),
            st.recursive(
                st.none() | st.floats() | st.text(max_size=5),
                lambda x: st.lists(x) | st.dictionaries(st.text(max_size=9), x),
            ).map(lambda value: json.dumps(value).encode()[:30_000]),
        ),
    ),
)


@settings(max_examples=300)
@given(st.lists(st.tuples(PIECES, st.floats(0, 1e4)), max_size=30))
def test_whatever_comes_nothing_is_raised_and_order_is_kept(pieces: list[tuple[bytes, float]]) -> None:
    inbox = Inbox("vm")
    for chunk, now in pieces:
        for message in inbox.feed(chunk, now):
            if isinstance(message, GuestWindow):
                known = message.values[~np.isnan(message.values)]
                assert ((known >= 0) & (known <= 1e15)).all()
                assert math.isfinite(message.at)
    assert len(inbox._reader._buffer) < 64 * 1024
    assert all(count > 0 for count in inbox.dropped.values())


def test_memory_does_not_grow_with_what_comes() -> None:
    """Thousands of conversations, sound and broken; nothing of them stays."""
    broken = [b"noise", encode(Kind.HELLO, 9, 1, b"{"), encode(Kind.REPLY, 5, 3, b'{"id": 1, "result": [[]]}')]

    def conversations(count: int) -> None:
        for _ in range(count):
            guest = Guest()
            guest.hello()
            for chunk in broken:
                guest.inbox.feed(chunk, 1.0)
            guest.say(Kind.SHORT, _window(10, operations=((0, 1),)))

    conversations(200)
    tracemalloc.start()
    try:
        conversations(50)
        before = tracemalloc.get_traced_memory()[0]
        conversations(2_000)
        assert tracemalloc.get_traced_memory()[0] - before < 50_000
    finally:
        tracemalloc.stop()
