"""Puts the training of models beside a live loop together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from forestall.adapters.clock.virtual import VirtualClock
from forestall.ports.clock import Clock
from forestall.service.configuration import Configuration

if TYPE_CHECKING:
    from forestall.demand.driver import Driver
    from forestall.model.samples import Trace
    from forestall.ports.store import BehaviourStore
    from forestall.service.retraining import Retraining

TRAINING, TRAINING_MEMORY = "training", "training.json"
TRAINING_PART_STEPS = 500


def retraining_of(
    configuration: Configuration, driver: Driver, store: BehaviourStore, clock: Clock, note: Callable[[str], None]
) -> Retraining | None:
    """What trains models beside the loop; None where it is not wanted or cannot be."""
    from forestall.adapters.files.model_registry import FileModelRegistry
    from forestall.adapters.files.training_memory import FileTrainingMemory
    from forestall.adapters.linux.training_process import TrainingProcess
    from forestall.bootstrap.models import MODELS, can_train
    from forestall.learning.recurrent.tape import MOST_STEPS
    from forestall.replay.trace_writer import write_trace
    from forestall.service.retraining import Retraining, RetrainingSettings

    learning, folder = configuration.learning, configuration.state_folder
    if learning.retrain == "off" or not can_train() or isinstance(clock, VirtualClock):
        return None
    step = driver.settings.demand.step_seconds

    def history() -> Iterator[Trace]:
        """The newest rows that training can use, a part at a time, so that the store is free in between."""
        until = int(clock.now()) // step * step
        for since in range(max(until - MOST_STEPS * step, 0), until, TRAINING_PART_STEPS * step):
            part = store.history(since=since, until=min(since + TRAINING_PART_STEPS * step, until))
            if part.vm_ids:
                yield part

    command = [sys.executable, "-m", "forestall", "model", "train", "{trace}", "--models", str(folder / MODELS)]
    command += ["--resources", ",".join(configuration.resources), "--background"]
    command += ["--cpu-seconds", str(learning.cpu_seconds), "--trust-groups", str(folder)]
    return Retraining(
        driver,
        TrainingProcess(folder / TRAINING, history, write_trace, command),
        FileModelRegistry(folder / MODELS),
        FileTrainingMemory(folder / TRAINING_MEMORY),
        clock,
        RetrainingSettings(longest_seconds=learning.retrain_hours * 3_600.0),
        note,
    )
