"""What policies would have done: by the command, and through the API of a daemon, whose process is confined."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from daemons import Site, steady_trace, wait_until
from test_api_process import answers, free_port

from forestall.bootstrap.api import keeping_of
from forestall.cli import main
from forestall.model.resources import Resource
from forestall.model.samples import Grid
from forestall.replay import dry_run as module
from forestall.replay.scores.totals import vm_totals
from forestall.replay.trace_writer import write_trace
from forestall.service.api.documents import NewReplay
from forestall.service.api.jobs import ReplayFile

pytestmark = pytest.mark.slow
CEILING = '[[rule]]\nname = "less"\nvms = ["vm-2"]\nceiling_ratio = 0.2\n'
"""Of 4 cores: about what it wants on average, so that it falls short half of the time."""


def changed(found: dict[str, Any]) -> dict[tuple[str, str], tuple[float, float]]:
    """By VM and resource, in which share of the intervals it fell short, and would have."""
    return {
        (row["vm"], row["resource"]): (row["before"]["short_share"], row["after"]["short_share"])
        for row in found["changed"]
    }


def test_a_trace_under_two_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, draft = tmp_path / "trace.parquet", tmp_path / "draft.toml"
    write_trace(steady_trace(4, 420), trace)
    draft.write_text(CEILING)
    words = ["policy", "dry-run", str(draft), "--trace", str(trace), "--quiet", "--since", "1772445600"]
    assert main([*words, "--state-folder", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["since"], found["vms"], found["step_seconds"]) == (1_772_445_600, 4, 300)
    less = changed(found)
    assert set(less) == {("vm-2", "cpu")} or set(less) == {("vm-2", "cpu"), ("vm-2", "memory")}
    before, after = less["vm-2", "cpu"]
    assert before < 0.05
    assert 0.3 < after < 0.7
    cpu = found["resources"][0]
    assert cpu["demanded"] < cpu["after"]["allocated"] < cpu["before"]["allocated"] <= cpu["limit"] == 16.0


def test_averages_are_over_what_there_is() -> None:
    steps, resource = 100, Resource.NET_RX
    run: Any = SimpleNamespace(
        trace=SimpleNamespace(grid=Grid(0, 60, steps), resource=resource, vm_ids=("a",)),
        settings=SimpleNamespace(evaluate_index=0),
    )
    demand, endless = np.full((steps, 1), 4.0), np.full((steps, 1), np.inf)
    ten = np.where(np.arange(steps)[:, None] < 50, np.nan, 10.0)  # nothing was decided in the first half
    before, after = (vm_totals(demand, endless, given, 60.0) for given in (ten, ten / 5))
    all_vms = module._side_by_side(run, before, after)
    assert (all_vms["demanded"], all_vms["limit"]) == (4.0, None)
    assert (all_vms["before"]["allocated"], all_vms["after"]["allocated"]) == (10.0, 2.0)
    (one,) = module._changed(run, before, after)
    assert (one["demanded"], one["before"]["allocated"], one["after"]["allocated"]) == (4.0, 10.0, 2.0)
    assert (one["before"]["short_share"], one["after"]["short_share"]) == (0.0, 0.5)


def test_nothing_was_recorded_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draft = tmp_path / "draft.toml"
    draft.write_text(CEILING)
    assert main(["policy", "dry-run", str(draft), "--state-folder", str(tmp_path)]) == 2
    assert "nothing was recorded" in capsys.readouterr().err


def test_through_the_api_on_what_the_daemon_has_recorded(tmp_path: Path) -> None:
    port = free_port()
    with Site(tmp_path, vms=4) as site:
        with (tmp_path / "forestall.toml").open("a") as file:
            file.write(f'[api]\nlisten = "127.0.0.1:{port}"\n')
        site.daemon("advise")
        wait_until(answers(port), "the API answers")
        token = site.call("token", "create", "ops", "--role", "admin").stdout.strip()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=60.0
        ) as client:
            wait_until(lambda: client.get("/api/v1/hosts").json()["items"][0]["cycles"] > 300, "a day of history")
            refused = client.post("/api/v1/policies/dry-runs", json={"text": CEILING.replace("0.2", "2")})
            assert refused.status_code == 422
            assert "line 4" in refused.json()["detail"]
            asked = client.post("/api/v1/policies/dry-runs", json={"text": CEILING, "last_seconds": 36_000})
            assert asked.status_code == 202, asked.text
            path = asked.headers["Location"]
            early = client.get(f"{path}/dry-run")
            assert early.status_code in (200, 409)

            def job() -> dict[str, Any]:
                found: dict[str, Any] = client.get(path).json()
                return found

            wait_until(lambda: job()["ended_at"], "it has ended")
            assert job()["state"] == "done", job()["why"]
            found = client.get(f"{path}/dry-run").json()
            assert found["vms"] == 4
            before, after = changed(found)["vm-2", "cpu"]
            assert after > before + 0.2
            assert client.get("/api/v1/jobs").json()["items"] == [job()]
            assert client.delete(path).json() == job(), "it has ended"
            history = tmp_path / "state/exports"
            assert len(list(history.iterdir())) == 1
        shown = site.call("policy", "dry-run", str(_draft(tmp_path)), "--last", "10h", "--quiet", "--json")
        assert shown.returncode == 0, shown.stderr
        before, after = changed(json.loads(shown.stdout))["vm-2", "cpu"]
        assert after > before + 0.2
        assert time.time() - min(path.stat().st_mtime for path in history.iterdir()) < 3_600.0


def _draft(folder: Path) -> Path:
    draft = folder / "draft.toml"
    draft.write_text(CEILING)
    return draft


def test_a_trace_that_is_given_is_replayed(tmp_path: Path) -> None:
    write_trace(steady_trace(2, 60), tmp_path / "trace.parquet")
    keeping = keeping_of(tmp_path / "kept", [])
    trace = keeping.traces.put((tmp_path / "trace.parquet").read_bytes(), "mine")
    asked = NewReplay(trace=trace.name, policy="static,reactive", resources=[Resource.CPU]).model_dump(mode="json")

    def prepare(folder: Path) -> dict[str, Any]:
        (folder / trace.path.name).write_bytes(trace.path.read_bytes())
        return {**asked, "file": trace.path.name, "policies": False}

    keeping.jobs.start()
    with closing(keeping.jobs):
        job = keeping.jobs.submit("replay", "ann", prepare)
        missing = {**asked, "file": "none.csv", "policies": False}
        wrong = keeping.jobs.submit("replay", "ann", lambda folder: missing)
        wait_until(lambda: keeping.jobs.view(wrong.name).state.has_ended, "both have ended")  # type: ignore[union-attr]
    done, failed = (keeping.jobs.view(each.name) for each in (job, wrong))
    assert (done.state, done.why) == ("done", "")
    out = keeping.jobs.folder(job) / "out"
    assert json.loads((out / "summary.json").read_text())
    assert {path.name for path in out.iterdir()} >= {each.value for each in (ReplayFile.REPORT, ReplayFile.ALLOCATIONS)}
    assert not list(keeping.jobs.folder(job).glob("trace.*")), "what it was given is not kept twice"
    assert failed.state == "failed"
    assert "none.csv" in failed.why
