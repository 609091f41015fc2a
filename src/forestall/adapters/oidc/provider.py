"""A provider of identities over OpenID Connect: the code flow with PKCE, and signed identities.

Source: OpenID Connect Core 1.0, sections 3.1.2 and 3.1.3; Discovery 1.0; RFC 7636. Signatures and claims are checked by
joserfc. What comes back is believed only if it was signed by a key of the provider, for us, for this attempt, and is
still in time.
"""

from __future__ import annotations

import hashlib
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from forestall.model.errors import IdentityError
from forestall.ports.identity_provider import Attempt

WELL_KNOWN = "/.well-known/openid-configuration"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""With keys of which only the provider has the secret half."""
KNOWN_SECONDS, AGAIN_SECONDS, LEEWAY_SECONDS = 3_600.0, 60.0, 60
PATIENCE_SECONDS = 10.0
LONGEST_ANSWER = 1 << 20


class OidcProvider:
    """A provider, as it describes itself.

    Parameters
    ----------
    issuer
        Its address, as it stands in what it signs.
    client_id, client_secret
        As what it knows us; no secret: it knows us by where browsers come back to.
    scopes
        What is asked of it beside ``openid``.
    transport
        For tests.
    monotonic
        Tells seconds.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str = "",
        scopes: str = "profile email",
        transport: httpx.AsyncBaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer, self._client_id, self._client_secret = issuer, client_id, client_secret
        self._scope = f"openid {scopes}".strip()
        self._transport, self._monotonic = transport, monotonic
        self._about: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    async def address(self, attempt: Attempt, back: str) -> str:
        """As in the port."""
        about = await self._described()
        challenge = urlsafe_b64encode(hashlib.sha256(attempt.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": back,
            "scope": self._scope,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        there = about["authorization_endpoint"]
        return f"{there}{'&' if urlsplit(there).query else '?'}{urlencode(asked)}"

    async def claims(self, attempt: Attempt, code: str, back: str) -> Mapping[str, Any]:
        """As in the port."""
        about = await self._described()
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
        form["code_verifier"] = attempt.verifier
        methods = about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = None
        if self._client_secret and "client_secret_basic" in methods:
            basic = httpx.BasicAuth(self._client_id, self._client_secret)
        else:
            form["client_id"] = self._client_id
            form |= {"client_secret": self._client_secret} if self._client_secret else {}
        given = await self._json("POST", about["token_endpoint"], data=form, auth=basic)
        signed = given.get("id_token")
        if not isinstance(signed, str):
            raise IdentityError(f"{self._issuer}: gives no identity for the code")
        return await self._believed(signed, attempt)

    async def _believed(self, signed: str, attempt: Attempt) -> Mapping[str, Any]:
        """The claims of an identity, after all that it is to be checked by."""
        for again in (False, True):
            try:
                token = jwt.decode(signed, await self._known_keys(again), list(ALGORITHMS))
                break
            except (JoseError, ValueError) as error:
                if again or not self._may_look_again():
                    raise IdentityError(f"{self._issuer}: an identity is not signed by it: {error}") from error
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": attempt.nonce},
        )
        try:
            registry.validate(token.claims)
        except (JoseError, ValueError) as error:
            raise IdentityError(f"{self._issuer}: an identity is not for this: {error}") from error
        audience = token.claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and token.claims.get("azp") != self._client_id:
            raise IdentityError(f"{self._issuer}: an identity is for somebody else, too")
        return dict(token.claims)

    async def _described(self) -> dict[str, Any]:
        """What the provider says of itself; looked up again after an hour."""
        if self._about is not None and self._monotonic() - self._about[0] < KNOWN_SECONDS:
            return self._about[1]
        about = await self._json("GET", self._issuer.rstrip("/") + WELL_KNOWN)
        if about.get("issuer") != self._issuer:
            raise IdentityError(f"{self._issuer}: calls itself {str(about.get('issuer'))[:200]!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not isinstance(about.get(name), str) or not _is_safe(about[name]):
                raise IdentityError(f"{self._issuer}: its {name} is no address with https")
        self._about = self._monotonic(), about
        return about

    async def _known_keys(self, again: bool) -> KeySet:
        if self._keys is None or again or self._monotonic() - self._keys[0] > KNOWN_SECONDS:
            found = await self._json("GET", (await self._described())["jwks_uri"])
            try:
                self._keys = self._monotonic(), KeySet.import_key_set({"keys": found["keys"]})
            except (JoseError, ValueError, KeyError, TypeError) as error:
                raise IdentityError(f"{self._issuer}: its keys cannot be read: {error}") from error
        return self._keys[1]

    def _may_look_again(self) -> bool:
        """Keys change; but who shows us nonsense must not have us ask the provider each time."""
        return self._keys is None or self._monotonic() - self._keys[0] > AGAIN_SECONDS

    async def _json(self, method: str, address: str, **more: Any) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(
                transport=self._transport, timeout=PATIENCE_SECONDS, headers={"Accept": "application/json"}
            ) as client:
                answer = await client.request(method, address, **more)
            found = answer.json() if len(answer.content) <= LONGEST_ANSWER else None
        except (httpx.HTTPError, ValueError) as error:
            raise IdentityError(f"{address}: {str(error) or type(error).__name__}") from error
        if answer.status_code != 200 or not isinstance(found, dict):
            said = str(found.get("error", ""))[:200] if isinstance(found, dict) else ""
            raise IdentityError(f"{address}: answers with {answer.status_code} {said}".rstrip())
        return found


def _is_safe(address: str) -> bool:
    """Whether nobody on the way can read along: https, or this machine's own addresses."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))
