"""``forestall model``: train on a trace, see what took over and what did not, go back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forestall.adapters.files.trust_book import FileTrustBook
from forestall.bootstrap.models import can_train
from forestall.cli import main
from forestall.model.resources import Resource
from forestall.model.samples import FloatArray, Grid, Trace
from forestall.ports.trust_book import GroupTerms
from forestall.replay.trace_writer import write_trace

pytestmark = pytest.mark.skipif(not can_train(), reason="torch or onnx is not installed (the extra train)")

STEPS, VMS = 700, 8


def traced(path: Path, demand: FloatArray) -> Path:
    names = tuple(f"vm-{i}" for i in range(demand.shape[1]))
    limit = np.full(demand.shape, 8.0)
    write_trace(Trace(Grid(0, 300, len(demand)), names, {Resource.CPU: demand}, {Resource.CPU: limit}), path)
    return path


def saw_teeth() -> FloatArray:
    """What a general model cannot know: each VM counts to seven."""
    generator = np.random.default_rng(4)
    counted = (np.arange(STEPS)[:, None] + np.arange(VMS)) % 7
    return 0.2 + 0.4 * counted + generator.gamma(2.0, 0.02, (STEPS, VMS))


def listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["model", "list", "--models", str(folder), "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return [row for row in rows if row["resource"] == "cpu"]


def test_a_better_model_takes_over_and_can_be_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, models = traced(tmp_path / "trace.parquet", saw_teeth()), tmp_path / "models"
    assert [(row["version"], row["state"]) for row in listed(models, capsys)] == [("shipped", "in use")]
    assert main(["model", "train", str(trace), "--models", str(models)]) == 0
    assert "cpu: takes over: better than the model before" in capsys.readouterr().out
    rows = listed(models, capsys)
    assert [(row["version"], row["state"]) for row in rows] == [("shipped", ""), ("1", "in use")]
    assert rows[1]["scores"]["candidate"] < rows[1]["scores"]["current"]
    assert rows[1]["trained_on"].startswith(f"{VMS} VMs, 630 intervals of 300 s")
    assert main(["model", "rollback", "cpu", "--models", str(models)]) == 0
    assert "comes with Forestall" in capsys.readouterr().out
    assert [(row["version"], row["state"]) for row in listed(models, capsys)] == [
        ("shipped", "in use"),
        ("1", "refused"),
    ]
    assert main(["model", "rollback", "cpu", "--models", str(models)]) == 2


def test_a_constant_past_is_refused_and_the_reason_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, models = traced(tmp_path / "trace.parquet", np.full((STEPS, VMS), 0.5)), tmp_path / "models"
    assert main(["model", "train", str(trace), "--models", str(models), "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)["cpu"]
    assert verdict == {"accepted": False, "reason": "the samples do not change", "scores": {}}
    rows = listed(models, capsys)
    assert [(row["state"], row["reason"]) for row in rows[1:]] == [("refused", "the samples do not change")]


def test_what_the_trace_lacks_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = traced(tmp_path / "trace.parquet", saw_teeth())
    assert main(["model", "train", str(trace), "--models", str(tmp_path / "m"), "--resources", "memory"]) == 2
    assert "has no memory" in capsys.readouterr().err
    assert main(["model", "rollback", "cpu,memory", "--models", str(tmp_path / "m")]) == 2
    assert "one resource at a time" in capsys.readouterr().err


def test_vms_that_do_not_trust_each_other_are_not_learned_from_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, policies = traced(tmp_path / "trace.parquet", saw_teeth()), tmp_path / "policy.toml"
    policies.write_text('[trust_groups]\nred = ["vm-1", "vm-2"]\n', "utf-8")
    command = ["model", "train", str(trace), "--models", str(tmp_path / "models"), "--policies", str(policies)]
    assert main(command) == 2
    assert "the VMs are of 2 trust groups" in capsys.readouterr().err
    FileTrustBook(tmp_path).write({"red": GroupTerms(("vm-1",))})
    command = ["model", "train", str(trace), "--models", str(tmp_path / "models"), "--trust-groups", str(tmp_path)]
    assert main(command) == 2
    assert "the VMs are of 2 trust groups" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()
