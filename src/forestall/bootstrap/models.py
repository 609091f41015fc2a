"""Which recurrent models are used, where they are kept, and how one is trained and takes over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forestall.adapters.clock.system import SystemClock
from forestall.adapters.files.model_registry import FileModelRegistry
from forestall.adapters.files.models import read_model
from forestall.adapters.files.trust_book import FileTrustBook
from forestall.bootstrap.policies import policies_kept
from forestall.bootstrap.telling import tell
from forestall.demand.policy import PolicySet
from forestall.demand.settings import DemandSettings
from forestall.learning.recurrent.forecaster import RecurrentSettings
from forestall.learning.recurrent.model import RecurrentModel
from forestall.learning.recurrent.succession import Trainer, Verdict, succeed
from forestall.learning.recurrent.tape import tape_of
from forestall.model.applications import CATEGORIES
from forestall.model.errors import BadInput, StoreError, Unsupported, WrongUse
from forestall.model.resources import Resource
from forestall.replay.trace_reader import read_trace
from forestall.service.trust_groups import TrustGroups
from forestall.settings import load_policy

TRAINING_NEEDS = ("torch", "onnx")
MODELS = "models"
"""Folder of the registry, in the daemon's state folder."""


def recurrent_settings(seed: int = 0, models: Path | None = None) -> RecurrentSettings:
    """The models in use, and a trainer where the extra ``train`` is installed."""
    return RecurrentSettings(models_in_use(models, tell), trainer() if can_train() else None, seed=seed)


def models_in_use(folder: Path | None, note: Callable[[str], None]) -> dict[Resource, RecurrentModel]:
    """The models that took over, by the registry in ``folder``; for other resources those that come with Forestall.

    ``note`` is told of models that are not used because they cannot be run, as those of another version.
    """
    with as_file(files("forestall.learning.recurrent") / "shipped") as shipped:
        models = {resource: read_model(shipped / resource.value) for resource in Resource}
    if folder is not None:
        registry = FileModelRegistry(folder)
        models |= {r: model for r in Resource if (model := registry.in_use(r, note)) is not None}
    return models


def models_of_host(state_folder: Path) -> dict[Resource, RecurrentModel]:
    """The models in use on a host; where the registry is damaged, those that come with Forestall."""
    try:
        return models_in_use(state_folder / MODELS, tell)
    except StoreError as error:
        tell(f"the models that come with Forestall are used: {error}")
        return models_in_use(None, tell)


def can_train() -> bool:
    """Whether what training needs is installed."""
    return all(find_spec(name) is not None for name in TRAINING_NEEDS)


def trainer() -> Trainer:
    """Trains recurrent models.

    Raises
    ------
    Unsupported
        The extra ``train`` is not installed.
    """
    if not can_train():
        raise Unsupported("training needs torch and onnx: pip install 'forestall[train]'")
    from forestall.learning.training.fit import train

    return train


def train_models(
    path: Path,
    folder: Path,
    resources: Sequence[Resource] = (),
    seed: int = 0,
    note: Callable[[str], None] = print,
    policies: Path | None = None,
    trust_groups: Path | None = None,
) -> dict[Resource, Verdict]:
    """Train on a trace, from the models in use; what is better takes over, the rest is noted as refused.

    A file of policies says which applications VMs run, and which VMs may learn from each other; without one, the newest
    policies of the state folder ``trust_groups`` do. Trust groups that were changed since are in that folder, too.

    Raises
    ------
    WrongUse
        The trace has no such resource, or its VMs may not learn from each other.
    Unsupported
        The extra ``train`` is not installed.
    StoreError
        The registry cannot be written.
    """
    train = trainer()
    trace = read_trace(path, None, note)
    if missing := [r.value for r in resources if r not in trace.demand]:
        raise WrongUse(f"the trace {trace.name} has no {', '.join(missing)}")
    registry, current = FileModelRegistry(folder), models_in_use(folder, note)
    stated = load_policy(policies) if policies else None
    if trust_groups:
        stated = TrustGroups(FileTrustBook(trust_groups)).beside(stated or policies_kept(trust_groups))
    policy = stated or PolicySet()
    if reason := policy.apart(trace.vm_ids):
        raise WrongUse(f"{policies or trust_groups}: {reason}")
    tags = policy.runs(trace.vm_ids, CATEGORIES)
    verdicts = {}
    for resource in resources or trace.resources:
        targets = DemandSettings(trace.grid.step_seconds).targets
        model, verdict = succeed(tape_of(trace, resource, tags), targets, train, current.get(resource), seed)
        now = int(SystemClock().now())
        if model is None:
            registry.refuse(resource, verdict, now)
        else:
            registry.adopt(model, verdict, now)
        verdicts[resource] = verdict
        note(f"{resource.value}: {'takes over' if verdict.accepted else 'refused'}: {verdict.reason}")
    return verdicts


def describe_models(folder: Path) -> list[dict[str, Any]]:
    """Every version of every resource's model, refused trainings too, in order of time; plain values.

    Raises
    ------
    StoreError
        The registry cannot be read.
    """
    registry, rows = FileModelRegistry(folder), []
    for resource, model in models_in_use(None, tell).items():
        versions = registry.versions(resource)
        origin = model.about.trained_on
        rows.append(_row(resource, "shipped", None, "" if versions else "in use", "comes with Forestall", origin, {}))
        for version in versions:
            state = "in use" if version is versions[-1] else ""
            try:
                about = registry.about(resource, version.number)
            except BadInput as error:
                state, origin = "damaged", str(error)
            else:
                origin = f"{about.vms} VMs, {about.steps} intervals of {about.step_seconds} s, {about.data_hash[:12]}"
            rows.append(_row(resource, str(version.number), version.at, state, version.reason, origin, version.scores))
        for refused in registry.refused(resource):
            number = str(refused.get("number", ""))
            rows.append(
                _row(resource, number, refused["at"], "refused", refused["reason"], "", refused.get("scores", {}))
            )
    return rows


def _row(
    resource: Resource, version: str, at: int | None, state: str, reason: str, origin: str, scores: dict[str, float]
) -> dict[str, Any]:
    return {
        "resource": resource.value,
        "version": version,
        "at": at,
        "state": state,
        "reason": reason,
        "trained_on": origin,
        "scores": scores,
    }


def roll_back_model(folder: Path, resource: Resource) -> str:
    """Go back by one version; what is in use then, in words.

    Raises
    ------
    WrongUse
        None took over.
    StoreError
        The registry cannot be read or written.
    """
    registry = FileModelRegistry(folder)
    if not registry.versions(resource):
        raise WrongUse(f"{folder}: no model of {resource.value} took over; the one that comes with Forestall is in use")
    left = registry.roll_back(resource, "taken back by hand", int(SystemClock().now()))
    what = f"version {left.number}" if left else "the model that comes with Forestall"
    return f"{resource.value}: {what} is in use"
