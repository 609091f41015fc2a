"""A browser is let in as whoever signed in, as long as their token holds and no longer than half a day."""

from __future__ import annotations

from forestall.ports.token_book import Role
from forestall.service.access.sessions import MOST, MOST_OF_ONE, SESSION_SECONDS, Sessions
from forestall.service.access.tokens import Caller

NOW = 1_000_000.0
ANN, BOB = Caller("ann", Role.ADMIN, handle="a"), Caller("bob", Role.VIEWER, frozenset({"tenant-1"}), handle="b")


def always(caller: Caller, now: float) -> bool:
    return True


def test_a_session_is_whose_it_is_until_it_ends() -> None:
    sessions = Sessions(always)
    ann, bob = sessions.begin(ANN, NOW), sessions.begin(BOB, NOW)
    found = sessions.of(ann, NOW)
    assert found is not None
    assert found.caller == ANN
    assert (other := sessions.of(bob, NOW)) is not None
    assert other.caller.groups == {"tenant-1"}
    assert sessions.of(ann, NOW + SESSION_SECONDS) is None
    assert sessions.of(ann, NOW) is None, "what has ended does not come back when a clock does"
    assert sessions.of("", NOW) is None
    assert sessions.of("\udcff", NOW) is None
    sessions.end(bob)
    sessions.end(bob)
    assert sessions.of(bob, NOW) is None


def test_a_change_is_meant_by_who_has_the_mark_of_this_session() -> None:
    sessions = Sessions(always)
    first, second = (sessions.of(sessions.begin(ANN, NOW), NOW) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.meant(first.mark)
    assert not first.meant(second.mark)
    assert not first.meant("")
    assert not first.meant("\udcff")


def test_it_ends_with_the_token() -> None:
    held = {"a": True}
    sessions = Sessions(lambda caller, now: held[caller.handle])
    name = sessions.begin(ANN, NOW)
    assert sessions.of(name, NOW) is not None
    held["a"] = False
    assert sessions.of(name, NOW) is None
    held["a"] = True
    assert sessions.of(name, NOW) is None


def test_there_are_only_so_many_and_the_oldest_go() -> None:
    sessions = Sessions(always)
    bob = sessions.begin(BOB, NOW)
    names = [sessions.begin(ANN, NOW + k) for k in range(MOST_OF_ONE + 3)]
    held = [sessions.of(name, NOW) is not None for name in names]
    assert held == [False] * 3 + [True] * MOST_OF_ONE
    assert sessions.of(bob, NOW) is not None, "those of others stay"
    for k in range(MOST):
        sessions.begin(Caller("many", Role.VIEWER, handle=str(k)), NOW)
    assert sessions.of(bob, NOW) is None
