"""TLS between coordinator and islands, from files of certificates."""

import ssl
from pathlib import Path

from everyflop.base.errors import UsageError


def server_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return what a coordinator wraps its connections in; None without a certificate. Raises UsageError."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("--tls-cert and --tls-key go together: give both, or neither.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl's own errors are of this kind
        raise UsageError(f"{certificate} and {key} are no certificate and its key: {error}.") from None
    return context


def client_context(authority: Path | None) -> ssl.SSLContext | None:
    """Return what an island trusts a coordinator by; None without a certificate. Raises UsageError."""
    if authority is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(authority))
    except OSError as error:
        raise UsageError(f"{authority} holds no certificate to trust: {error}.") from None
