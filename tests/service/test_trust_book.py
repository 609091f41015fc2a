"""Trust groups changed while the system runs, beside the policy file: kept, or refused in one line."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from daemons import Site, end, wait_until

from forestall.adapters.files.trust_book import FileTrustBook
from forestall.demand.policy import PolicySet
from forestall.model.errors import StoreError, WrongUse
from forestall.ports.trust_book import GroupTerms
from forestall.service.control import SOCKET
from forestall.service.trust_groups import TrustGroups

FILE = PolicySet(trust_groups={"red": ("red-*",), "blue": ("blue-*", "red-9")})


class Book:
    """In memory; refuses to be written when told to."""

    def __init__(self) -> None:
        self.groups: Mapping[str, GroupTerms] = {}
        self.full = False

    def read(self) -> Mapping[str, GroupTerms]:
        return self.groups

    def write(self, groups: Mapping[str, GroupTerms]) -> None:
        if self.full:
            raise StoreError("the disk is full")
        self.groups = dict(groups)


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def groups(book: Book) -> TrustGroups:
    groups = TrustGroups(book)
    groups.beside(FILE)
    return groups


def trust(groups: TrustGroups, *vm_ids: str) -> tuple[str, ...]:
    policies = groups.policies()
    assert policies is not None
    return policies.trust(vm_ids)


def test_the_book_counts_before_the_file(groups: TrustGroups) -> None:
    assert trust(groups, "red-1", "red-9", "green-1") == ("red", "red", "")
    groups.create("green")
    groups.add("green", ["red-1", "green-1"])
    assert trust(groups, "red-1", "red-2", "green-1") == ("green", "red", "green")
    groups.remove("green", ["red-1"])
    assert trust(groups, "red-1", "green-1") == ("red", "green")
    groups.delete("green")
    assert trust(groups, "green-1") == ("",)


def test_a_vm_is_in_one_group(groups: TrustGroups) -> None:
    groups.create("green")
    groups.add("green", ["x"])
    groups.add("blue", ["x", "y", "y"])
    assert trust(groups, "x", "y") == ("blue", "blue")
    assert groups.terms("green").members == ()
    assert groups.terms("blue").members == ("x", "y")


def test_without_policies_and_members_there_are_no_policies(book: Book) -> None:
    groups = TrustGroups(book)
    assert groups.beside(None) is None
    groups.create("green")
    assert groups.policies() is None
    groups.add("green", ["x"])
    assert trust(groups, "x", "y") == ("green", "")


def test_shadowing_and_horizon_belong_to_a_group_wherever_it_comes_from(groups: TrustGroups) -> None:
    groups.obey({"do": "enable-shadowing", "group": "red"})
    groups.obey({"do": "set-horizon", "group": "red", "seconds": 5})
    assert groups.terms("red") == GroupTerms((), True, 5.0)
    assert groups.terms("blue") == GroupTerms()
    groups.obey({"do": "disable-shadowing", "group": "red"})
    assert groups.terms("red") == GroupTerms((), False, 5.0)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"do": "create"}, "which trust group?"),
        ({"do": "create", "group": "red"}, "there is a trust group 'red' already"),
        ({"do": "create", "group": ""}, "'' is no name of a trust group"),
        ({"do": "create", "group": " a"}, "' a' is no name of a trust group"),
        ({"do": "create", "group": "a\nb"}, r"'a\\nb' is no name of a trust group"),
        ({"do": "create", "group": "x" * 129}, "is no name of a trust group"),
        ({"do": "delete", "group": "red"}, "the trust group 'red' is the policy file's"),
        ({"do": "delete", "group": "none"}, "there is no trust group 'none'; there are blue, red"),
        ({"do": "add", "group": "none", "vms": ["x"]}, "there is no trust group 'none'"),
        ({"do": "add", "group": "red"}, "which VMs?"),
        ({"do": "add", "group": "red", "vms": []}, "which VMs?"),
        ({"do": "add", "group": "red", "vms": [7]}, "which VMs?"),
        ({"do": "remove", "group": "red", "vms": ["red-1"]}, "'red-1' is in it by the policy file: change that"),
        ({"do": "remove", "group": "red", "vms": ["x"]}, "'x' is not in it"),
        ({"do": "set-horizon", "group": "red", "seconds": 0}, "a horizon of 0 s: must be at least 0.1"),
        ({"do": "set-horizon", "group": "red", "seconds": float("nan")}, "a horizon of nan s: must be at least"),
        ({"do": "set-horizon", "group": "red", "seconds": True}, "a horizon of how many seconds?"),
        ({"do": "explode", "group": "red"}, "'explode' is nothing that can be done with a trust group"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    groups: TrustGroups, book: Book, request_: dict[str, object], why: str
) -> None:
    with pytest.raises(WrongUse, match=why):
        groups.obey(request_)
    assert book.groups == {}


def test_what_could_not_be_kept_has_not_happened(groups: TrustGroups, book: Book) -> None:
    groups.create("green")
    book.full = True
    with pytest.raises(StoreError):
        groups.add("green", ["x"])
    assert trust(groups, "x") == ("",)
    assert groups.names() == ("blue", "green", "red")


def test_a_view_says_who_is_there_and_who_was_put_there(groups: TrustGroups) -> None:
    groups.add("blue", ["x"])
    views = groups.views({"x": "blue", "red-1": "red", "alone": ""})
    assert [(view["group"], view["vms"], view["members"], view["by_policy"]) for view in views] == [
        ("blue", ["x"], ["x"], True),
        ("red", ["red-1"], [], True),
    ]


def test_the_file_is_kept_and_a_damaged_one_refused(tmp_path: Path) -> None:
    book = FileTrustBook(tmp_path)
    assert book.read() == {}
    written = {"g": GroupTerms(("a", "b"), True, 2.5), "h": GroupTerms()}
    book.write(written)
    assert FileTrustBook(tmp_path).read() == written
    for damage in ("{", '{"version": 2}', '{"version": 1}', '{"version": 1, "groups": {"g": {"members": 7}}}', "[]"):
        (tmp_path / "trust-groups.json").write_text(damage)
        with pytest.raises(StoreError, match=r"trust-groups\.json: is damaged"):
            book.read()


@pytest.mark.slow
def test_groups_are_changed_with_and_without_a_daemon_and_survive_it(tmp_path: Path) -> None:
    def ask(*words: str) -> dict[str, Any]:
        done = site.call("trust-group", *words, "--json")
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        assert [view["group"] for view in found] == ["green"]
        return found[0]

    with Site(tmp_path) as site:
        ask("create", "green")
        assert ask("add", "green", "vm-1", "vm-9")["members"] == ["vm-1", "vm-9"]
        daemon = site.daemon("advise")
        wait_until(lambda: (site.state / SOCKET).exists() and ask("list")["vms"] == ["vm-1"], "the daemon knows it")
        assert ask("add", "green", "vm-2")["vms"] == ["vm-1", "vm-2"]
        assert ask("set-horizon", "green", "7")["horizon_seconds"] == 7.0
        refused = site.call("trust-group", "add", "blue", "vm-3")
        assert refused.returncode == 2
        assert refused.stderr == "forestall: there is no trust group 'blue'; there are green\n"
        assert end(daemon, signal.SIGKILL)[0] == -signal.SIGKILL
        found = ask("list")
        assert (found["members"], found["horizon_seconds"]) == (["vm-1", "vm-2", "vm-9"], 7.0)
        refused = site.call("trust-group", "add", "blue", "vm-3")
        assert refused.returncode == 2
        shown = site.call("trust-group", "list")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "green" in shown.stdout
