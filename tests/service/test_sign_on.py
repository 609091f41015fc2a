"""People sign in by a provider of identities: to a real one over HTTP and back, and by nobody who only claims to be."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import oidc_provider_mock
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from offices import Office
from test_pages import Browser

from forestall.adapters.files.audit_log import FileAuditLog
from forestall.adapters.oidc.provider import AGAIN_SECONDS, OidcProvider
from forestall.bootstrap.api import check_policy, keeping_of, sign_on_of
from forestall.cli import main
from forestall.model.errors import BadInput, IdentityError, WrongUse
from forestall.ports.identity_provider import Attempt
from forestall.ports.token_book import Role
from forestall.service.access.audit import chained
from forestall.service.access.people import PeopleRules, caller_of
from forestall.service.access.rates import Rates
from forestall.service.api.app import api, guarded
from forestall.service.configuration import Configuration, SignInConfiguration
from forestall.service.control import ask
from forestall.service.web.sign_on import SignOn

PEOPLE = {
    "1": {"preferred_username": "ann", "groups": ["staff", "cloud-admins"]},
    "2": {"preferred_username": "bob", "groups": "staff", "tenants": ["tenant-1"]},
    "3": {"preferred_username": "eve", "groups": ["visitors"]},
    "4": {"preferred_username": "x\ny", "groups": ["staff"]},
}
RULES = PeopleRules(
    "preferred_username", "groups", {Role.VIEWER: frozenset({"staff"}), Role.ADMIN: frozenset({"cloud-admins"})}
)


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """Address of a provider."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    users = [oidc_provider_mock.User(sub=sub, claims=dict(claims)) for sub, claims in PEOPLE.items()]
    with oidc_provider_mock.run_server_in_thread(user_claims=users, require_nonce=True) as server:
        yield f"http://localhost:{server.server_port}"


def office_with(state: Path, folder: Path, issuer: str, rules: PeopleRules = RULES) -> Office:
    lines: list[str] = []
    audit = FileAuditLog(folder, chained)
    sign_on = SignOn(OidcProvider(issuer, "forestall", "secret"), "Example", "http://api", rules, audit, lines.append)
    keeping = replace(keeping_of(folder, []), sign_on=sign_on)
    found = guarded(api(lambda request: ask(state, request), check_policy, list), keeping)
    return Office(found.tokens, audit, found)


@pytest.fixture
def sso(state: Path, tmp_path: Path, issuer: str) -> Office:
    """The pages of a daemon, with that provider."""
    return office_with(state, tmp_path, issuer)


def sent_to_the_provider(person: Browser, there: str = "%2F") -> str:
    assert 'href="/login/provider?next=/' in person.page(f"/login?next={there}")
    sent = person("GET", f"/login/provider?next={there}")
    assert sent.status_code == 303
    return sent.headers["location"]


def confirmed(address: str, sub: str) -> str:
    """Say at the provider who one is: path to which it sends the browser back."""
    found = httpx.post(address, data={"sub": sub}, follow_redirects=False)
    assert found.status_code == 302, found.text
    back = urlsplit(found.headers["location"])
    assert (back.scheme, back.netloc, back.path) == ("http", "api", "/login/back")
    return f"{back.path}?{back.query}"


def signed_in(person: Browser, sub: str, there: str = "%2F") -> httpx.Response:
    return person("GET", confirmed(sent_to_the_provider(person, there), sub))


def test_somebody_signs_in_with_the_role_of_their_groups(sso: Office) -> None:
    ann = Browser(sso.door)
    came = signed_in(ann, "1", "%2Fvms%3Fq%3Dvm")
    assert (came.status_code, came.headers["location"]) == (303, "/vms?q=vm")
    assert "oidc:ann, admin" in ann.page("/vms")
    assert ann("GET", "/api/v1/me").json() == {"name": "oidc:ann", "role": "admin", "groups": None}
    assert ann.cookies["forestall-attempt"] == ""
    ann.page("/audit")
    assert ("oidc:ann", "GET /login/back", "signed in") in sso.deeds()
    assert ann.submit("/vms/vm-3/resume").status_code == 303
    assert ("oidc:ann", "POST /vms/vm-3/resume", "303") in sso.deeds()
    kept = dict(ann.cookies)
    ann.submit("/logout")
    ann.cookies = kept
    assert ann("GET", "/").status_code == 303
    bob = Browser(sso.door)
    signed_in(bob, "2")
    assert bob("GET", "/api/v1/me").json()["role"] == "viewer"
    odd = Browser(sso.door)
    signed_in(odd, "4")
    assert odd("GET", "/api/v1/me").json()["name"] == "oidc:4", "a name that is none"


def test_who_has_no_role_does_not_come_in(sso: Office) -> None:
    eve = Browser(sso.door)
    assert signed_in(eve, "3").headers["location"] == "/login?why=nobody&next=%2F"
    assert "no group that may come in" in eve.page("/login?why=nobody")
    assert eve("GET", "/").status_code == 303
    assert ("", "GET /login/back", "401") in sso.deeds()


def test_trust_groups_are_those_that_the_provider_says(state: Path, tmp_path: Path, issuer: str) -> None:
    office = office_with(state, tmp_path, issuer, replace(RULES, trust_groups_claim="tenants"))
    bob, ann = Browser(office.door), Browser(office.door)
    signed_in(bob, "2")
    text = bob.page("/vms")
    assert "vm-1" in text
    assert "vm-2" not in text
    assert signed_in(ann, "1").headers["location"] == "/login?why=nobody&next=%2F", "an admin of nothing sees nothing"


def test_who_did_not_begin_here_does_not_come_in(sso: Office) -> None:
    """Login CSRF: an attacker's answer in the victim's browser; and answers that are old, or made up."""
    attacker, victim = Browser(sso.door), Browser(sso.door)
    answer = confirmed(sent_to_the_provider(attacker), "1")
    assert victim("GET", answer).headers["location"].startswith("/login?why=unknown")
    sent_to_the_provider(victim)
    assert victim("GET", answer).headers["location"].startswith("/login?why=unknown"), "the state is another's"
    mine = Browser(sso.door)
    answer = confirmed(sent_to_the_provider(mine), "1")
    kept = dict(mine.cookies)
    assert mine("GET", answer).headers["location"] == "/"
    again = Browser(sso.door, cookies=kept)
    assert again("GET", answer).headers["location"].startswith("/login?why=unknown"), "a code is good for once"
    for path in ("/login/back", "/login/back?state=&code=x", "/login/back?error=access_denied&state=x"):
        assert Browser(sso.door)("GET", path).headers["location"].startswith("/login?why=unknown")
    for cookie in ("e30=", "x", "bnVsbA==", "%"):
        broken = Browser(sso.door, cookies={"forestall-attempt": cookie})
        assert broken("GET", "/login/back?state=s&code=c").headers["location"].startswith("/login?why=unknown")
    denied = Browser(sso.door)
    state = parse_qs(urlsplit(sent_to_the_provider(denied)).query)["state"][0]
    back = denied("GET", f"/login/back?state={state}&error=access_denied")
    assert back.headers["location"].startswith("/login?why=unknown")
    assert all("forestall" not in each.cookies for each in (attacker, victim, again, denied))


def test_the_code_is_of_no_use_without_the_verifier_which_nobody_else_sees(sso: Office) -> None:
    ann = Browser(sso.door)
    address = sent_to_the_provider(ann)
    asked = parse_qs(urlsplit(address).query)
    kept = json.loads(urlsafe_b64decode(ann.cookies["forestall-attempt"]))
    assert asked["code_challenge_method"] == ["S256"]
    assert kept["verifier"] not in address
    assert asked["nonce"] == [kept["nonce"]]
    assert len(kept["verifier"]) >= 43


def test_attempts_have_an_end_and_nothing_is_changed_there(sso: Office) -> None:
    assert Browser(sso.door)("POST", "/login/provider", data={}).status_code == 405
    sso.door.signing = Rates(0.1, 2.0)
    answers = [Browser(sso.door)("GET", "/login/back").status_code for _ in range(3)]
    assert answers == [303, 303, 429]
    assert Browser(sso.door, place="198.51.100.7")("GET", "/login/back").status_code == 303


def test_a_provider_that_is_away_is_said_and_tokens_hold(state: Path, tmp_path: Path) -> None:
    office = office_with(state, tmp_path, "http://localhost:1")
    ann = Browser(office.door)
    assert ann("GET", "/login/provider").headers["location"] == "/login?why=away&next=%2F"
    assert "cannot be reached" in ann.page("/login?why=away")
    assert ann.sign_in(office.client(Role.VIEWER).token).headers["location"] == "/"


def test_without_a_provider_there_is_nothing(office: Office) -> None:
    assert "/login/provider" not in Browser(office.door).page("/login")
    assert Browser(office.door)("GET", "/login/provider").status_code == 404


KEY = RSAKey.generate_key(2_048, {"kid": "1"})
OTHER = RSAKey.generate_key(2_048, {"kid": "1"})
ATTEMPT = Attempt("state", "nonce", "v" * 43)
ISSUER = "https://id.example"


class Wire:
    """A provider on the wire, whose answers are what a test says."""

    def __init__(self) -> None:
        self.key, self.signed, self.asked = KEY, "", list[str]()
        self.about: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize?tenant=1",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
        }
        self.form: dict[str, list[str]] = {}
        self.authorization = ""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if request.url.path == "/keys":
            return httpx.Response(200, json={"keys": [self.key.as_dict(private=False)]})
        if request.url.path == "/token":
            self.form = parse_qs(request.content.decode())
            self.authorization = request.headers.get("authorization", "")
            return httpx.Response(200, json={"id_token": self.signed, "access_token": "x"})
        return httpx.Response(200, json=self.about)


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    said = {"iss": ISSUER, "aud": "forestall", "sub": "1", "exp": now + 300, "iat": now, "nonce": "nonce", **more}
    return {name: value for name, value in said.items() if value is not None}


def signed(said: dict[str, Any], key: Any = KEY, algorithm: str = "RS256") -> str:
    return jwt.encode({"alg": algorithm, "kid": "1"}, said, key, algorithms=[algorithm])


def believed(wire: Wire, **more: Any) -> Any:
    provider = OidcProvider(ISSUER, "forestall", transport=httpx.MockTransport(wire), **more)
    return asyncio.run(provider.claims(ATTEMPT, "code", "https://host/login/back"))


def test_what_is_signed_for_this_attempt_is_believed() -> None:
    wire = Wire()
    wire.signed = signed(claims(aud=["forestall"]))
    assert believed(wire)["sub"] == "1"
    assert wire.form["code_verifier"] == ["v" * 43]
    assert wire.form["client_id"] == ["forestall"]
    assert believed(wire, client_secret="s&1")["sub"] == "1"
    assert wire.authorization.startswith("Basic ")
    wire.about["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    believed(wire, client_secret="s&1")
    assert wire.form["client_secret"] == ["s&1"]
    wire.signed = signed(claims(aud=["forestall", "other"], azp="forestall"))
    assert believed(wire)["sub"] == "1"


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://evil"}, {"aud": "other"}, {"aud": ["forestall", "other"]}, {"aud": None}, {"nonce": "another"},
        {"nonce": None}, {"sub": None}, {"exp": 1_000}, {"exp": None}, {"iat": None},
        {"aud": ["forestall", "other"], "azp": "other"},
    ],
)  # fmt: skip
def test_what_is_not_for_this_attempt_is_not_believed(wrong: dict[str, Any]) -> None:
    wire = Wire()
    wire.signed = signed(claims(**wrong))
    with pytest.raises(IdentityError):
        believed(wire)


def _encoded(text: bytes) -> str:
    return urlsafe_b64encode(text).rstrip(b"=").decode()


def test_what_the_provider_has_not_signed_is_not_believed() -> None:
    wire = Wire()
    head, body, _ = signed(claims()).split(".")
    confused = _encoded(b'{"alg":"HS256","kid":"1"}') + f".{body}"
    mac = hmac.new(KEY.as_pem(private=False), confused.encode(), hashlib.sha256).digest()
    unsigned = _encoded(b'{"alg":"none"}') + f".{body}."
    for forged in (signed(claims(), OTHER), f"{confused}.{_encoded(mac)}", unsigned, f"{head}.{body}.", "a.b.c", ""):
        wire.signed = forged
        with pytest.raises(IdentityError):
            believed(wire)


def test_keys_that_were_changed_are_looked_up_again_but_not_each_time() -> None:
    wire, now = Wire(), [0.0]
    provider = OidcProvider(ISSUER, "forestall", transport=httpx.MockTransport(wire), monotonic=lambda: now[0])

    def asked() -> Any:
        return asyncio.run(provider.claims(ATTEMPT, "code", "https://host/login/back"))

    wire.signed = signed(claims())
    asked()
    wire.key, wire.signed = OTHER, signed(claims(), OTHER)
    for _ in range(3):
        with pytest.raises(IdentityError):
            asked()
    assert wire.asked.count("/keys") == 1, "nonsense does not have the provider asked each time"
    now[0] += AGAIN_SECONDS + 1.0
    assert asked()["sub"] == "1"
    assert wire.asked.count("/keys") == 2
    assert wire.asked.count("/.well-known/openid-configuration") == 1


@pytest.mark.parametrize(
    "about",
    [{"issuer": "https://evil"}, {"token_endpoint": "http://id.example/token"}, {"jwks_uri": None}, {"jwks_uri": 1}],
)
def test_a_provider_that_describes_itself_wrongly_is_not_asked(about: dict[str, Any]) -> None:
    wire = Wire()
    wire.about |= about
    provider = OidcProvider(ISSUER, "forestall", transport=httpx.MockTransport(wire))
    with pytest.raises(IdentityError):
        asyncio.run(provider.address(ATTEMPT, "https://host/login/back"))


def test_an_address_with_parameters_keeps_them() -> None:
    provider = OidcProvider(ISSUER, "forestall", transport=httpx.MockTransport(Wire()))
    address = asyncio.run(provider.address(ATTEMPT, "https://host/login/back"))
    assert parse_qs(urlsplit(address).query)["tenant"] == ["1"]


def test_roles_of_groups() -> None:
    said = {"iss": ISSUER, "sub": "1", "preferred_username": "ann", "groups": ["staff", 1, None, "cloud-admins"]}
    ann = caller_of(said, RULES)
    assert (ann.name, ann.role, ann.groups) == ("oidc:ann", Role.ADMIN, None)
    assert caller_of({**said, "sub": "2"}, RULES).handle != ann.handle
    assert caller_of({**said, "iss": "https://other"}, RULES).handle != ann.handle
    for groups in (None, [], {}, "cloud", 7, ["CLOUD-ADMINS"]):
        with pytest.raises(WrongUse, match="no group"):
            caller_of({**said, "groups": groups}, RULES)


def test_settings_of_a_provider(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "secret"
    settings = SignInConfiguration(
        "https://id.example", client_secret_file=secret, address="https://host", admins=("cloud-admins",)
    )
    with pytest.raises(BadInput, match="cannot be read"):
        sign_on_of(replace(Configuration(), sign_in=settings, state_folder=tmp_path))
    secret.write_text("hush\n")
    found = sign_on_of(replace(Configuration(), sign_in=settings, state_folder=tmp_path))
    assert found is not None
    assert found.back == "https://host/login/back"
    assert found.rules.roles[Role.ADMIN] == {"cloud-admins"}
    assert sign_on_of(Configuration()) is None
    file = tmp_path / "forestall.toml"
    for text, said in (
        ('issuer = "http://id.example"', "must be as 'https://id.example.org'"),
        ('issuer = "https://u:p@id.example"', "must be as"),
        ('issuer = "https://id.example"', "issuer needs address"),
        ('issuer = "https://id.example"\naddress = "https://host"', "viewers, operators or admins"),
    ):
        file.write_text(f"[sign_in]\n{text}\n")
        assert main(["config", "check", str(file)]) == 2
        assert said in capsys.readouterr().err
