"""Sends frames to the centre over one connection that is kept."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import httpx

from forestall.adapters.https.contexts import Identity, client_context, why
from forestall.adapters.pki.authority import ends_at
from forestall.model.errors import CentreAway, FrameRefused

PATH = "/api/v1/vectors"
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
KEPT_SECONDS = 60.0
"""An idle connection is kept for so long: less than the centre keeps it, more than lies between two frames."""
CONTENT_TYPE = "application/vnd.forestall.vectors"


class Uplink:
    """The line to the centre.

    Parameters
    ----------
    url
        Of the centre: ``https://HOST:PORT``.
    identity
        Who we are, and whom we believe.
    """

    def __init__(self, url: str, identity: Identity) -> None:
        self._url, self._identity = url.rstrip("/") + PATH, identity
        self._client: httpx.Client | None = None

    def send(self, body: bytes) -> None:
        """Send a frame; it is with the centre, durably, on return.

        Raises
        ------
        CentreAway
            It may not be there.
        FrameRefused
            It is not there, and sending it again is of no use.
        """
        try:
            if self._client is None:
                self._client = httpx.Client(
                    verify=client_context(self._identity),
                    timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
                    limits=httpx.Limits(max_connections=1, keepalive_expiry=KEPT_SECONDS),
                    trust_env=False,
                )
            answer = self._client.post(self._url, content=body, headers={"content-type": CONTENT_TYPE})
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            self.close()
            raise CentreAway(f"{self._url}: {self._reason(error)}") from error
        if answer.status_code in (400, 413, 422):
            raise FrameRefused(f"{self._url}: {answer.text[:200]}")
        if answer.status_code != 200:
            self.close()
            raise CentreAway(f"{self._url}: answered {answer.status_code}: {answer.text[:200]}")

    def _reason(self, error: Exception) -> str:
        """Why nothing came of it. A door that stays shut says nothing: that is also how a certificate is refused."""
        if isinstance(error, httpx.RemoteProtocolError):
            end = ends_at(self._identity.certificate)
            ours = f"our certificate ended at {end:%Y-%m-%d %H:%M} UTC" if end < datetime.now(UTC) else ""
            return f"hung up without an answer: {ours or 'perhaps our certificate is not believed'}"
        return _cause(error)

    def close(self) -> None:
        """Hang up; the next frame makes a new connection, with the certificate as it is then."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _cause(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    while not isinstance(cause, ssl.SSLError) and (cause.__cause__ or cause.__context__):
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    return why(cause) if isinstance(cause, OSError) else str(error) or type(error).__name__
