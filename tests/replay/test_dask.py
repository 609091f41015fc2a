"""A replay on a Dask cluster: real schedulers and workers, and the same bytes as in processes of this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forestall.cli import main
from forestall.model.errors import BadInput, ForestallError, WrongUse
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace
from forestall.replay.trace_writer import write_trace

workers_module = pytest.importorskip("forestall.adapters.dask.workers", reason="the extra dask is not installed")

pytestmark = [pytest.mark.slow]
FILES = ("allocations.parquet", "risk.parquet", "decisions.parquet")


@contextmanager
def started(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of Dask, and the address that it says it is at."""
    command = [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]]
    around = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}  # it is sent functions of this file by name
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=around)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"(?:Scheduler at|Start worker at):\s+(tcp://\S+)", line):
                yield process, found[1]
                break
        else:
            raise AssertionError("it does not come up")
    finally:
        process.kill()
        process.communicate()


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """Address of a scheduler with two workers at this machine's own address, and the processes of the workers."""
    with started("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard") as (_, address):
        worker = ("dask_worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard", "--no-nanny",
                  "--local-directory", str(folder))  # fmt: skip
        with started(*worker) as (first, _), started(*worker) as (second, _):
            yield address, [first, second]


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster(tmp_path_factory.mktemp("dask")) as (address, _):
        yield address


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator, shape = np.random.default_rng(3), (600, 5)
    hours = np.arange(600)[:, None] / 12.0
    cpu = np.minimum(generator.gamma(8.0, 0.1, shape) * (1.5 + np.sin(hours / 24.0 * 2.0 * np.pi)), 4.0)
    limits = {Resource.CPU: np.full(shape, 4.0), Resource.MEMORY: np.full(shape, 2.0**33)}
    demand = {Resource.CPU: cpu, Resource.MEMORY: 2.0**30 * (1.0 + generator.random(shape))}
    path = tmp_path_factory.mktemp("trace") / "trace.parquet"
    write_trace(Trace(Grid(1_772_409_600, 300, 600), tuple(f"vm-{k}" for k in range(5)), demand, limits), path)
    return path


def replayed(trace: Path, out: Path, *more: str) -> None:
    words = ["replay", "demand", str(trace), "--out", str(out), "--quiet", "--decisions"]
    words += ["--policy", "forestall,autopilot_load_adjusted"]
    assert main([*words, *more]) == 0


def test_the_same_bytes_come_out(dask: str, trace: Path, tmp_path: Path) -> None:
    replayed(trace, tmp_path / "here")
    replayed(trace, tmp_path / "there", "--dask", dask)
    for name in FILES:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


def _square(number: int, tick: Any) -> int:
    for _ in range(number):
        tick(1)
    return number * number


def _wrong(tick: Any) -> None:
    raise BadInput("row 3 is none", path="trace")


def _die(tick: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_tasks_say_how_far_they_are_and_errors_are_theirs(dask: str) -> None:
    told: list[tuple[str, int, int]] = []
    with workers_module.DaskWorkers(dask, lambda *each: told.append(each)) as workers:
        futures = [workers.submit(f"square {k}", k, _square, k) for k in (3, 4)]
        assert [workers.result(each) for each in futures] == [9, 16]
        with pytest.raises(BadInput, match="trace: row 3 is none"):
            workers.result(workers.submit("wrong", 1, _wrong))
    assert told[:2] == [("square 3", 0, 3), ("square 4", 0, 4)]
    done = {name: sum(steps for each, steps, _ in told if each == name) for name in ("square 3", "square 4")}
    assert done == {"square 3": 3, "square 4": 4}


def test_a_cluster_whose_workers_die_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "ALONE_SECONDS", 2.0)
    with cluster(tmp_path) as (address, processes):
        with workers_module.DaskWorkers(address, lambda *_: None) as workers:
            future = workers.submit("die", 1, _die)
            with pytest.raises(ForestallError, match="worker"):
                workers.result(future)
        for process in processes:
            process.wait(30.0)


def test_no_scheduler_is_one_line(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(workers_module, "CONNECT_SECONDS", 1)
    assert main(["replay", "demand", str(trace), "--out", str(tmp_path / "o"), "--dask", "tcp://127.0.0.1:1"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "no Dask scheduler answers" in said[-1]
    assert not (tmp_path / "o").exists()
    with pytest.raises(WrongUse, match="no Dask scheduler"):
        workers_module.DaskWorkers("nonsense://", lambda *_: None)


def test_workers_of_another_version_are_refused(dask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "__version__", "9.9.9")
    with pytest.raises(WrongUse, match=r"and this is 9\.9\.9"):
        workers_module.DaskWorkers(dask, lambda *_: None)
