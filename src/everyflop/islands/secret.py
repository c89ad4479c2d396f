"""The secret that coordinator and islands share."""

import os
import secrets
from pathlib import Path

from everyflop.base.errors import UsageError

VARIABLE = "EVERYFLOP_SECRET"
FEWEST_BYTES = 16


def new_secret() -> str:
    """Return a secret for processes of one machine."""
    return secrets.token_hex(32)


def read_secret(path: Path | None, *, needed: bool) -> bytes:
    """Return the secret in a file, else in the environment; empty where none is given and none is needed.

    Raises UsageError for a missing or a short one.
    """
    try:
        secret = path.read_bytes().strip() if path is not None else os.environ.get(VARIABLE, "").strip().encode()
    except OSError as error:
        raise UsageError(f"the secret cannot be read: {error}.") from None
    if needed and not secret:
        raise UsageError(
            "other machines can reach this address, and there is no secret: anybody could join the run. Write one with "
            f"`openssl rand -hex 32 > secret.txt`, give --secret secret.txt everywhere, or set {VARIABLE}."
        )
    if secret and len(secret) < FEWEST_BYTES:
        raise UsageError(f"the secret has {len(secret)} bytes; it needs {FEWEST_BYTES} at least.")
    return secret
