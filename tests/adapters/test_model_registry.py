"""The registry of models: versions that took over, going back, and a process that dies at any moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.adapters.files.model_registry import KEPT_VERSIONS, FileModelRegistry
from forestall.adapters.files.models import read_model, write_model
from forestall.bootstrap.models import models_in_use
from forestall.learning.recurrent.model import RecurrentModel
from forestall.learning.recurrent.succession import Verdict
from forestall.model.errors import BadInput, StoreError
from forestall.model.resources import Resource

CPU = Resource.CPU
WON = Verdict(True, "better", {"candidate": 1.0, "current": 2.0})


SHIPPED = models_in_use(None, print)[CPU]


def model(name: str) -> RecurrentModel:
    """A model that can be told apart."""
    return replace(SHIPPED, about=replace(SHIPPED.about, data_hash=name))


NOTED: list[str] = []


def in_use(registry: FileModelRegistry) -> str | None:
    found = registry.in_use(CPU, NOTED.append)
    return found.about.data_hash if found else None


def test_a_model_survives_the_disk(tmp_path: Path) -> None:
    write_model(tmp_path / "m", model("a"))
    assert read_model(tmp_path / "m") == model("a")


@pytest.mark.parametrize("harm", ["no folder", "no graph", "cut off", "other fields"])
def test_a_model_that_is_not_whole_is_refused_by_name(tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "m"
    if harm != "no folder":
        write_model(folder, model("a"))
    if harm == "no graph":
        (folder / "window.onnx").unlink()
    elif harm == "cut off":
        (folder / "about.json").write_text('{"kind": "ls')
    elif harm == "other fields":
        (folder / "about.json").write_text('{"kind": "lstm"}')
    with pytest.raises(BadInput, match=r"(?s).+"):
        read_model(folder)


def test_the_newest_that_took_over_is_in_use(tmp_path: Path) -> None:
    registry = FileModelRegistry(tmp_path)
    assert in_use(registry) is None
    assert registry.adopt(model("a"), WON, 10).number == 1
    assert registry.adopt(model("b"), WON, 20).number == 2
    again = FileModelRegistry(tmp_path)
    assert in_use(again) == "b"
    assert [(v.number, v.at, v.scores) for v in again.versions(CPU)] == [(1, 10, WON.scores), (2, 20, WON.scores)]
    assert again.in_use(Resource.MEMORY, print) is None


def test_going_back_uses_the_one_before_and_remembers_why(tmp_path: Path) -> None:
    registry = FileModelRegistry(tmp_path)
    registry.adopt(model("a"), WON, 10)
    registry.adopt(model("b"), WON, 20)
    back = registry.roll_back(CPU, "it loses", 30)
    assert back is not None
    assert back.number == 1
    assert in_use(registry) == "a"
    assert [(r["number"], r["at"], r["reason"]) for r in registry.refused(CPU)] == [(2, 30, "it loses")]
    assert registry.adopt(model("c"), WON, 40).number == 3, "a number is not used twice"
    assert registry.roll_back(CPU, "", 50) is not None
    assert registry.roll_back(CPU, "", 60) is None
    assert in_use(registry) is None


def test_a_refused_training_is_noted_and_changes_nothing(tmp_path: Path) -> None:
    registry = FileModelRegistry(tmp_path)
    registry.adopt(model("a"), WON, 10)
    registry.refuse(CPU, Verdict(False, "its forecasts are not numbers"), 20)
    assert in_use(registry) == "a"
    assert registry.refused(CPU)[-1]["reason"] == "its forecasts are not numbers"


def test_old_versions_are_swept_away(tmp_path: Path) -> None:
    registry = FileModelRegistry(tmp_path)
    for i in range(KEPT_VERSIONS + 4):
        registry.adopt(model(str(i)), WON, i)
    assert len(registry.versions(CPU)) == KEPT_VERSIONS
    assert len([p for p in (tmp_path / "cpu").iterdir() if p.is_dir()]) == KEPT_VERSIONS


def test_a_version_that_is_damaged_makes_way_for_the_one_before(tmp_path: Path) -> None:
    registry = FileModelRegistry(tmp_path)
    registry.adopt(model("a"), WON, 10)
    registry.adopt(model("b"), WON, 20)
    (tmp_path / "cpu" / "000002" / "step.onnx").unlink()
    NOTED.clear()
    assert in_use(registry) == "a"
    assert "version 2 of cpu is not used" in NOTED[0]
    registry.adopt(replace(model("c"), about=replace(model("c").about, inputs=3)), WON, 30)
    assert in_use(registry) == "a", "one of another version of Forestall"
    assert "version 3 of cpu is not used" in NOTED[-2]
    (tmp_path / "cpu" / "in_use.json").write_text('{"versions": [{"number": 1}]}')
    with pytest.raises(StoreError, match="damaged"):
        registry.in_use(CPU, print)


class Died(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("what", ["adopt", "roll back"])
def test_whatever_moment_it_dies_at_it_is_as_before_or_as_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    moments = 0
    for moment in range(200):
        folder = tmp_path / str(moment)
        registry = FileModelRegistry(folder)
        registry.adopt(model("a"), WON, 10)
        registry.adopt(model("b"), WON, 20)
        left = [moment]

        def dying(function: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                if left[0] == 0:
                    raise Died
                left[0] -= 1
                return function(*arguments, **named)

            return call

        with monkeypatch.context() as patch:
            for name in ("rename", "replace", "fsync", "open"):
                patch.setattr(os, name, dying(getattr(os, name)))
            patch.setattr(Path, "write_bytes", dying(Path.write_bytes))
            patch.setattr(Path, "write_text", dying(Path.write_text))
            try:
                if what == "adopt":
                    registry.adopt(model("c"), WON, 30)
                else:
                    registry.roll_back(CPU, "it loses", 30)
                died = False
            except Died:
                died = True
        after = FileModelRegistry(folder)
        assert in_use(after) in {"b", "c" if what == "adopt" else "a"}, moment
        assert after.adopt(model("d"), WON, 40).number >= 3
        assert not list(folder.glob("*/.aside-*")), "swept away"
        assert in_use(after) == "d"
        if not died:
            break
        moments += 1
    assert moments >= 4
