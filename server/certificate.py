"""TLS: the certificate of the server, from its files."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from vpt_edge.runtime.errors import VptError


class Certificate(NamedTuple):
    """Two files: the certificate with those that signed it, and its key, both as PEM."""

    chain: Path
    key: Path


def open_certificate(certificate: Certificate) -> ssl.SSLContext:
    """What a server needs to speak TLS 1.2 and 1.3. Raises VptError where the files do not fit."""
    for path in certificate:
        try:
            path.read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise VptError(f"cannot read {path}: {reason}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate.chain, certificate.key, password=_refuse_password)
    except (ssl.SSLError, EncryptedKeyError) as error:
        raise VptError(_describe(error, certificate)) from None
    return context


class EncryptedKeyError(ValueError):
    """The key asks for a password, and nobody is there to give it."""


def _refuse_password() -> str:
    raise EncryptedKeyError


def _describe(error: Exception, certificate: Certificate) -> str:
    if isinstance(error, EncryptedKeyError):
        return f"the key in {certificate.key} has a password, expected one without"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {certificate.key} is not that of {certificate.chain}"
    return f"{certificate.chain} and {certificate.key} are not a certificate and its key in PEM"
