"""The page for operators names every field that they can see, and every file."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from forestall.demand.view import LoopView, PoolView, VmView
from forestall.model.decision import Decision, Outcome
from forestall.model.mode import Mode
from forestall.ports.guest_channel import ChannelState
from forestall.service.configuration_document import KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
NAMED = set(re.findall(r"`([\w./*-]+)`", PAGE))


@pytest.mark.parametrize(
    "kind", [Decision, Outcome, LoopView, PoolView, VmView, ChannelState], ids=lambda kind: kind.__name__
)
def test_every_field_is_explained(kind: type) -> None:
    # An outcome names its action, which is the decision's.
    assert [field.name for field in fields(kind) if field.name not in NAMED and field.name != "action"] == []


def test_every_mode_is_explained() -> None:
    assert {mode.value for mode in Mode} <= NAMED


def test_keys_that_are_mentioned_exist() -> None:
    known = {key for keys in KEYS.values() for key in keys}
    mentioned = {"canary_share", "crashes", "lease_seconds", "stale_seconds", "recover_seconds", "clock_jump_seconds"}
    assert mentioned <= known & NAMED
