"""Why a connection failed, in words that tell no secret."""

from __future__ import annotations

import http.client
import ssl
import urllib.error

from vpt_edge.runtime.errors import VptError


def describe_loss(error: Exception) -> str:
    """Without what the other side was told, and without what it said."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        error = error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'failed'}"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"its answer is not HTTP ({type(error).__name__})"
    if isinstance(error, VptError):
        return error.problem
    strerror = getattr(error, "strerror", None)  # of an OSError
    return strerror or str(error) or type(error).__name__
