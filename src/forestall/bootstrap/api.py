"""Puts the API together, and keeps its process beside the daemon's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forestall.adapters.files.audit_log import FileAuditLog
from forestall.adapters.files.job_book import FileJobBook
from forestall.adapters.files.kept_answers import FileKeptAnswers
from forestall.adapters.files.token_book import FileTokenBook
from forestall.adapters.files.trace_shelf import FileTraceShelf
from forestall.adapters.linux.job_process import run_job
from forestall.adapters.linux.own_process import be_first_to_go
from forestall.bootstrap.telemetry import telemetry
from forestall.bootstrap.telling import tell
from forestall.demand.policy_reading import PolicyProblem
from forestall.model.errors import BadInput, StoreError, WrongUse
from forestall.ports.job_book import Job
from forestall.ports.token_book import Role
from forestall.service.access.audit import chained
from forestall.service.access.people import PeopleRules
from forestall.service.access.tokens import Tokens
from forestall.service.api.jobs import clear_inputs, command_of
from forestall.service.api.site import Asking
from forestall.service.configuration import Configuration
from forestall.service.configuration_document import refuse_open_api
from forestall.service.exports import EXPORT_SECONDS
from forestall.service.jobs import Jobs

if TYPE_CHECKING:
    from forestall.service.api.app import Keeping
    from forestall.service.web.sign_on import SignOn

FOLDER, FABRIC = "api", "fabric"
BEGIN_AGAIN_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 300.0
END_SECONDS, ANSWER_SECONDS = 10.0, 60.0


def folder_of(configuration: Configuration) -> Path:
    """What the API may change: tokens, audit log and answers are in it, and nothing of the daemon's."""
    return configuration.state_folder / FOLDER


def tokens_of(configuration: Configuration) -> Tokens:
    """Tokens of a state folder."""
    return Tokens(FileTokenBook(folder_of(configuration)))


def audit_log_of(configuration: Configuration) -> FileAuditLog:
    """The audit log of a state folder."""
    return FileAuditLog(folder_of(configuration), chained)


def run_api(configuration: Configuration, *, config: Path | None = None, while_held: bool = False) -> int:
    """Serve the API until told to stop; with ``while_held`` also until standard input ends.

    ``config`` is the file that the configuration is from, for what it starts.

    Raises
    ------
    WrongUse
        ``[api]`` says nowhere to listen, or somewhere without TLS that is reached from outside.
    BadInput
        Certificate or key cannot be used, or the secret for a provider of identities.
    StoreError
        The address is taken.
    """
    from forestall.adapters.https.open_server import Certificates, open_server
    from forestall.adapters.https.server import listen
    from forestall.service.api.app import api, guarded

    settings, folder = configuration.api, configuration.state_folder
    if not settings.listen:
        raise WrongUse("the API listens nowhere: [api] listen, or --listen 127.0.0.1:7480")
    try:
        refuse_open_api(settings)
    except PolicyProblem as problem:
        raise WrongUse(str(problem)) from problem
    address, _, port = settings.listen.rpartition(":")
    options = ["--state-folder", str(folder.resolve()), *(["--config", str(config.resolve())] if config else [])]
    keeping = replace(keeping_of(folder_of(configuration), options), sign_on=sign_on_of(configuration))
    app = api(asking_of(folder), check_policy, lambda: _models(folder))
    certificates = None
    if settings.certificate is not None and settings.key is not None:
        certificates = Certificates((settings.certificate, settings.key))
    with closing(listen(address.strip("[]"), int(port))) as door:
        _confine(configuration)
        server = open_server(guarded(app, keeping), certificates)
        if certificates:
            certificates.follow(tell)
        if while_held:
            threading.Thread(target=_end_with, args=(sys.stdin.fileno(), server), daemon=True).start()
        tell(f"the API is at {'https' if certificates else 'http'}://{settings.listen}/api/v1")
        with telemetry("api"), closing(keeping):
            keeping.start(app)
            server.run([door])
    return 0


def asking_of(folder: Path) -> Asking:
    """Asks the daemon of a state folder, and what looks after the network what is about the network."""
    from forestall.service.control import ask

    def asking(request: Mapping[str, Any]) -> Any:
        place = folder / FABRIC if str(request.get("command", "")).startswith("fabric") else folder
        patience = EXPORT_SECONDS if request.get("command") == "export" else ANSWER_SECONDS
        return ask(place, request, patience) if place.exists() else None

    return asking


def _models(folder: Path) -> list[dict[str, Any]]:
    from forestall.bootstrap.models import MODELS, describe_models  # not before it is confined: they bring threads

    return describe_models(folder / MODELS)


def keeping_of(folder: Path, settings: list[str]) -> Keeping:
    """What the API keeps in its folder; ``settings`` are options for commands that replay what was recorded."""
    from forestall.adapters.files.webhook_book import FileWebhookBook
    from forestall.adapters.notices.sender import NoticeThread
    from forestall.service.api.app import Keeping
    from forestall.service.api.hooks import Webhooks

    return Keeping(
        Tokens(FileTokenBook(folder)),
        FileAuditLog(folder, chained),
        FileKeptAnswers(folder),
        jobs_of(folder, settings),
        FileTraceShelf(folder),
        Webhooks(FileWebhookBook(folder), NoticeThread, tell),
    )


def sign_on_of(configuration: Configuration) -> SignOn | None:
    """Who signs in people whom the provider of ``[sign_in]`` knows; None where none is named.

    Raises
    ------
    BadInput
        Its secret cannot be read.
    """
    from forestall.adapters.oidc.provider import OidcProvider
    from forestall.service.web.sign_on import SignOn

    settings = configuration.sign_in
    if not settings.issuer:
        return None
    secret = ""
    if settings.client_secret_file is not None:
        try:
            secret = settings.client_secret_file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise BadInput(f"cannot be read: {error}", path=settings.client_secret_file) from error
    roles = {Role.VIEWER: settings.viewers, Role.OPERATOR: settings.operators, Role.ADMIN: settings.admins}
    return SignOn(
        OidcProvider(settings.issuer, settings.client_id, secret, settings.scopes),
        settings.name,
        settings.address,
        PeopleRules(
            settings.name_claim,
            settings.groups_claim,
            {role: frozenset(groups) for role, groups in roles.items()},
            settings.trust_groups_claim,
        ),
        audit_log_of(configuration),
        tell,
    )


def jobs_of(folder: Path, settings: list[str]) -> Jobs:
    """Jobs of the folder of the API; each is a command of Forestall in a process of its own, with these settings."""

    def doing(job: Job, place: Path, end: threading.Event) -> str:
        return run_job([sys.executable, "-m", "forestall", *command_of(job, settings)], place, end)

    return Jobs(FileJobBook(folder), doing, clear=clear_inputs)


def check_policy(text: str) -> dict[str, Any]:
    """What policies say, and what is probably not meant, as plain values.

    Raises
    ------
    BadPolicy
        They cannot be read.
    """
    from forestall.demand.policy_review import described, doubts  # not before it is confined: they bring threads
    from forestall.settings import parse_policy

    policy = parse_policy(text, "policy")
    return {**described(policy), "warnings": list(doubts(policy))}


def _confine(configuration: Configuration) -> None:
    """Give up what serving strangers does not need."""
    from forestall.adapters.linux.confinement import see_and_change_only

    folder = folder_of(configuration)
    be_first_to_go()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if left := see_and_change_only(folder.resolve(), configuration.state_folder.resolve()):
            tell(f"the API is confined in part: {left}")
    except OSError as error:
        raise StoreError(f"the API cannot be confined: {error.strerror}") from error


def _end_with(descriptor: int, server: object) -> None:
    """End a server when a pipe ends."""
    while os.read(descriptor, 1):
        pass
    server.should_exit = True  # type: ignore[attr-defined]


class ApiBeside:
    """The API in a process of its own beside the daemon: what comes over the network never runs in the daemon's.

    Its standard input is the lifeline: it ends when that does, whatever becomes of the daemon.

    Parameters
    ----------
    command
        Its command line.
    note
        Takes one line for the operator.
    """

    def __init__(self, command: list[str], note: Callable[[str], None]) -> None:
        self._command, self._note = command, note
        self._process: subprocess.Popen[bytes] | None = None
        self._began_at, self._pause = float("-inf"), BEGIN_AGAIN_SECONDS

    @classmethod
    def of(cls, configuration: Configuration, config: Path | None, note: Callable[[str], None]) -> ApiBeside | None:
        """That of a daemon with these settings; None where ``[api]`` listens nowhere."""
        if not configuration.api.listen:
            return None
        command = [sys.executable, "-m", "forestall", "api", "--while-held"]
        command += ["--state-folder", str(configuration.state_folder)]
        command += ["--config", str(config)] if config else []
        return cls(command, note)

    def turn(self) -> None:
        """See to it that it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        now = time.monotonic()
        if (lived := now - self._began_at) < self._pause:
            return
        if self._process is not None:
            self._note("the API has ended and is started anew")
            healthy = lived > 2.0 * self._pause
            self._pause = BEGIN_AGAIN_SECONDS if healthy else min(2.0 * self._pause, LONGEST_PAUSE_SECONDS)
        self._began_at = now
        try:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)
        except OSError as error:
            self._note(f"the API cannot be started: {error.strerror}")

    def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
