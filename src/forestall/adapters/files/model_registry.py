"""The registry of recurrent models: every version that was good enough, and which one is in use, on the disk.

    models/cpu/000003/          a version, whole or not there: it is written aside and renamed
    models/cpu/in_use.json      its number, those before it, and why each took over
    models/cpu/refused.jsonl    trainings that did not take over, and why

Whatever moment the process dies at, the folder is as before or as after: a version that is not in ``in_use.json`` is
never served, what was written aside is swept away when the next model is kept, and numbers are not used twice. Who
writes holds a lock, so that two trainings at once do not meet.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from forestall.adapters.files.liveness import locked
from forestall.adapters.files.models import read_model, write_model
from forestall.adapters.files.writing import read_json, sync_folder, write_json
from forestall.learning.recurrent.model import About, RecurrentModel
from forestall.learning.recurrent.serving import Served
from forestall.learning.recurrent.succession import Verdict
from forestall.model.errors import BadInput, StoreError
from forestall.model.resources import Resource

IN_USE, REFUSED = "in_use.json", "refused.jsonl"
ASIDE = ".aside-"
KEPT_VERSIONS = 5
MOST_REFUSED_LINES = 200


@dataclass(frozen=True)
class Version:
    """A model that took over: its number, when (seconds), why, and the losses that decided it."""

    number: int
    at: int
    reason: str
    scores: dict[str, float]


class FileModelRegistry:
    """Versions of each resource's model in a folder.

    Parameters
    ----------
    folder
        Made when it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def versions(self, resource: Resource) -> list[Version]:
        """Versions that took over and are kept, the one in use last.

        Raises
        ------
        StoreError
            What is in use cannot be read.
        """
        record = read_json(self._of(resource) / IN_USE)
        try:
            return [Version(**version) for version in record["versions"]] if record else []
        except (KeyError, TypeError) as error:
            raise StoreError(f"{self._of(resource) / IN_USE}: is damaged: {error}") from error

    def in_use(self, resource: Resource, note: Callable[[str], None]) -> RecurrentModel | None:
        """The model in use; None while none took over. For one that cannot be run, which ``note`` is
        told, the one before it stands in.

        Raises
        ------
        StoreError
            What is in use cannot be read.
        """
        for version in reversed(self.versions(resource)):
            try:
                model = read_model(self._place(resource, version.number))
                Served(model)
            except BadInput as error:
                note(f"version {version.number} of {resource.value} is not used: {error}")
                continue
            return model
        return None

    def about(self, resource: Resource, number: int) -> About:
        """What a version is.

        Raises
        ------
        BadInput
            It is not whole.
        """
        return read_model(self._place(resource, number)).about

    def adopt(self, model: RecurrentModel, verdict: Verdict, at: int) -> Version:
        """Keep a model that was found better, and use it from now on.

        Raises
        ------
        StoreError
            It cannot be written; the model in use stays.
        """
        with locked(self._folder):
            return self._adopt(model, verdict, at)

    def _adopt(self, model: RecurrentModel, verdict: Verdict, at: int) -> Version:
        resource = model.about.resource
        place = self._of(resource)
        for left_behind in place.glob(f"{ASIDE}*"):
            if left_behind.is_dir():
                shutil.rmtree(left_behind, ignore_errors=True)
            else:
                left_behind.unlink(missing_ok=True)
        versions = self.versions(resource)
        number = 1 + max([version.number for version in versions] + self._numbers(resource), default=0)
        aside = place / f"{ASIDE}{number:06d}"
        try:
            write_model(aside, replace(model, about=replace(model.about, scores=verdict.scores)))
            for file in (*aside.iterdir(), aside):
                _sync(file)
            os.rename(aside, self._place(resource, number))
            sync_folder(place)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise StoreError(f"{place}: a model cannot be written: {error.strerror}") from error
        version = Version(number, at, verdict.reason, verdict.scores)
        self._record(resource, [*versions, version][-KEPT_VERSIONS:], [])
        self._sweep(resource)
        return version

    def roll_back(self, resource: Resource, reason: str, at: int) -> Version | None:
        """Use the version before the one in use, which is refused from now on; which that is, None: the shipped one.

        Raises
        ------
        StoreError
            It cannot be written; the model in use stays.
        """
        with locked(self._folder):
            versions = self.versions(resource)
            if not versions:
                return None
            refused = {**asdict(versions[-1]), "at": at, "reason": reason}
            left = self._record(resource, versions[:-1], [refused])
            return left[-1] if left else None

    def refuse(self, resource: Resource, verdict: Verdict, at: int) -> None:
        """Note a training that did not take over, and why.

        Raises
        ------
        StoreError
            It cannot be written.
        """
        with locked(self._folder):
            self._note(resource, [{"at": at, "reason": verdict.reason, "scores": verdict.scores}])

    def refused(self, resource: Resource) -> list[dict[str, Any]]:
        """Trainings that did not take over and versions that were taken back, the newest last."""
        try:
            lines = (self._of(resource) / REFUSED).read_text("utf-8").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            with suppress(ValueError):  # the last line of a process that died is not whole
                found.append(json.loads(line))
        return found

    def _record(self, resource: Resource, versions: list[Version], refused: list[dict[str, Any]]) -> list[Version]:
        """Say which versions there are, the last of them in use, and note what was refused."""
        write_json(self._of(resource) / IN_USE, {"versions": [asdict(version) for version in versions]})
        self._note(resource, refused)
        return versions

    def _note(self, resource: Resource, refused: list[dict[str, Any]]) -> None:
        if not refused:
            return
        lines = [json.dumps(record) for record in [*self.refused(resource), *refused]][-MOST_REFUSED_LINES:]
        path = self._of(resource) / REFUSED
        aside = path.with_name(f"{ASIDE}{REFUSED}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text("\n".join(lines) + "\n", "utf-8")
            os.replace(aside, path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error

    def _sweep(self, resource: Resource) -> None:
        """Remove versions that nobody can go back to."""
        kept = {version.number for version in self.versions(resource)}
        newest = max(self._numbers(resource), default=0)
        for number in self._numbers(resource):
            if number not in kept and number != newest:
                shutil.rmtree(self._place(resource, number), ignore_errors=True)

    def _numbers(self, resource: Resource) -> list[int]:
        place = self._of(resource)
        return [int(version.name) for version in place.iterdir() if version.name.isdigit()] if place.is_dir() else []

    def _of(self, resource: Resource) -> Path:
        return self._folder / resource.value

    def _place(self, resource: Resource, number: int) -> Path:
        return self._of(resource) / f"{number:06d}"


def _sync(path: Path) -> None:
    if path.is_dir():
        sync_folder(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())
