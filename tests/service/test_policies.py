"""Policies as versions: the last word counts, whoever had it, and nothing is forgotten."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import pytest
from daemons import Site, end, wait_until

from forestall.adapters.files.policy_book import FilePolicyBook
from forestall.demand.policy import PolicySet
from forestall.model.errors import BadPolicy, StoreError, WrongUse
from forestall.service.control import ask
from forestall.service.policies import Policies
from forestall.settings import parse_policy

FILE = "/etc/forestall/policy.toml"


def rule(name: str) -> str:
    """A policy with one rule, which another name has with other values."""
    return f'[[rule]]\nname = "{name}"\nceiling_ratio = {len(name) / 10}\n'


class Stated:
    """The file that a configuration names, or None and nothing."""

    def __init__(self) -> None:
        self.file: tuple[str | None, str] = None, ""

    def says(self, text: str | None) -> None:
        """From now on."""
        self.file = (None, "") if text is None else (FILE, text)

    def __call__(self) -> tuple[str | None, str]:
        return self.file


def policies(folder: Path, stated: Stated) -> Policies:
    """As a process has them that has just begun."""
    return Policies(FilePolicyBook(folder), parse_policy, stated, lambda: 1_000.0)


@pytest.fixture
def stated() -> Stated:
    return Stated()


@pytest.fixture
def one(tmp_path: Path, stated: Stated) -> Policies:
    return policies(tmp_path, stated)


def names(found: object) -> list[str]:
    """Rules of a policy set."""
    return [each.name for each in found.rules]  # type: ignore[attr-defined]


def test_the_last_word_counts(one: Policies, stated: Stated, tmp_path: Path) -> None:
    def taken_up(text: str | None, by: Policies = one) -> list[str]:
        stated.says(text)
        return names(by.take_up())

    assert one.take_up() is None
    assert one.view()["number"] == 0
    assert taken_up(rule("file")) == ["file"]
    assert one.apply(rule("applied"), "ann").number == 2  # type: ignore[union-attr]
    assert names(one.in_force()) == ["applied"]
    assert taken_up(rule("file")) == ["applied"], "the file says what it said"
    assert taken_up(rule("file"), policies(tmp_path, stated)) == ["applied"], "also after a new start"
    assert taken_up(rule("changed")) == ["changed"]
    assert taken_up(None) == [], "no file is named any more"
    assert taken_up(None) == []
    assert one.apply(rule("applied"), "ann", "once more").number == 5  # type: ignore[union-attr]
    assert taken_up(None) == ["applied"]
    assert [(each["number"], each["by"]) for each in one.views()] == [
        (1, FILE), (2, "ann"), (3, FILE), (4, ""), (5, "ann"),
    ]  # fmt: skip
    assert one.view(1)["text"] == rule("file")


def test_a_file_that_was_changed_before_is_older_than_what_is_applied(
    one: Policies, stated: Stated, tmp_path: Path
) -> None:
    stated.says(rule("changed"))
    assert one.apply(rule("applied"), "ann", base=0) is None, "there is a version that they have not seen"
    assert (one.number, names(one.in_force())) == (1, ["changed"]), "which is in force now"
    assert one.apply(rule("applied"), "ann", base=1).number == 2  # type: ignore[union-attr]
    assert names(policies(tmp_path, stated).take_up()) == ["applied"], "a new start does not undo it"
    stated.says("weight =")
    assert one.apply(rule("another"), "ann").number == 3, "nor does a file that cannot be read"  # type: ignore[union-attr]


def test_the_same_is_no_new_version_and_what_is_late_none_at_all(one: Policies) -> None:
    one.apply(rule("a"), "ann")
    assert one.apply(rule("a"), "bob", base=1).number == 1  # type: ignore[union-attr]
    assert one.apply(rule("b"), "bob", base=0) is None
    assert one.apply_and_view(rule("b"), "bob", base=0) == {"applied": False, "policy": one.view(1)}
    with pytest.raises(WrongUse, match="version 2"):
        one.view(2)
    with pytest.raises(WrongUse, match="printable"):
        one.apply(rule("b"), "bob", "two\nlines")


def test_what_cannot_be_read_changes_nothing(one: Policies, stated: Stated) -> None:
    stated.says(rule("a"))
    one.take_up()
    stated.says("weight =")
    for do in (one.take_up, one.look, lambda: one.apply("weight =", "ann")):
        with pytest.raises(BadPolicy, match="line 1"):
            do()
    assert len(one.views()) == 1
    assert names(one.in_force()) == ["a"]
    assert names(one.kept()) == ["a"]


def test_looking_at_a_file_keeps_nothing(one: Policies, stated: Stated) -> None:
    stated.says(rule("a"))
    assert names(one.look()) == ["a"]
    assert one.views() == []


def test_a_text_that_was_changed_behind_its_back_is_not_believed(one: Policies, stated: Stated, tmp_path: Path) -> None:
    one.apply(rule("a"), "ann")
    (tmp_path / "policies/000001.toml").write_text(rule("b"))
    with pytest.raises(StoreError, match="not as it was kept"):
        policies(tmp_path, stated).take_up()


def test_who_comes_at_once_does_not_undo_what_another_applied(tmp_path: Path) -> None:
    slow, reading = threading.Event(), threading.Event()

    def read(text: str, name: str) -> PolicySet:
        if "slow" in text:
            reading.set()
            assert slow.wait(20)
        return parse_policy(text, name)

    one = Policies(FilePolicyBook(tmp_path), read)
    one.apply(rule("first"), "ann")
    late = threading.Thread(target=lambda: one.apply(rule("slow"), "bob", base=1))
    late.start()
    assert reading.wait(20)
    quick = threading.Thread(target=lambda: one.apply(rule("quick"), "ann", base=1))
    quick.start()
    slow.set()
    late.join()
    quick.join()
    newest = one.view()
    assert newest["number"] == one.number == 2
    assert names(one.in_force())[0] in newest["text"], "what is in force is the newest version"


def test_a_daemon_takes_up_what_is_applied_and_keeps_it(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        (tmp_path / "policy.toml").write_text(rule("file"))
        (tmp_path / "forestall.toml").write_text(
            f'policies = "policy.toml"\n{(tmp_path / "forestall.toml").read_text()}', "utf-8"
        )
        draft = tmp_path / "draft.toml"
        draft.write_text(rule("early"))
        early = site.call("policy", "apply", str(draft))
        assert early.returncode == 0, early.stderr
        daemon = site.daemon("advise", connect=f"simulated:{tmp_path}/trace.parquet")

        def holds(name: str) -> bool:
            found = site.state.exists() and ask(site.state, {"command": "explain", "vm": "vm-0"})
            return bool(found) and all(name in each["policies"] for each in found)

        wait_until(lambda: holds("early"), "a cycle with what was applied before")
        draft.write_text(rule("later-on"))
        done = site.call("policy", "apply", str(draft), "--comment", "now", "--base", "2", "--json")
        assert json.loads(done.stdout)["number"] == 3, done.stderr
        wait_until(lambda: holds("later-on"), "a cycle with what was applied now")
        refused = site.call("policy", "apply", str(draft), "--base", "2")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        (tmp_path / "policy.toml").write_text(rule("reloaded!"))
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: holds("reloaded!"), "a cycle with the changed file")
        end(daemon)
        shown = site.call("policy", "versions", "--json")
        assert [each["origin"] for each in json.loads(shown.stdout)] == ["file", "applied", "applied", "file"]
        assert site.call("policy", "text", "3").stdout == rule("later-on")
        deeds = site.call("audit", "export").stdout.splitlines()
        assert [json.loads(line)["deed"]["result"].split(":")[0] for line in deeds] == ["asked", "done"] * 2 + [
            "asked",
            "failed",
        ]
