"""A certificate authority in a folder: for the hosts of one installation, and for nobody else; RFC 5280.

::

    ca.pem, ca.key          the authority (the key never leaves this folder)
    crl.pem                 what was revoked
    issued/NAME.pem, .key   the newest certificate of each name, to be copied to where it is used
    issued/serials          every certificate that was issued: serial, name, end
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from forestall.model.errors import BadInput, StoreError, WrongUse

CA_DAYS, USUAL_DAYS = 3_650, 90
BACKDATED = timedelta(minutes=5)
"""Clocks differ: a certificate holds a little before it was made."""
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")


class Issued(NamedTuple):
    """A certificate that was issued: its serial number, to whom, until when, and whether it was revoked."""

    serial: int
    name: str
    ends_at: datetime
    revoked: bool


class Authority:
    """The authority of a folder.

    Raises
    ------
    BadInput
        There is none in the folder, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
            key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        except OSError as error:
            raise BadInput(f"no authority there ({error.strerror}): forestall pki init", path=folder) from error
        except ValueError as error:
            raise BadInput(f"a damaged authority: {error}", path=folder) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BadInput("the authority's key is none of ours", path=folder)
        self._key = key

    @classmethod
    def make(cls, folder: Path, name: str, now: datetime) -> Authority:
        """Make an authority in a folder that has none; it holds for ten years."""
        if (folder / "ca.pem").exists() or (folder / "ca.key").exists():
            raise WrongUse(f"{folder} has an authority already")
        _made(folder / "issued")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _begun(subject, subject, key.public_key(), now, now + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_key(folder / "ca.key", key)
        _write(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        authority = cls(folder)
        authority._write_revoked((), now)
        return authority

    def issue(self, name: str, now: datetime, *, days: int = USUAL_DAYS, addresses: Sequence[str] = ()) -> Path:
        """Issue a certificate for a host or for the centre, and its key; the path of the certificate.

        Parameters
        ----------
        name
            Who it is: as a host it may speak for itself only.
        addresses
            Names and addresses that others reach it by, if it serves.
        """
        if not NAME.fullmatch(name):
            raise WrongUse(f"{name!r} is no name of a host: letters, digits, dots and hyphens")
        if not 1 <= days <= CA_DAYS:
            raise WrongUse(f"a certificate holds for 1 to {CA_DAYS} days, not {days}")
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if addresses else [])]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        end = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            _begun(subject, self._certificate.subject, key.public_key(), now, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if addresses:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, addresses))), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        issued = self._folder / "issued"
        with (issued / "serials").open("a", encoding="ascii") as file:
            file.write(f"{certificate.serial_number:x} {name} {int(end.timestamp())}\n")
        _write_key(issued / f"{name}.key", key)
        _write(issued / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return issued / f"{name}.pem"

    def revoke(self, name: str, now: datetime) -> int:
        """Revoke every certificate of a name that still holds; how many."""
        chosen = [issued for issued in self.issued() if issued.name == name and not issued.revoked]
        if not chosen:
            raise WrongUse(f"no certificate of {name!r} is to be revoked")
        kept = [(r.serial_number, r.revocation_date_utc) for r in self._revoked()]
        self._write_revoked([*kept, *((issued.serial, now) for issued in chosen)], now)
        return len(chosen)

    def issued(self) -> list[Issued]:
        """Every certificate that was issued, in order."""
        revoked = {r.serial_number for r in self._revoked()}
        try:
            lines = (self._folder / "issued" / "serials").read_text("ascii").splitlines()
        except FileNotFoundError:
            return []
        result = []
        for line in lines:
            serial, name, end = line.split()
            number = int(serial, 16)
            result.append(Issued(number, name, datetime.fromtimestamp(int(end), UTC), number in revoked))
        return result

    def _revoked(self) -> list[x509.RevokedCertificate]:
        try:
            return list(x509.load_pem_x509_crl((self._folder / "crl.pem").read_bytes()))
        except (OSError, ValueError) as error:
            raise BadInput(f"the list of what was revoked cannot be read: {error}", path=self._folder) from error

    def _write_revoked(self, revoked: Iterable[tuple[int, datetime]], now: datetime) -> None:
        """Write the list; it holds as long as the authority, for whoever has an old one must not be shut out."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - BACKDATED)
            .next_update(self._certificate.not_valid_after_utc)
        )
        for serial, at in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
            builder = builder.add_revoked_certificate(entry)
        content = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        _write(self._folder / "crl.pem", content, 0o644)


def ends_at(certificate: Path) -> datetime:
    """Until when a certificate holds.

    Raises
    ------
    BadInput
        It cannot be read.
    """
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise BadInput(f"is no certificate: {error}", path=certificate) from error


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - BACKDATED,
        not_valid_after=end,
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general(address: str) -> x509.GeneralName:
    """A name or an address of a server."""
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        if not NAME.fullmatch(address):
            raise WrongUse(f"{address!r} is neither an address nor a name of a host") from None
        return x509.DNSName(address)


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror}") from error


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, content, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file aside, readable by whom it is meant for from the beginning, and rename it."""
    aside = path.with_name(f".{path.name}.tmp")
    try:
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(aside, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
