"""Tokens hold for whom, for what and for how long they were made, and their secrets are nowhere."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapters.files.token_book import NAME, FileTokenBook
from forestall.model.errors import StoreError, WrongUse
from forestall.ports.token_book import Role
from forestall.service.access.tokens import DAY_SECONDS, Caller, Tokens

NOW = 1_000_000.0


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(FileTokenBook(tmp_path))


def test_a_token_is_known_again_until_it_ends(tokens: Tokens) -> None:
    token = tokens.issue("grafana", Role.VIEWER, None, 1.0, NOW)
    assert tokens.who(token, NOW) == Caller("grafana", Role.VIEWER, None)
    assert tokens.who(token, NOW + DAY_SECONDS - 1.0) is not None
    assert tokens.who(token, NOW + DAY_SECONDS) is None


def test_the_secret_is_not_kept_and_only_the_owner_reads_the_file(tokens: Tokens, tmp_path: Path) -> None:
    token = tokens.issue("ops", Role.ADMIN, None, 1.0, NOW)
    secret = token.rsplit("_", 1)[-1]
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


@given(st.text(max_size=80))
def test_what_was_made_up_is_nobodys(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    tokens = Tokens(FileTokenBook(tmp_path_factory.mktemp("book")))
    token = tokens.issue("ops", Role.ADMIN, None, 1.0, NOW)
    assert tokens.who(text, NOW) is None
    handle = token.split("_")[1]
    assert tokens.who(f"forestall_{handle}_{text}", NOW) is None
    assert tokens.who(token + text, NOW) is None or not text


def test_rotated_the_old_one_holds_for_a_while(tokens: Tokens) -> None:
    old = tokens.issue("ops", Role.OPERATOR, ["tenant-1"], 10.0, NOW)
    new = tokens.rotate("ops", 10.0, 3_600.0, NOW)
    caller = Caller("ops", Role.OPERATOR, frozenset({"tenant-1"}))
    assert tokens.who(old, NOW + 3_599.0) == tokens.who(new, NOW + 3_599.0) == caller
    assert tokens.who(old, NOW + 3_600.0) is None
    newest = tokens.rotate("ops", 10.0, 0.0, NOW + 1.0)
    assert tokens.who(new, NOW + 1.0) is None
    assert tokens.who(old, NOW + 1.0) is None, "the one before the last holds no more"
    assert tokens.who(newest, NOW + 1.0) == caller


def test_an_old_secret_never_holds_longer_than_it_was_made_for(tokens: Tokens) -> None:
    old = tokens.issue("ops", Role.OPERATOR, None, 1.0, NOW)
    tokens.rotate("ops", 10.0, 5 * DAY_SECONDS, NOW)
    assert tokens.who(old, NOW + DAY_SECONDS) is None


def test_who_came_in_may_stay_while_that_secret_holds(tokens: Tokens) -> None:
    came = tokens.who(tokens.issue("ops", Role.OPERATOR, None, 10.0, NOW), NOW)
    assert came is not None
    assert tokens.holds(came, NOW)
    assert not tokens.holds(came, NOW + 10 * DAY_SECONDS)
    tokens.rotate("ops", 10.0, 60.0, NOW)
    assert tokens.holds(came, NOW + 59.0)
    assert not tokens.holds(came, NOW + 60.0), "the new secret is another's"
    tokens.revoke("ops")
    tokens.issue("ops", Role.OPERATOR, None, 10.0, NOW)
    assert not tokens.holds(came, NOW), "as is another token of the same name"


def test_revoked_it_holds_no_more_also_for_who_has_the_book_open(tokens: Tokens, tmp_path: Path) -> None:
    token = tokens.issue("ops", Role.OPERATOR, None, 1.0, NOW)
    assert tokens.who(token, NOW) is not None
    Tokens(FileTokenBook(tmp_path)).revoke("ops")
    assert tokens.who(token, NOW) is None


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", "x" * 65, "é", "a/b"])
def test_a_name_is_a_name(tokens: Tokens, name: str) -> None:
    with pytest.raises(WrongUse, match="no name"):
        tokens.issue(name, Role.VIEWER, None, 1.0, NOW)


def test_what_cannot_be_meant_is_refused_and_changes_nothing(tokens: Tokens) -> None:
    tokens.issue("ops", Role.VIEWER, None, 1.0, NOW)
    before = tokens.records()
    for wrong in (
        lambda: tokens.issue("ops", Role.VIEWER, None, 1.0, NOW),
        lambda: tokens.issue("b", Role.VIEWER, [], 1.0, NOW),
        lambda: tokens.issue("b", Role.VIEWER, None, 0.0, NOW),
        lambda: tokens.issue("b", Role.VIEWER, None, float("nan"), NOW),
        lambda: tokens.rotate("ops", 1e9, 0.0, NOW),
        lambda: tokens.rotate("nobody", 1.0, 0.0, NOW),
        lambda: tokens.revoke("nobody"),
    ):
        with pytest.raises(WrongUse):
            wrong()
    assert tokens.records() == before


def test_what_several_make_at_once_is_all_there(tmp_path: Path) -> None:
    def make(k: int) -> str:
        return Tokens(FileTokenBook(tmp_path)).issue(f"token-{k}", Role.VIEWER, None, 1.0, NOW)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(24)))
    tokens = Tokens(FileTokenBook(tmp_path))
    assert {caller.name for each in made if (caller := tokens.who(each, NOW))} == {f"token-{k}" for k in range(24)}


def test_a_damaged_book_lets_nobody_in(tokens: Tokens, tmp_path: Path) -> None:
    token = tokens.issue("ops", Role.ADMIN, None, 1.0, NOW)
    (tmp_path / NAME).write_text('{"version": 1, "tokens": {"ops": {"role": "god"}}}')
    with pytest.raises(StoreError, match="damaged"):
        tokens.who(token, NOW)


def test_each_role_may_what_the_one_before_may() -> None:
    assert [[role.covers(needed) for needed in Role] for role in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_a_scope_leaves_out_other_groups_and_vms_in_none() -> None:
    scoped, free = Caller("a", Role.VIEWER, frozenset({"t1"})), Caller("b", Role.VIEWER)
    assert [scoped.sees(group) for group in ("t1", "t2", "")] == [True, False, False]
    assert all(free.sees(group) for group in ("t1", "t2", ""))
