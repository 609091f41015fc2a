"""Training beside the loop: when it begins, what it takes up and takes back; nothing that it does stops the loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.clock.virtual import VirtualClock
from forestall.adapters.duckdb.store import DuckdbStore
from forestall.adapters.files.model_registry import FileModelRegistry
from forestall.adapters.files.originals import FileOriginals
from forestall.adapters.files.training_memory import FileTrainingMemory
from forestall.adapters.linux.training_process import TrainingProcess
from forestall.adapters.simulated.host import SimulatedHost
from forestall.adapters.simulated.memory_journal import MemoryJournal
from forestall.bootstrap.daemon import driver_settings
from forestall.bootstrap.retraining import retraining_of
from forestall.demand.driver import Driver, Ports
from forestall.learning.recurrent.model import About, RecurrentModel
from forestall.model.errors import BadInput, StoreError
from forestall.model.forecast import LEVELS
from forestall.model.resources import Resource
from forestall.model.samples import Grid, Trace
from forestall.ports.loading import load_history
from forestall.replay.generator import generate
from forestall.replay.workload import Workload
from forestall.service.configuration import Configuration
from forestall.service.retraining import Retraining, RetrainingSettings

DAY = 86_400.0
CPU = Resource.CPU


def model(name: str) -> RecurrentModel:
    return RecurrentModel(About("lstm", 4, CPU, (), LEVELS, data_hash=name), b"", b"")


@dataclass
class Pupil:
    """A loop that forecasts CPU with one model."""

    drifted: int = 0
    now: RecurrentModel = field(default_factory=lambda: model("shipped"))

    def drifts(self) -> int:
        return self.drifted

    def models(self) -> Mapping[Resource, RecurrentModel]:
        return {CPU: self.now}

    def take_up(self, resource: Resource, model: RecurrentModel) -> None:
        if model.about.data_hash == "broken":
            raise BadInput("cannot be run")
        self.now = model


@dataclass
class Course:
    """A training that takes until it is told how it ended."""

    begun: int = 0
    result: str | None = None
    abandoned: bool = False

    def begin(self) -> None:
        self.begun, self.result = self.begun + 1, None

    def ended(self) -> str | None:
        return self.result

    def abandon(self) -> None:
        self.abandoned = True


@dataclass
class Registry:
    """Models in use, and why one was taken back."""

    model: RecurrentModel | None = None
    back: list[str] = field(default_factory=list)

    def in_use(self, resource: Resource, note: Callable[[str], None]) -> RecurrentModel | None:
        return self.model

    def roll_back(self, resource: Resource, reason: str, at: int) -> object:
        self.back.append(reason)
        return None


class School:
    """Everything together, in virtual time."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock(1e9)
        self.pupil, self.course, self.registry = Pupil(), Course(), Registry()
        self.path, self.notes = folder / "training.json", list[str]()
        self.again()

    def again(self) -> None:
        """As after a restart."""
        self.retraining = Retraining(
            self.pupil,
            self.course,
            self.registry,
            FileTrainingMemory(self.path),
            self.clock,
            RetrainingSettings(),
            self.notes.append,
        )

    def days(self, days: float) -> None:
        """Look once an hour for so many days."""
        for _ in range(round(days * 24)):
            self.clock.advance(3_600)
            self.retraining.look()


@pytest.fixture
def school(tmp_path: Path) -> School:
    return School(tmp_path)


def test_it_trains_after_a_day_then_as_the_past_grows_by_half(school: School) -> None:
    school.retraining.look()
    school.days(0.9)
    assert school.course.begun == 0
    school.days(0.2)
    assert school.course.begun == 1
    school.days(2)
    assert school.course.begun == 1, "one at a time"
    school.course.result = ""
    school.days(0.1)
    begun = []
    for _ in range(60):
        before = school.course.begun
        school.days(1)
        if school.course.begun > before:
            begun.append(school.clock.now())
        school.course.result = ""
    waits = np.diff(begun) / DAY
    assert len(begun) >= 5
    assert waits.min() >= 1
    assert waits.max() <= 11, "ten days, and the day in which it was looked at"
    assert waits[-1] > 2 * waits[0]


def test_what_won_is_taken_up_and_what_then_loses_is_taken_back(school: School) -> None:
    school.days(1.2)
    school.registry.model, school.course.result = model("new"), ""
    school.days(0.1)
    assert school.pupil.now.about.data_hash == "new"
    assert school.notes[-1] == "training ended: new models of cpu are in use"
    school.pupil.now = model("shipped")  # its probation is over, and lost
    school.days(0.1)
    assert school.registry.back == ["lost against the one before it"]
    school.registry.model = None
    school.days(0.5)
    assert len(school.registry.back) == 1


def test_nothing_changes_when_a_training_fails_or_its_model_cannot_be_run(school: School) -> None:
    school.days(1.2)
    school.course.result = "exit code 1: out of memory"
    school.days(0.1)
    assert school.notes[-1] == "training ended: exit code 1: out of memory"
    school.days(1)
    school.registry.model, school.course.result = model("broken"), ""
    school.days(0.1)
    assert school.pupil.now.about.data_hash == "shipped"
    assert "training: the new model of cpu is not used: cannot be run" in school.notes


def test_what_lost_while_another_was_trained_is_not_taken_for_the_new_one(school: School) -> None:
    school.days(1.2)
    school.registry.model, school.course.result = model("first"), ""
    school.days(0.1)
    school.days(1)  # the second training runs
    assert school.course.begun == 2
    school.pupil.now = model("shipped")
    school.registry.model = model("second")
    school.days(0.2)
    assert school.registry.back == []
    school.course.result = ""
    school.days(0.1)
    assert school.pupil.now.about.data_hash == "second"
    assert school.registry.back == []


def test_a_training_that_fails_half_way_may_have_found_something(school: School) -> None:
    school.days(1.2)
    school.registry.model, school.course.result = model("new"), "its budget of CPU time is spent"
    school.days(0.1)
    assert school.notes[-1] == "training ended: its budget of CPU time is spent; new models of cpu are in use"
    assert school.pupil.now.about.data_hash == "new"


def test_a_drift_hastens_it_but_not_within_a_day(school: School) -> None:
    for _ in range(40):
        school.days(1)
        school.course.result = ""
    while not school.notes[-1].startswith("training begins"):
        school.days(0.1)
    school.course.result = ""
    begun = school.course.begun
    school.pupil.drifted += 1
    school.days(0.8)
    assert school.course.begun == begun, "what came after the drift must be there to be learned"
    school.days(0.4)
    assert school.course.begun == begun + 1
    assert school.notes[-1] == "training begins: forecasts have become worse"


def test_a_restart_does_not_begin_anew(school: School) -> None:
    school.days(1.2)
    assert school.course.begun == 1
    school.again()
    school.days(0.5)
    assert school.course.begun == 1, "half a day after the last one"
    school.days(1)
    assert school.course.begun == 2
    school.path.write_text("{")
    school.again()
    school.days(0.5)
    assert school.course.begun == 2, "a damaged file: a day with samples first"


def test_what_was_broken_off_is_due_again_at_the_next_start(school: School) -> None:
    school.days(1.2)
    school.retraining.stop()
    assert school.course.abandoned
    school.again()
    school.days(0.1)
    assert school.course.begun == 2
    school.course.result = ""
    school.days(0.1)
    school.retraining.stop()
    school.again()
    school.days(0.5)
    assert school.course.begun == 2, "one that had ended is not done again"


def test_memory_that_cannot_be_written_is_said(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FileTrainingMemory, instants: Mapping[str, float]) -> None:
        raise StoreError("training.json: cannot be written: no space left on device")

    monkeypatch.setattr(FileTrainingMemory, "write", full)
    school.days(1.2)
    assert school.course.begun == 1
    assert "training: training.json: cannot be written: no space left on device" in school.notes


def trace() -> Trace:
    shape = (4, 2)
    return Trace(Grid(0, 300, 4), ("a", "b"), {CPU: np.ones(shape)}, {CPU: np.full(shape, 2.0)})


def process(folder: Path, program: str, parts: int = 2) -> TrainingProcess:
    """A training that is a Python program with the folder of parts as its argument."""

    def history() -> Iterator[Trace]:
        yield from [trace()] * parts

    def write(part: Trace, path: Path) -> None:
        path.write_text("part")

    return TrainingProcess(folder / "training", history, write, [sys.executable, "-c", program, "{trace}"])


def outcome(training: TrainingProcess) -> str:
    deadline = time.monotonic() + 60
    while (ended := training.ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return ended


def test_a_child_sees_the_history_and_says_how_it_went(tmp_path: Path) -> None:
    well = process(tmp_path, "import os, sys; sys.exit(len(os.listdir(sys.argv[1])) != 2)")
    well.begin()
    assert outcome(well) == ""
    assert not (tmp_path / "training" / "trace").exists(), "the history is swept away"
    ill = process(tmp_path, "import sys; print('one'); print('no memory'); sys.exit(3)")
    ill.begin()
    assert outcome(ill) == "exit code 3: no memory"
    none = process(tmp_path, "", parts=0)
    none.begin()
    assert outcome(none) == "there is no history yet"


def test_a_child_ends_when_its_budget_is_spent(tmp_path: Path) -> None:
    program = (
        "from forestall.adapters.linux.own_process import limit_cpu_seconds, stand_back; import os\n"
        "stand_back(); assert os.nice(0) == 19; limit_cpu_seconds(1)\n"
        "while True: pass"
    )
    training = process(tmp_path, program)
    training.begin()
    assert outcome(training) == "its budget of CPU time is spent"


def test_a_child_that_does_not_want_to_end_is_ended(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w'); time.sleep(600)"
    training = process(tmp_path, program)
    training.begin()
    deadline = time.monotonic() + 30
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    training.abandon()
    assert outcome(training).startswith("exit code -9")


@pytest.mark.slow
def test_a_real_training_of_a_store_is_taken_up_by_a_real_loop(tmp_path: Path) -> None:
    """Two days of ten VMs in the store, the real command, the real registry; then the daemon's loop runs the model."""
    pytest.importorskip("torch")
    now = int(SystemClock().now()) // 300 * 300
    made = generate(Workload(vms=10, days=3), 5)
    made = replace(made, grid=replace(made.grid, start=now - 2 * 86_400))
    step = made.grid.step_seconds
    clock, journal = SystemClock(), MemoryJournal()
    configuration = Configuration(step_seconds=step, state_folder=tmp_path, resources=(CPU,))
    settings = driver_settings(configuration, step)
    with closing(DuckdbStore(tmp_path / "store.duckdb", step_seconds=step)) as store:
        known = replace(made, grid=replace(made.grid, steps=2 * 86_400 // step))
        rows = known.grid.steps
        known = replace(
            known,
            demand={r: values[:rows] for r, values in made.demand.items()},
            limit={r: values[:rows] for r, values in made.limit.items()},
            cpu_peak=None,
        )
        load_history(known, store)
        originals = FileOriginals(tmp_path / "originals", print)
        driver = Driver(Ports(SimulatedHost(made, clock), store, journal, originals, clock), settings)
        assert driver.start() > 0
        shipped = driver.models()[CPU].about.data_hash
        notes: list[str] = []
        FileTrainingMemory(tmp_path / "training.json").write({"began": now - 2 * DAY})
        retraining = retraining_of(configuration, driver, store, clock, notes.append)
        assert retraining is not None
        retraining.look()
        assert notes == ["training begins: the first"]
        deadline = time.monotonic() + 240
        while len(notes) < 2:
            assert time.monotonic() < deadline, (tmp_path / "training" / "log.txt").read_text()
            time.sleep(0.2)
            retraining.look()
        registry = FileModelRegistry(tmp_path / "models")
        if notes[1] == "training ended: new models of cpu are in use":
            assert driver.models()[CPU].about.data_hash != shipped
            assert registry.versions(CPU)[-1].reason.startswith("better than the model before")
        else:
            assert notes[1] == "training ended: none was better than the one in use"
            assert driver.models()[CPU].about.data_hash == shipped
            assert registry.refused(CPU)[-1]["reason"].startswith("it is no better")
        assert driver.models()[CPU].about.vms == 10 or notes[1].endswith("the one in use")
