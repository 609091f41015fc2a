"""Every operation of the API as a method."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from forestall.client.transport import Transport
from forestall.model.errors import ApiError
from forestall.ports.job_book import JobState
from forestall.ports.store import Resolution
from forestall.service.api import documents as doc

Item = TypeVar("Item", bound=BaseModel)
PART = 1_000
LOOK_AGAIN_SECONDS = 1.0


class Client:
    """Asks an API.

    Parameters
    ----------
    url
        Where it is, as ``https://host:7480``.
    token
        Of whoever asks (``forestall token create``).
    authority
        Certificate of who vouches for it; None: those that this machine knows.
    transport
        How it is reached, for tests.

    Every method raises :class:`~forestall.model.errors.ApiError` when it is refused or cannot be reached. What changes
    something is done once, also when the answer was lost and it is asked again.
    """

    def __init__(
        self, url: str, token: str, *, authority: Path | None = None, transport: Transport | None = None
    ) -> None:
        self._transport = transport or Transport(url, token, authority)

    def __enter__(self) -> Client:
        """It holds connections."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let them go."""
        self.close()

    def close(self) -> None:
        """Let connections go."""
        self._transport.close()

    def me(self) -> doc.You:
        """Who you are to Forestall."""
        return self._get(doc.You, "me")

    def hosts(self) -> list[doc.Host]:
        """Every host."""
        return self._list(doc.Host, "hosts")

    def loop(self, host: str) -> dict[str, Any]:
        """What the loop of a host says of itself, as ``forestall status --json`` prints it."""
        found: dict[str, Any] = self._transport.get(_path("hosts", host, "loop"))
        return found

    def vms(self, host: str | None = None, group: str | None = None, min_risk: float | None = None) -> list[doc.Vm]:
        """Every VM that you may see."""
        return self._list(doc.Vm, "vms", host=host, group=group, min_risk=min_risk)

    def vm(self, name: str) -> doc.Vm:
        """One VM."""
        return self._get(doc.Vm, "vms", name)

    def decisions(self, vm: str, at: int | None = None) -> list[doc.Decision]:
        """The decisions in force, one for each resource, with all that led to them."""
        return self._several(doc.Decision, _path("vms", vm, "decisions"), at=at)

    def forecasts(self, vm: str) -> list[doc.Forecast]:
        """What it was forecast to demand."""
        return self._several(doc.Forecast, _path("vms", vm, "forecasts"))

    def history(
        self, vm: str, since: int, until: int, resolution: Resolution = Resolution.FIVE_MINUTES
    ) -> list[doc.History]:
        """What it was measured to demand; instants in seconds."""
        path = _path("vms", vm, "history")
        return self._several(doc.History, path, since=since, until=until, resolution=resolution.value)

    def restore(self, vm: str) -> doc.PutBack:
        """Set a VM as it was, and leave it alone."""
        return self._change(doc.PutBack, "POST", _path("vms", vm, "restore"))

    def resume(self, vm: str) -> doc.Resumed:
        """Look after it again."""
        return self._change(doc.Resumed, "POST", _path("vms", vm, "resume"))

    def restore_host(self, host: str) -> doc.PutBack:
        """Set all VMs of a host as they were, and leave them alone."""
        return self._change(doc.PutBack, "POST", _path("hosts", host, "restore"))

    def resume_host(self, host: str) -> doc.Resumed:
        """Look after all of them again."""
        return self._change(doc.Resumed, "POST", _path("hosts", host, "resume"))

    def trust_groups(self) -> list[doc.TrustGroup]:
        """Every trust group that you may see."""
        return self._list(doc.TrustGroup, "trust-groups")

    def create_trust_group(self, group: str) -> doc.TrustGroup:
        """Make one without VMs."""
        return self._change(doc.TrustGroup, "POST", "trust-groups", json={"group": group})

    def change_trust_group(
        self, group: str, shadowing: bool | None = None, horizon_seconds: float | None = None
    ) -> doc.TrustGroup:
        """Begin or end to stage memory for one, or say how far ahead; None: as it was."""
        wanted = {"shadowing": shadowing, "horizon_seconds": horizon_seconds}
        return self._change(doc.TrustGroup, "PATCH", _path("trust-groups", group), json=wanted)

    def delete_trust_group(self, group: str) -> None:
        """Forget one."""
        self._transport.change("DELETE", _path("trust-groups", group))

    def add_member(self, group: str, vm: str) -> doc.TrustGroup:
        """Put a VM into one."""
        return self._change(doc.TrustGroup, "PUT", _path("trust-groups", group, "members", vm))

    def remove_member(self, group: str, vm: str) -> doc.TrustGroup:
        """Take a VM out of one."""
        return self._change(doc.TrustGroup, "DELETE", _path("trust-groups", group, "members", vm))

    def group_statistics(self, group: str) -> dict[str, Any]:
        """What staging has brought a trust group."""
        found: dict[str, Any] = self._transport.get(_path("trust-groups", group, "statistics"))
        return found

    def policies(self) -> doc.Policy:
        """The policies in force."""
        return self._get(doc.Policy, "policies")

    def policy_versions(self) -> list[doc.PolicyVersion]:
        """Every version, the newest first."""
        return self._list(doc.PolicyVersion, "policies/versions")

    def policy_version(self, number: int) -> doc.Policy:
        """One version with its text."""
        return self._get(doc.Policy, "policies/versions", str(number))

    def check_policies(self, text: str) -> doc.CheckedPolicy:
        """What a text says; nothing is changed."""
        return self._change(doc.CheckedPolicy, "POST", "policies/check", json={"text": text})

    def apply_policies(self, text: str, comment: str = "", base: int | None = None) -> doc.Policy:
        """Put policies in force, only if ``base`` is still the version in force; None: whichever is."""
        match = "*" if base is None else f'"{base}"'
        body = {"text": text, "comment": comment}
        return self._change(doc.Policy, "PUT", "policies", json=body, headers={"If-Match": match})

    def dry_run(self, text: str, last_seconds: float, violation_budget: float | None = None) -> doc.Job:
        """Begin to try policies on what was recorded last; see :meth:`wait` and :meth:`dry_run_result`."""
        body = {"text": text, "last_seconds": last_seconds, "violation_budget": violation_budget}
        return self._change(doc.Job, "POST", "policies/dry-runs", json=body)

    def dry_run_result(self, job: str) -> doc.DryRun:
        """What a dry run has found."""
        return self._get(doc.DryRun, "jobs", job, "dry-run")

    def traces(self) -> list[doc.KeptTrace]:
        """Every trace that was given."""
        return self._list(doc.KeptTrace, "traces")

    def put_trace(self, path: Path, label: str = "") -> doc.KeptTrace:
        """Give a trace."""
        found = self._transport.change("POST", "traces", content=path.read_bytes(), params={"label": label})
        return _read(doc.KeptTrace, found)

    def remove_trace(self, name: str) -> None:
        """Remove one."""
        self._transport.change("DELETE", _path("traces", name))

    def replay(self, wanted: doc.NewReplay) -> doc.Job:
        """Begin to replay one; see :meth:`wait` and :meth:`job_file`."""
        return self._change(doc.Job, "POST", "replays", json=wanted.model_dump(mode="json"))

    def jobs(self) -> list[doc.Job]:
        """Every job."""
        return self._list(doc.Job, "jobs")

    def job(self, name: str) -> doc.Job:
        """How far one is."""
        return self._get(doc.Job, "jobs", name)

    def wait(self, job: str, patience_seconds: float = float("inf")) -> doc.Job:
        """Wait until one is done.

        Raises
        ------
        ApiError
            It has failed or was cancelled, or takes longer than patience lasts.
        """
        until = time.monotonic() + patience_seconds
        while not (found := self.job(job)).state.has_ended:
            if time.monotonic() > until:
                raise ApiError(f"the job {job} is still {found.state.value}")
            time.sleep(LOOK_AGAIN_SECONDS)
        if found.state is not JobState.DONE:
            raise ApiError(f"the job {job}: {found.state.value}{f': {found.why}' if found.why else ''}")
        return found

    def cancel(self, job: str) -> doc.Job:
        """Have one not done to its end."""
        return self._change(doc.Job, "DELETE", _path("jobs", job))

    def job_file(self, job: str, file: str) -> bytes:
        """A file that a replay has written."""
        return self._transport.content(_path("jobs", job, "files", file))

    def preallocations(self) -> list[doc.Preallocation]:
        """Every request for memory and blocks ahead of time."""
        return self._list(doc.Preallocation, "preallocations")

    def preallocate(self, wanted: doc.NewPreallocation) -> doc.Preallocation:
        """Make one."""
        body = wanted.model_dump(mode="json", exclude_none=True)
        return self._change(doc.Preallocation, "POST", "preallocations", json=body)

    def cancel_preallocation(self, name: str) -> doc.Preallocation:
        """Take one back."""
        return self._change(doc.Preallocation, "DELETE", _path("preallocations", name))

    def fabric(self) -> doc.Fabric:
        """The network between VMs."""
        return self._get(doc.Fabric, "fabric")

    def fabric_plan(self) -> doc.FabricPlan:
        """What would be changed in it."""
        return self._get(doc.FabricPlan, "fabric/plan")

    def apply_fabric(self) -> doc.FabricApplied:
        """Change that."""
        return self._change(doc.FabricApplied, "POST", "fabric/apply")

    def fabric_link(self, name: str) -> doc.FabricLinkUse:
        """Who uses a link, and why."""
        return self._get(doc.FabricLinkUse, "fabric/links", name)

    def models(self) -> list[doc.Model]:
        """Every version of every model."""
        return self._several(doc.Model, "models")

    def reliability(self) -> list[doc.Reliability]:
        """How reliable forecasts of each resource were in the last days."""
        return self._several(doc.Reliability, "models/reliability")

    def webhooks(self) -> list[doc.Webhook]:
        """Who is told of events."""
        return self._list(doc.Webhook, "webhooks")

    def create_webhook(self, wanted: doc.NewWebhook) -> doc.MadeWebhook:
        """Tell somebody of events."""
        return self._change(doc.MadeWebhook, "POST", "webhooks", json=wanted.model_dump(mode="json"))

    def remove_webhook(self, name: str) -> None:
        """Tell them no more."""
        self._transport.change("DELETE", _path("webhooks", name))

    def events(self, after: str | None = None) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """What changes, as it changes, without end: id, kind and data. After a pause it goes on where it was."""
        return self._transport.events("events", after)

    def _get(self, kind: type[Item], *parts: str) -> Item:
        path = f"{parts[0]}/{_path(*parts[1:])}" if len(parts) > 1 else parts[0]
        return _read(kind, self._transport.get(path))

    def _several(self, kind: type[Item], path: str, **params: Any) -> list[Item]:
        return [_read(kind, each) for each in self._transport.get(path, **params)]

    def _list(self, kind: type[Item], path: str, **params: Any) -> list[Item]:
        """Every part of a list."""
        found: list[Item] = []
        after: str | None = None
        while True:
            part = self._transport.get(path, **params, limit=PART, after=after)
            found += [_read(kind, each) for each in part["items"]]
            if (after := part["next"]) is None:
                return found

    def _change(self, kind: type[Item], method: str, path: str, **more: Any) -> Item:
        return _read(kind, self._transport.change(method, path, **more))


def _read(kind: type[Item], value: Any) -> Item:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ApiError(
            f"the API is of another version: {error.error_count()} parts of a {kind.__name__} differ"
        ) from error


def _path(*parts: str) -> str:
    """Names as parts of a path."""
    return "/".join(quote(part, safe="") for part in parts)
