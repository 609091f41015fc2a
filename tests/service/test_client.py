"""The client before a real API and daemon: every method, what is done once, and commands that ask it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from daemons import Site, wait_until
from test_api_process import answers, free_port

from forestall.cli import main
from forestall.client import ApiError, Client
from forestall.client import client as client_module
from forestall.client import transport as transport_module
from forestall.client.transport import Transport
from forestall.model.errors import WrongUse
from forestall.ports.store import Resolution
from forestall.service.api.documents import NewPreallocation, NewReplay, NewWebhook

CEILING = '[[rule]]\nname = "{name}"\nvms = ["vm-0"]\nceiling_ratio = {ratio}\n'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Site]]:
    """Address, token and site of an API beside a daemon."""
    folder, port = tmp_path_factory.mktemp("client"), free_port()
    with Site(folder, vms=3) as site:
        with (folder / "forestall.toml").open("a") as file:
            file.write(f'[api]\nlisten = "127.0.0.1:{port}"\n')
        site.daemon("advise", connect=f"simulated:{folder}/trace.parquet")
        wait_until(answers(port), "the API answers")
        token = site.call("token", "create", "ops", "--role", "admin").stdout.strip()
        address = f"http://127.0.0.1:{port}"
        with Client(address, token) as client:
            wait_until(lambda: client.vms(), "a cycle")
        yield address, token, site


@pytest.fixture
def client(served: tuple[str, str, Site]) -> Iterator[Client]:
    with Client(*served[:2]) as client:
        yield client


def test_everything_that_there_is(client: Client) -> None:
    assert client.me().role == "admin"
    (host,) = client.hosts()
    assert client.loop(host.name)["host"] == host.name
    assert [vm.name for vm in client.vms()] == ["vm-0", "vm-1", "vm-2"]
    assert client.vm("vm-1").host == host.name
    assert {each.resource for each in client.decisions("vm-1")} == {"cpu", "memory"}
    assert client.forecasts("vm-1") is not None
    assert host.last_at
    history = client.history("vm-1", host.last_at - 60, host.last_at + 60, Resolution.RAW)
    assert {each.resource for each in history} <= {"cpu", "memory"}
    assert client.models()
    assert {each.resource for each in client.reliability()} == {"cpu", "memory"}
    assert client.jobs() == client.traces() == client.webhooks() == []


def test_what_is_changed(client: Client) -> None:
    assert client.restore("vm-2").left == []
    assert client.resume("vm-2").resumed == ["vm-2"]
    (host,) = client.hosts()
    assert client.restore_host(host.name).left == []
    assert set(client.resume_host(host.name).resumed) == {"vm-0", "vm-1", "vm-2"}
    assert client.create_trust_group("t 1").members == []
    assert client.add_member("t 1", "vm-1").vms == ["vm-1"]
    assert client.change_trust_group("t 1", shadowing=True, horizon_seconds=9.0).horizon_seconds == 9.0
    assert [each.group for each in client.trust_groups()] == ["t 1"]
    assert client.remove_member("t 1", "vm-1").vms == []
    client.delete_trust_group("t 1")
    made = client.create_webhook(NewWebhook(name="w", url="http://127.0.0.1:9/"))
    assert made.secret
    assert [each.name for each in client.webhooks()] == ["w"]
    client.remove_webhook("w")
    for refused in (
        lambda: client.preallocate(NewPreallocation(vm="vm-0", size_bytes=1)),  # nothing is staged here
        client.fabric,
        client.fabric_plan,
        client.apply_fabric,
        lambda: client.fabric_link("a:b"),
        lambda: client.group_statistics("t 1"),
        lambda: client.cancel_preallocation("none"),
    ):
        with pytest.raises(ApiError) as error:
            refused()
        assert error.value.status in (404, 409)


def test_policies(client: Client) -> None:
    before = client.policies()
    text = CEILING.format(name="half", ratio=0.5)
    assert client.check_policies(text).rules[0].name == "half"
    done = client.apply_policies(text, "try", base=before.number)
    assert (done.number, done.comment) == (before.number + 1, "try")
    with pytest.raises(ApiError, match="is in force") as error:
        client.apply_policies("", base=before.number)
    assert error.value.status == 412
    assert client.policy_versions()[0].number == done.number
    assert client.policy_version(done.number) == done


def test_a_replay_from_end_to_end(client: Client, served: tuple[str, str, Site], tmp_path: Path) -> None:
    trace = client.put_trace(served[2].folder / "trace.parquet", "mine")
    assert client.traces() == [trace]
    job = client.replay(NewReplay(trace=trace.name, policy="static"))
    assert client.wait(job.name).state == "done"
    assert json.loads(client.job_file(job.name, "summary.json"))
    assert client.job_file(job.name, "report.html").startswith(b"<!")
    assert client.cancel(job.name) == client.job(job.name), "it has ended"
    failing = client.replay(NewReplay(trace=trace.name, policy="nobody"))
    with pytest.raises(ApiError, match="nobody"):
        client.wait(failing.name)
    client.remove_trace(trace.name)


def test_events_go_on_where_they_were(client: Client) -> None:
    heard = list(islice(client.events(), 3))
    assert heard[0][1] == "reset"
    after = heard[1][0]
    assert next(iter(client.events(after))) == heard[2], "none is missed, none comes twice"


def test_lists_come_whole(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PART", 1)
    assert [vm.name for vm in client.vms()] == ["vm-0", "vm-1", "vm-2"]


def flaky(answers: list[Callable[[httpx.Request], httpx.Response]], seen: list[httpx.Request]) -> Client:
    """A client of something that answers so, one after the other."""

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answers.pop(0)(request)

    return Client("http://api", "t", transport=Transport("http://api", "t", below=httpx.MockTransport(answer)))


def lost(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("connection reset")


def busy(request: httpx.Request) -> httpx.Response:
    return httpx.Response(503, headers={"Retry-After": "1"}, json={"detail": "busy"})


def test_what_was_lost_is_asked_again_with_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(transport_module.time, "sleep", pauses.append)
    seen: list[httpx.Request] = []
    client = flaky([lost, busy, lambda request: httpx.Response(200, json={"resumed": ["a"]})], seen)
    assert client.resume("a").resumed == ["a"]
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 1
    assert len(seen) == 3
    assert pauses == [1.0, 1.0]
    for answer, word in ((lost, "connection reset"), (busy, "busy")):
        with pytest.raises(ApiError, match=word):
            flaky([answer] * 9, []).me()
    with pytest.raises(ApiError, match="answers 500"):
        flaky([lambda request: httpx.Response(500, text="<html>")], []).me()
    names: list[httpx.Request] = []
    flaky([lambda request: httpx.Response(200, json={"resumed": []})], names).resume("a/../b?c")
    assert names[0].url.raw_path == b"/api/v1/vms/a%2F..%2Fb%3Fc/resume"
    for address in ("api", "http://host:abc", "https://"):
        with pytest.raises(WrongUse, match="is no address"):
            Client(address, "t")
    for token in ("secret\n", "gehe\u00efm", ""):
        with pytest.raises(WrongUse) as wrong:
            Client("http://api", token)
        assert "secret" not in str(wrong.value)
    for text in ("<html>", '{"resumed": 7}', "[]"):
        with pytest.raises(ApiError, match=r"another|something else"):
            flaky([lambda request: httpx.Response(200, text=text)], []).resume("a")  # noqa: B023


def test_what_is_still_being_done_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module.time, "sleep", lambda seconds: None)

    def being_done(request: httpx.Request) -> httpx.Response:
        return httpx.Response(409, headers={"Retry-After": "2"}, json={"detail": "this is being done"})

    seen: list[httpx.Request] = []
    done = [lambda request: httpx.Response(200, json={"resumed": []})]
    assert flaky([lost, *[being_done] * 20, *done], seen).resume("a").resumed == []
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 1
    with pytest.raises(ApiError, match="taken"):
        flaky([lambda request: httpx.Response(409, json={"detail": "taken"})], []).resume("a")


@pytest.fixture
def there(served: tuple[str, str, Site], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Calls commands that ask that API, with a state folder that is not its."""
    (tmp_path / "token").write_text(f"{served[1]}\n")
    monkeypatch.setenv("FORESTALL_API", served[0])
    monkeypatch.setenv("FORESTALL_TOKEN_FILE", str(tmp_path / "token"))

    def call(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
        code = main([*words, "--state-folder", str(tmp_path / "none")])
        told = capsys.readouterr()
        return json.loads(told.out) if code == 0 and "--json" in words else (code, told.out + told.err)

    return call


def test_commands_ask_the_api_that_the_environment_names(
    there: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert there(capsys, "status", "--json")["vms"] == 3
    code, shown = there(capsys, "status")
    assert (code, "cycles" in shown) == (0, True)
    assert {row["vm_id"] for row in there(capsys, "vms", "--json")} == {"vm-0", "vm-1", "vm-2"}
    code, shown = there(capsys, "vms")
    assert (code, "vm-2" in shown) == (0, True)
    assert {each["resource"] for each in there(capsys, "explain", "vm-0", "--json")} == {"cpu", "memory"}
    code, shown = there(capsys, "explain", "vm-0")
    assert (code, "in force from" in shown) == (0, True)
    assert there(capsys, "restore", "vm-0", "--json")["left"] == []
    assert there(capsys, "restore", "--resume", "--json")["resumed"] == ["vm-0"]
    assert there(capsys, "trust-group", "create", "t2", "--json")[0]["group"] == "t2"
    assert there(capsys, "trust-group", "add", "t2", "vm-1", "--json")[0]["vms"] == ["vm-1"]
    assert there(capsys, "trust-group", "set-horizon", "t2", "5", "--json")[0]["horizon_seconds"] == 5.0
    assert there(capsys, "trust-group", "delete", "t2")[0] == 0
    draft = tmp_path / "draft.toml"
    draft.write_text(CEILING.format(name="remote", ratio=0.75))
    applied = there(capsys, "policy", "apply", str(draft), "--comment", "from afar", "--json")
    assert (applied["by"], applied["comment"]) == ("ops", "from afar")
    assert there(capsys, "policy", "versions", "--json")[-1]["number"] == applied["number"]
    assert there(capsys, "policy", "text") == (0, draft.read_text())
    code, said = there(capsys, "policy", "apply", str(draft), "--base", "0")
    assert (code, "is in force" in said) == (2, True)
    code, said = there(capsys, "guest", "busiest", "vm-0")
    assert (code, "ask on the host" in said) == (2, True)
    assert not (tmp_path / "none").exists(), "nothing is kept here"


def test_an_api_without_a_token_or_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transport_module.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("FORESTALL_API", "http://127.0.0.1:9")
    assert main(["status"]) == 2
    assert "no token" in capsys.readouterr().err
    monkeypatch.setenv("FORESTALL_TOKEN", "x")
    assert main(["status"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_client_lets_go(served: tuple[str, str, Site]) -> None:
    with closing(Client(*served[:2])) as client:
        assert client.hosts()
    with pytest.raises(RuntimeError):
        client.hosts()
