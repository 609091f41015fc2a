"""A daemon, a dry run and the doctor of a site whose samples are in PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from postgresql_server import Server, running_server

from forestall.adapters.host_facts.reader import problem_of_samples
from forestall.adapters.postgresql.store import PostgresqlStore
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace
from forestall.replay.trace_writer import write_trace

STEPS, CYCLES = 100, 30


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command on the site in a folder."""
    call = [sys.executable, "-m", "forestall", *words, "--config", str(folder / "forestall.toml")]
    return subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def site(tmp_path: Path, server: Server) -> tuple[Path, str]:
    """Folder with a recorded host and a configuration; and the URL of its database."""
    url, cpu = server.new_database(), np.random.default_rng(3).random((STEPS, 3))
    trace = Trace(Grid(1_772_409_600, 300, STEPS), ("a", "b", "c"), {Resource.CPU: cpu}, {Resource.CPU: cpu * 0 + 4.0})
    write_trace(trace, tmp_path / "trace.parquet")
    (tmp_path / "forestall.toml").write_text(
        f"connect = 'simulated:{tmp_path}/trace.parquet?clock=virtual'\nstate_folder = '{tmp_path}/state'\n"
        f"resources = ['cpu']\n[store]\nurl = '{url}'\n"
    )
    return tmp_path, url


def test_a_daemon_keeps_its_samples_there(site: tuple[Path, str]) -> None:
    folder, url = site
    done = command(folder, "run", "--cycles", str(CYCLES))
    assert done.returncode == 0, done.stderr
    store = PostgresqlStore(url)
    assert store.step_seconds == 300
    trace = store.history(since=1_772_409_600, until=1_772_409_600 + STEPS * 300)
    store.close()
    assert trace.vm_ids == ("a", "b", "c")
    assert np.count_nonzero(~np.isnan(trace.demand[Resource.CPU][:, 0])) >= CYCLES - 1
    copied = command(folder, "backup", "create", str(folder / "backup"))
    assert copied.returncode == 0, copied.stderr


def test_a_daemon_says_why_it_does_not_start(site: tuple[Path, str]) -> None:
    folder, url = site
    PostgresqlStore(url, step_seconds=60).close()
    done = command(folder, "run", "--cycles", "1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("is sampled every 60 s, not every 300 s")


def test_the_doctor_asks_and_changes_nothing(server: Server) -> None:
    url = server.new_database()
    assert problem_of_samples("") is None
    assert problem_of_samples(url, 10) == ""
    assert 'database "nowhere" does not exist' in (problem_of_samples(server.url("nowhere")) or "")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regnamespace('forestall')").fetchall() == [(None,)]


def test_the_doctor_says_why_the_database_does_not_do(server: Server) -> None:
    url = server.new_database()
    PostgresqlStore(url, step_seconds=60).close()
    assert problem_of_samples(url, 60) == ""
    assert (problem_of_samples(url, 10) or "").endswith("is sampled every 60 s, not every 10 s")
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO forestall.version VALUES (99)")
    assert "newer Forestall" in (problem_of_samples(url, 60) or "")
